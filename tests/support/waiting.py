"""Waiting for conditions, with a deadline and without fixed sleeps."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def busy() -> float:
    """Return by how much a bound on wall time must grow: runnable threads for each core, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def eventually(check: Callable[[], Awaitable[T]], what: str = "the condition", *, timeout_s: float = 60) -> T:
    """Wait until `check` gives something true, and return that; its last value is shown if it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = await check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s; last: {value!r}")
        await asyncio.sleep(0.02)
