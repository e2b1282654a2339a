"""What the link's tests share: the machines, and the test device behind ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from typing import TYPE_CHECKING

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from pathlib import Path

SEMIHOSTING = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
QEMU = {
    "m4": ["qemu-system-arm", "-M", "mps2-an386"],
    "rv32": ["qemu-system-riscv32", "-M", "virt", "-cpu", "sifive-e31", "-m", "128M", "-bios", "none"],
    "stm32": ["qemu-system-arm", "-M", "netduinoplus2"],
    "hifive1": ["qemu-system-riscv32", "-M", "sifive_e"],
}
GATEWAY_PRIVATE = b"\x7a" * 32


def run_on(kind: str, program: str, folder: Path, *, icount: bool = False) -> str:
    """Runs a test program on the host or a machine, in a folder; what it said. Fails when it fails."""
    build(BUILD / kind / program)
    path = str(BUILD / kind / program)
    command = [path]
    if kind in QEMU:
        command = [*QEMU[kind], *SEMIHOSTING, *(["-icount", "shift=0"] if icount else []), "-kernel", path]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{program} on {kind}: {done.stdout}{done.stderr}"
    return done.stdout


COUNTERS = (
    "frames_in", "frames_out", "bad_frames", "replays", "forged", "handshakes", "refused", "rekeys", "requests",
    "bad_requests", "lost",
)  # fmt: skip
NOTES = ("ups", "losses", "deliveries", "accepted", "resets", "identity_stores", "sensor_samples")


class Shim(ctypes.CDLL):
    """tests/link/shim.c with its types."""

    def __init__(self) -> None:
        build(BUILD / "unit" / "liblinkshim.so")
        super().__init__(str(BUILD / "unit" / "liblinkshim.so"))
        self.shim_new.restype = ctypes.c_void_p
        for name in ("shim_free", "shim_boot", "shim_cut_seed", "shim_input", "shim_output", "shim_poll", "shim_up"):
            getattr(self, name).argtypes = None
        self.shim_seed.restype = ctypes.POINTER(ctypes.c_uint8)
        self.shim_identity.restype = ctypes.POINTER(ctypes.c_uint8)
        for name in ("shim_output", "shim_input", "shim_poll", "shim_count", "shim_note", "shim_frames", "shim_encode"):
            getattr(self, name).restype = ctypes.c_uint32


class Device:
    """The real link of the firmware with the test device's application part; time is given by the caller."""

    def __init__(self, shim: Shim, number: int = 0) -> None:
        self._shim = shim
        self._handle = ctypes.c_void_p(shim.shim_new(number))
        self._room = ctypes.create_string_buffer(4096)

    def close(self) -> None:
        """Frees it."""
        self._shim.shim_free(self._handle)

    def boot(self, now_ms: int) -> bool:
        """Power on; False when the seed could not be advanced."""
        return bool(self._shim.shim_boot(self._handle, ctypes.c_uint32(now_ms)))

    def cut_seed_write_after(self, count: int) -> None:
        """The power fails when so many bytes more were programmed."""
        self._shim.shim_cut_seed(self._handle, ctypes.c_uint32(count))

    def seed(self, slot: int) -> bytearray:
        """A copy of a seed record."""
        return bytearray(self._shim.shim_seed(self._handle, slot)[:44])

    def set_seed(self, slot: int, record: bytes) -> None:
        """Overwrites a seed record."""
        ctypes.memmove(self._shim.shim_seed(self._handle, slot), record, 44)

    def identity(self, at: int, count: int) -> bytes:
        """Bytes of struct wb_identity."""
        return bytes(self._shim.shim_identity(self._handle)[at : at + count])

    def set_identity(self, at: int, data: bytes) -> None:
        """Overwrites bytes of struct wb_identity."""
        pointer = ctypes.cast(self._shim.shim_identity(self._handle), ctypes.c_void_p).value or 0
        ctypes.memmove(pointer + at, data, len(data))

    def input(self, data: bytes, now_ms: int) -> int:
        """Give received bytes; how many were taken."""
        return int(self._shim.shim_input(self._handle, data, len(data), ctypes.c_uint32(now_ms)))

    def output(self, room: int, now_ms: int) -> bytes:
        """Take bytes to send."""
        count = self._shim.shim_output(self._handle, self._room, min(room, 4096), ctypes.c_uint32(now_ms))
        return self._room.raw[:count]

    def poll(self, now_ms: int) -> int:
        """Do what is due; milliseconds to the next time."""
        return int(self._shim.shim_poll(self._handle, ctypes.c_uint32(now_ms)))

    @property
    def up(self) -> bool:
        """There is a session."""
        return bool(self._shim.shim_up(self._handle))

    def count(self, name: str) -> int:
        """A counter of the link."""
        return int(self._shim.shim_count(self._handle, COUNTERS.index(name)))

    def noted(self, name: str) -> int:
        """A count of the test device."""
        return int(self._shim.shim_note(self._handle, NOTES.index(name)))

    def time(self, now_ms: int) -> tuple[int, int, int] | None:
        """Unix time in us, age in ms, error in us."""
        unix, age, error = ctypes.c_int64(), ctypes.c_uint32(), ctypes.c_uint32()
        there = self._shim.shim_time(
            self._handle, ctypes.c_uint32(now_ms), ctypes.byref(unix), ctypes.byref(age), ctypes.byref(error)
        )
        return (unix.value, age.value, error.value) if there else None
