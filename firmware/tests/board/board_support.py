"""Runs a board's image in QEMU, with its serial port on a UNIX socket and its flash in a file."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BOARDS = ("stm32", "hifive1")
CLASS = {"stm32": "mcu", "hifive1": "riscv"}
MACHINE = {
    "stm32": ("qemu-system-arm", "-M", "netduinoplus2"),
    "hifive1": ("qemu-system-riscv32", "-M", "sifive_e"),
}
# Generous: eight other things may run on two cores.
DEADLINE_S = 120.0
POWER_CUT = 42


class Board:
    """A running board. `with` ends QEMU; `lines` and `command` speak to the exerciser."""

    def __init__(self, board: str, flash: Path, *, icount: str = "shift=4") -> None:
        self.board = board
        self.flash = flash
        self._socket_path = flash.with_suffix(".sock")
        self._socket_path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *MACHINE[board],
                *("-display", "none", "-monitor", "none", "-nodefaults"),
                *("-chardev", f"socket,id=link,path={self._socket_path},server=on,wait=on", "-serial", "chardev:link"),
                *("-kernel", str(flash)),
                *("-semihosting-config", f"enable=on,target=native,arg={flash.name}"),
                *("-qmp", f"unix:{flash.with_suffix('.qmp')},server=on,wait=off"),
                *("-icount", icount),
            ],
            cwd=flash.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.socket = self._connect(self._socket_path)
        self.socket.settimeout(DEADLINE_S)
        self._received = b""

    def _connect(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            link = socket.socket(socket.AF_UNIX)
            try:
                link.connect(str(path))
            except OSError:
                link.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    output = self.process.stdout.read().decode() if self.process.stdout else ""
                    raise RuntimeError(f"QEMU did not start: {output}") from None
                time.sleep(0.01)
            else:
                return link

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def line(self) -> str:
        """The next line the board writes."""
        while b"\n" not in self._received:
            self._more()
        line, self._received = self._received.split(b"\n", 1)
        return line.decode()

    def some(self) -> bytes:
        """What the board wrote next, at least a byte."""
        if not self._received:
            self._more()
        data, self._received = self._received, b""
        return data

    def _more(self) -> None:
        data = self.socket.recv(4096)
        if not data:
            raise EOFError("the board stopped")
        self._received += data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def command(self, text: str) -> str:
        self.send(text.encode() + b"\n")
        return self.line()

    def values(self, text: str) -> dict[str, int]:
        """The answer `name=hex name=hex` as numbers."""
        return {name: int(value, 16) for name, value in re.findall(r"(\w+)=([0-9a-f]{8})", self.command(text))}

    def exit_code(self) -> int:
        """Waits until the machine ends by itself."""
        return self.process.wait(DEADLINE_S)

    def qmp(self, command: str) -> None:
        """One command of the QEMU host."""
        link = self._connect(self.flash.with_suffix(".qmp"))
        with link, link.makefile("rw") as stream:
            stream.readline()
            for name in ("qmp_capabilities", command):
                stream.write(json.dumps({"execute": name}) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    if "error" in answer:
                        raise RuntimeError(f"{name}: {answer['error']}")
