"""`wasmbed:sensor`: the sensors of the device, their newest samples, and samples as events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.host.context import Context
    from wasmbed.runtime.protocol import Sensor

MODULE: Final = "sensor"
_NAME_BYTES: Final = 19


class SensorFunctions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = context.memory

    def handlers(self) -> dict[str, Callable[..., int]]:
        return {"count": self._count, "info": self._info, "read": self._read, "subscribe": self._subscribe}

    def _sensors(self) -> tuple[Sensor, ...]:
        provision = self._context.backends.of(self._context.request.device)
        return provision.sensors if MODULE in provision.available else ()

    def _count(self) -> int:
        return len(self._sensors())

    def _info(self, index: int, pointer: int, capacity: int) -> int:
        self._memory.at(pointer, capacity)
        sensors = self._sensors()
        if not 0 <= index < len(sensors):
            return Code.NOTFOUND
        sensor = sensors[index]
        name = sensor.name.encode()[:_NAME_BYTES].decode("utf-8", "ignore").encode()
        data = abi.SENSOR_INFO.pack(sensor.kind, sensor.values, sensor.rate_millihz, sensor.max_bytes, name)
        return self._memory.put(pointer, capacity, data)

    def _read(self, index: int, pointer: int, capacity: int) -> int:
        self._memory.at(pointer, capacity)
        refusal = self._refusal(index)
        if refusal:
            return refusal
        newest = self._context.feeds.newest(EventType.SENSOR, index)
        if newest is not None:
            return self._memory.put(pointer, capacity, newest)
        if not self._context.calls.stands(MODULE, "watch", index):
            self._context.calls.stand(MODULE, "watch", index, index)
        return Code.AGAIN

    def _subscribe(self, index: int, interval_ms: int) -> int:
        if not -1 <= interval_ms <= abi.INTERVAL_MAX_MS:
            return Code.INVALID
        refusal = self._refusal(index)
        if refusal:
            return refusal
        context = self._context
        if interval_ms < 0:
            context.calls.drop_standing(MODULE, "subscribe", index)
            context.feeds.subscribe(EventType.SENSOR, index, interval_ms)
            return context.calls.tell(MODULE, "subscribe", index, interval_ms)
        result = context.calls.stand(MODULE, "subscribe", index, index, interval_ms)
        if result == 0:
            context.feeds.subscribe(EventType.SENSOR, index, interval_ms)
        return result

    def _refusal(self, index: int) -> int:
        if not self._context.available(MODULE):
            return Code.UNAVAILABLE
        return 0 if 0 <= index < len(self._sensors()) else Code.NOTFOUND
