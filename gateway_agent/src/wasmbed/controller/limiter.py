"""A token bucket, so that writes in bulk leave the API server time for others."""

from __future__ import annotations

import asyncio


class RateLimiter:
    """At most `burst` at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled = 0.0

    async def wait(self) -> None:
        """Wait for the next turn."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        # Negative tokens are turns that were given out and lie in the future.
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._per_second)
