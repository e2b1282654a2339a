"""A device's machine by QEMU's monitor (QMP): reset, and reset when the device gives no sign of life."""

from __future__ import annotations

import asyncio
import contextlib
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
# How often silence is measured, as a share of what is allowed.
TICKS: Final = 20
RUNNING: Final = "running"


class MachineError(Exception):
    """The monitor cannot be reached or refused; the message says what to look at."""


async def reset(socket: Path, *, held_too: bool = True) -> str:
    """Press a machine's reset button; one that does not run (a debugger, QMP's `stop`) only with `held_too`.

    Return the state it was in, of QMP's RunState: "running", "paused". Raises MachineError.
    """
    client = QMPClient("wasmbed")
    try:
        async with asyncio.timeout(MONITOR_TIMEOUT_S):
            await client.connect(str(socket))
            status = await client.execute("query-status")
            state = str(status["status"]) if isinstance(status, dict) else RUNNING
            if held_too or state == RUNNING:
                await client.execute("system_reset")
            return state
    except (QMPError, OSError, EOFError, TimeoutError) as error:
        raise MachineError(
            f"{socket}: {str(error) or 'no answer'}; look at systemctl status wasmbed-qemu@{socket.parent.name}"
        ) from error
    finally:
        # Raises what ended the connection, such as QEMU's end; what came of the command is known without it.
        with contextlib.suppress(QMPError, OSError, EOFError):
            await client.disconnect()


class Silence:
    """When a device that says nothing is reset: after limit_s, then after twice as long, up to 32 times.

    Time counts in ticks, each for at most two: a host that was suspended, or too busy to listen, heard nobody.
    """

    def __init__(self, limit_s: float, now: float) -> None:
        self.tick_s = limit_s / TICKS
        self._limit_s = limit_s
        self._factor = 1
        self._heard_at: float | None = None
        self._at = now
        self.silent_s = 0.0

    def due(self, heard_at: float | None, now: float) -> bool:
        """Whether a reset is due, asked every tick_s; heard_at is None while the machine is not there."""
        passed_s, self._at = min(now - self._at, 2 * self.tick_s), now
        if heard_at is None or heard_at != self._heard_at:
            self._heard_at = heard_at
            self._factor = 1
            self.silent_s = 0.0
        else:
            self.silent_s += passed_s
        return self.silent_s >= self._limit_s * self._factor

    def was_reset(self) -> None:
        """Take note of a reset."""
        self._factor = min(self._factor * 2, LONGEST_PAUSE_FACTOR)
        self.silent_s = 0.0

    def was_held(self) -> None:
        """Take note that the machine does not run, so that it cannot speak."""
        self.silent_s = 0.0


async def watch_silence(
    name: str, socket: Path, limit_s: float, heard_at: Callable[[], float | None], on_reset: Callable[[], None]
) -> None:
    """Reset the machine whenever the device was silent for too long, until cancelled.

    heard_at gives when it said something last, or was started; None while it is not there. A machine that is held is
    left alone.
    """
    silence = Silence(limit_s, time.monotonic())
    while True:
        await asyncio.sleep(silence.tick_s)
        if not silence.due(heard_at(), time.monotonic()):
            continue
        try:
            state = await reset(socket, held_too=False)
        except MachineError as error:
            log.error(
                "no sign of life, machine not reset device=%s silent_s=%.0f error=%s", name, silence.silent_s, error
            )
            silence.was_reset()
            continue
        if state == RUNNING:
            log.error(
                "no sign of life, machine reset device=%s silent_s=%.0f limit_s=%g", name, silence.silent_s, limit_s
            )
            on_reset()
            silence.was_reset()
        else:
            log.warning("no sign of life of a machine that is held device=%s state=%s", name, state)
            silence.was_held()
