"""`wasmbed:sys`: logs, clocks, timers, messages, the event in hand and the state for the next version."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code
from wasmbed.runtime.messages import TooManyTopicsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.host.context import Context

# What must not reach a log: control characters but tab.
PRINTABLE: Final = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�")


class LogGate:
    """Lets so many lines a second through, with a burst as large, and counts the others."""

    def __init__(self, lines_per_s: float, *, now: float = 0.0) -> None:
        self._rate = lines_per_s
        self._tokens = lines_per_s
        self._at = now
        self._dropped = 0

    def admit(self, now: float) -> int | None:
        """Return how many lines were dropped since the last admitted one, or None when this one is dropped too."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            self._dropped += 1
            return None
        self._tokens -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped


class SysFunctions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = context.memory
        self._device = context.request.device.encode()
        self._env = {name.encode(): value.encode() for name, value in context.request.env.items()}
        self._message_max = abi.message_max(context.request.device_class)
        self._state_max = abi.state_max(context.request.device_class)
        self._gate = LogGate(abi.FUNCTIONS[abi.SYS, "log"].rate_per_s, now=time.monotonic())

    def handlers(self) -> dict[str, Callable[..., int | None]]:
        return {
            "log": self._log,
            "clock_monotonic_ns": time.monotonic_ns,
            "clock_realtime_ns": time.time_ns,
            "random": self._random,
            "device_name": self._device_name,
            "env": self._get_env,
            "timer_set": self._timer_set,
            "subscribe": self._subscribe,
            "send": self._send,
            "event_read": self._event_read,
            "dropped": self._context.inbox.take_dropped,
            "state_put": self._state_put,
            "state_get": self._state_get,
        }

    def log_line(self, level: int, text: bytes) -> None:
        """Log a line unless there were too many."""
        dropped = self._gate.admit(time.monotonic())
        if dropped is not None:
            shown = text[: abi.LOG_MAX].decode("utf-8", "replace").translate(PRINTABLE)
            self._context.on_log(max(0, min(4, level)), shown, dropped)

    def _log(self, level: int, pointer: int, length: int) -> None:
        self._memory.at(pointer, length)
        self.log_line(level, self._memory.get(pointer, min(length, abi.LOG_MAX)))

    def _random(self, pointer: int, length: int) -> int:
        self._memory.at(pointer, length)
        if length > abi.RANDOM_MAX:
            return Code.INVALID
        return self._memory.put(pointer, length, os.urandom(length))

    def _device_name(self, pointer: int, capacity: int) -> int:
        return self._memory.put(pointer, capacity, self._device)

    def _get_env(self, name: int, name_length: int, pointer: int, capacity: int) -> int:
        self._memory.at(name, name_length)
        self._memory.at(pointer, capacity)
        value = self._env.get(self._memory.get(name, name_length)) if name_length <= abi.ENV_NAME_MAX else None
        return Code.NOTFOUND if value is None else self._memory.put(pointer, capacity, value)

    def _timer_set(self, timer: int, first_ms: int, period_ms: int) -> int:
        if not 0 <= timer < abi.TIMERS:
            return Code.INVALID
        if any(time_ms and not abi.TIMER_MIN_MS <= time_ms <= abi.TIMER_MAX_MS for time_ms in (first_ms, period_ms)):
            return Code.INVALID
        self._context.inbox.set_timer(timer, first_ms, period_ms)
        return 0

    def _topic(self, pointer: int, length: int) -> bytes | None:
        self._memory.at(pointer, length)
        return self._memory.get(pointer, length) if 0 < length <= abi.TOPIC_MAX else None

    def _subscribe(self, topic: int, topic_length: int) -> int:
        name = self._topic(topic, topic_length)
        if name is None:
            return Code.INVALID
        try:
            return self._context.exchange.subscribe(self._context.reader, name)
        except TooManyTopicsError:
            return Code.TOOBIG

    def _send(self, topic: int, topic_length: int, data: int, length: int) -> int:
        self._memory.at(data, length)
        name = self._topic(topic, topic_length)
        if name is None:
            return Code.INVALID
        if length > self._message_max:
            return Code.TOOBIG
        return self._context.exchange.send(self._context.reader, name, self._memory.get(data, length))

    def _event_read(self, offset: int, pointer: int, capacity: int) -> int:
        place = self._memory.at(pointer, capacity)
        context = self._context
        if context.phase != "event":
            return Code.NOTFOUND
        data = context.event_data
        if not 0 <= offset <= len(data):
            return Code.INVALID
        return self._memory.write(place, data[offset : offset + capacity])

    def _state_put(self, pointer: int, length: int) -> int:
        self._memory.at(pointer, length)
        if self._context.phase != "save":
            return Code.DENIED
        if length > self._state_max:
            return Code.TOOBIG
        self._context.state_out = self._memory.get(pointer, length)
        return 0

    def _state_get(self, pointer: int, capacity: int) -> int:
        self._memory.at(pointer, capacity)
        if self._context.phase != "init":
            return Code.DENIED
        state = self._context.state_in
        return Code.NOTFOUND if state is None else self._memory.put(pointer, capacity, state)
