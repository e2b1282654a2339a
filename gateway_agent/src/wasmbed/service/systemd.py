"""The service manager's side: readiness, status and watchdog by sd_notify(3)."""

import asyncio
import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send `state` (such as `READY=1`, `STATUS=...`, `WATCHDOG=1`) to the service manager; nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(1.0)
        # A manager that does not read must not end the service; the watchdog tells it anyway.
        with contextlib.suppress(OSError):
            # An address that begins with @ is in the abstract name space (unix(7)).
            channel.connect("\0" + address[1:] if address[0] == "@" else address)
            channel.send(state.encode())


def watchdog_interval_s() -> float | None:
    """Seconds between two keep-alives: half of WATCHDOG_USEC (sd_watchdog_enabled(3)); None when none is asked."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None


async def watchdog() -> None:
    """Send keep-alives until cancelled; being a task of the loop, it stops when the loop hangs."""
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
