"""A device's machine by QEMU's monitor (QMP): reset, and reset when the device gives no sign of life."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

MONITOR_TIMEOUT_S: Final = 5.0
LONGEST_PAUSE_FACTOR: Final = 32


class MachineError(Exception):
    """The monitor cannot be reached or refused; the message says what to look at."""


async def reset(socket: Path) -> None:
    """Press a machine's reset button; raises MachineError."""
    client = QMPClient("wasmbed")
    try:
        async with asyncio.timeout(MONITOR_TIMEOUT_S):
            await client.connect(str(socket))
            await client.execute("system_reset")
    except (QMPError, OSError, TimeoutError) as error:
        raise MachineError(
            f"{socket}: {error or 'no answer'}; look at systemctl status wasmbed-qemu@{socket.parent.name}"
        ) from error
    finally:
        await client.disconnect()


class Silence:
    """When a device that says nothing is reset: after limit_s, then after twice as long, up to 32 times."""

    def __init__(self, limit_s: float, now: float) -> None:
        self._limit_s = limit_s
        self._factor = 1
        self._reset_at = now

    def due_s(self, heard_at: float, now: float) -> float:
        """Seconds until a reset is due, 0 when it is."""
        if heard_at > self._reset_at:
            self._factor = 1
        return max(0.0, max(heard_at, self._reset_at) + self._limit_s * self._factor - now)

    def was_reset(self, now: float) -> None:
        """Take note of a reset."""
        self._factor = min(self._factor * 2, LONGEST_PAUSE_FACTOR)
        self._reset_at = now


async def watch_silence(
    name: str, socket: Path, limit_s: float, heard_at: Callable[[], float], on_reset: Callable[[], None]
) -> None:
    """Reset the machine whenever the device was silent for too long, until cancelled."""
    silence = Silence(limit_s, time.monotonic())
    while True:
        if due_s := silence.due_s(heard_at(), time.monotonic()):
            await asyncio.sleep(due_s)
            continue
        log.error("no sign of life, resetting the machine device=%s limit_s=%g", name, limit_s)
        try:
            await reset(socket)
            on_reset()
        except MachineError as error:
            log.error("machine not reset device=%s error=%s", name, error)
        silence.was_reset(time.monotonic())
