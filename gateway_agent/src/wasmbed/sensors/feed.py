"""One sensor: a thread that reads it while somebody wants it, at the shortest interval anybody asked for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.abi import SAMPLE, SAMPLE_MAX
from wasmbed.sensors.providers import Camera, provider_of
from wasmbed.sensors.sample import SensorError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from wasmbed.sensors.config import SensorConfig
    from wasmbed.sensors.providers import Provider

log = logging.getLogger(__name__)

RETRY_S: Final = 10.0
# Without a sample for so many intervals, and at least so many seconds, a sensor does not answer.
STALE_INTERVALS: Final = 5
STALE_S: Final = 10.0


class Feed:
    """Made and used on the loop; `on_sample` and `on_state` are called there."""

    def __init__(
        self,
        config: SensorConfig,
        loop: asyncio.AbstractEventLoop,
        on_sample: Callable[[bytes], None],
        on_state: Callable[[], None],
    ) -> None:
        self.config = config
        self.problem = "not read yet"
        self.samples = self.failures = 0
        self.max_bytes = SAMPLE_MAX if config.provider == "camera" else SAMPLE.size + 8 * max(1, config.values)
        self._loop = loop
        self._on_sample, self._on_state = on_sample, on_state
        self._wake = threading.Event()
        self._interval_s: float | None = None
        self._end = False
        self._posted = False
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"sensor-{config.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end; one that hangs in the kernel ends with the process."""
        self._end = True
        self._wake.set()

    def want(self, interval_s: float | None) -> None:
        """Read every so many seconds from now on, None: not at all."""
        if interval_s is not None:
            interval_s = max(interval_s, self.config.interval_ms / 1000)
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._heard = time.monotonic()
            self._wake.set()

    def check(self) -> None:
        """See whether a sensor that is read still answers; on the loop, now and then."""
        interval_s = self._interval_s
        if interval_s is not None and not self.problem:
            limit_s = max(STALE_S, STALE_INTERVALS * interval_s)
            if time.monotonic() - self._heard > limit_s:
                self._state(f"no sample for {limit_s:g} s: reading it hangs")

    # On the thread

    def _run(self) -> None:
        while not self._end:
            try:
                provider = provider_of(self.config, lambda: self._end)
            except SensorError as error:
                self._failed(error)
                continue
            try:
                if isinstance(provider, Camera):
                    self.max_bytes = provider.max_bytes
                else:
                    provider.read()
                self._tell(self._state, "")
                self._serve(provider)
            except SensorError as error:
                self._failed(error)
            except Exception as error:  # a fault of ours is this sensor's alone
                log.exception("sensor failed name=%s", self.config.name)
                self._failed(SensorError(repr(error)))
            finally:
                provider.close()

    def _serve(self, provider: Provider) -> None:
        due = time.monotonic()
        while not self._end:
            interval_s = self._interval_s
            if interval_s is None:
                self._wake.wait()
                self._wake.clear()
                due = time.monotonic()
                continue
            wait_s = due - time.monotonic()
            if wait_s > 0 and self._wake.wait(wait_s):
                self._wake.clear()
                due = min(due, time.monotonic() + (self._interval_s or 0.0))
                continue
            data = provider.read()
            if data is None:
                return
            due = max(due + interval_s, time.monotonic())
            # One sample at a time on its way: a loop that is late gets the newest, not a queue.
            if not self._posted:
                self._posted = True
                self._tell(self._sample, data)

    def _failed(self, error: SensorError) -> None:
        self._tell(self._state, str(error))
        deadline = time.monotonic() + RETRY_S
        while not self._end and (left := deadline - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the loop

    def _sample(self, data: bytes) -> None:
        self._posted = False
        self._heard = time.monotonic()
        self.samples += 1
        if self.problem:
            self._state("")
        if not self._end:
            self._on_sample(data)

    def _state(self, problem: str) -> None:
        if problem:
            self.failures += 1
        if problem == self.problem or self._end:
            return
        if problem:
            log.warning("sensor unavailable name=%s error=%s", self.config.name, problem)
        else:
            log.info("sensor works name=%s", self.config.name)
        self.problem = problem
        self._heard = time.monotonic()
        self._on_state()
