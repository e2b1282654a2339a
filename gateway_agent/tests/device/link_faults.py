"""A TCP proxy in a thread that cuts, delays, slows and swallows, and modules that show what was lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from gateway_site import wat

# Logs `COUNT ` and a number of eight hexadecimal digits, one more each time, ten times a second.
_COUNTING = """
(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (data (i32.const 0) "COUNT ")
  (data (i32.const 64) "0123456789abcdef")
  (func $say (local $at i32) (local $rest i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (local.set $rest (global.get $count))
    (local.set $at (i32.const 13))
    (loop $digits
      (i32.store8 (local.get $at) (i32.load8_u (i32.add (i32.const 64) (i32.and (local.get $rest) (i32.const 15)))))
      (local.set $rest (i32.shr_u (local.get $rest) (i32.const 4)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digits (i32.ge_u (local.get $at) (i32.const 6))))
    (call $log (i32.const 2) (i32.const 0) (i32.const 14)))
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32) (call $timer (i32.const 0) (i32.const 100) (i32.const 100)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32) (call $say) (i32.const 0)))
"""


def counting() -> bytes:
    """A module that counts in its log."""
    return wat(_COUNTING)


def failing_soon() -> bytes:
    """A module that traps a moment after its start."""
    return wat(_COUNTING.replace("(call $say) (i32.const 0)))", "(unreachable)))"))


def padded(size: int) -> bytes:
    """The counting module with a custom section that makes it `size` bytes larger."""
    name = b"padding"
    # Of another content each time, so that nobody has it already.
    body = bytes([len(name)]) + name + time.time_ns().to_bytes(8, "big") + bytes(size - 8)
    length, rest = bytearray(), len(body)
    while rest > 0x7F:
        length.append(0x80 | rest & 0x7F)
        rest >>= 7
    length.append(rest)
    return counting() + b"\x00" + bytes(length) + body


class ThreadedProxy:
    """Forwards to a port of the loopback address; what it does may be changed at any time from another thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._silent = False
        self._bytes_per_s = 0
        self._delay_s = 0.0
        self.forwarded = 0
        self.port = 0
        self.open()

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Lose all connections and refuse new ones."""
        if self._listener is not None:
            # Only this wakes the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """Lose all connections; new ones are welcome."""
        for item in list(self._sockets):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)

    def silence(self, on: bool) -> None:
        """Keep connections and forward nothing."""
        self._silent = on

    def slow(self, bytes_per_s: int) -> None:
        """Forward so much a second in each direction; 0: without a limit."""
        self._bytes_per_s = bytes_per_s

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long."""
        self._delay_s = seconds

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(16384):
                if self._silent:
                    continue
                pause = self._delay_s + (len(data) / self._bytes_per_s if self._bytes_per_s else 0.0)
                if pause:
                    time.sleep(pause)
                sink.sendall(data)
                self.forwarded += len(data)
        except OSError:
            pass
        for item in (source, sink):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            self._sockets.discard(item)
