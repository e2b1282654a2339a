"""The microcontrollers' interpreter with all host functions of ABI 1 in Python, on a clock of its own.

What `docs/abi.md` says of mcu is kept: small messages and state, a queue of 8 events, the RAM and stack of a board.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType
from wasmbed.tools.pack import BOARDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.tools.pack import Board

HIFIVE1 = next(board for board in BOARDS if board.name == "hifive1")
OK, TRAP_MEMORY, TRAP_HOST = 0, 15, 23
TOKENS = 8
# A tenth of a second of a Cortex-M4 at 168 MHz, at its measured 8.7 instructions for each of 8 bytes of code.
FUEL = 15_000_000
_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "F"}
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))


class ModuleFailedError(Exception):
    """The module was refused, trapped or returned a negative value."""


@dataclass(frozen=True)
class Sensor:
    """What `sensor.info` tells."""

    kind: int
    name: str
    values: int = 1
    max_bytes: int = 64


def sample(kind: int, *values: float, time_ns: int = 0, wide: bool = False) -> bytes:
    """A SENSOR event's data of f32 (or f64) values."""
    data = struct.pack(f"<{len(values)}{'d' if wide else 'f'}", *values)
    style = abi.SampleFormat.F64 if wide else abi.SampleFormat.F32
    return abi.SAMPLE.pack(time_ns, kind, len(values), 0, 0, style, len(data)) + data


def result(status: int, detail: bytes = b"") -> bytes:
    """A RESULT event's data."""
    return struct.pack("<i", status) + detail


@dataclass
class Host:
    """What the world around an instance gives and takes; tests change it while the instance runs."""

    env: dict[str, str] = field(default_factory=dict)
    sensors: list[Sensor] = field(default_factory=list)
    routes: tuple[str, ...] = ()
    state: bytes | None = None
    device: str = "default/board"
    # What becomes of a message to the cloud: a status as the RESULT, None for no RESULT, or an error at once.
    secure: Callable[[bytes], int | None] = lambda _message: 0
    secure_refuses: Code | None = None
    vehicle: Any = None
    # Whether an autopilot is behind the device.
    px4: bool = True


class Desk:
    """One instance in the interpreter."""

    def __init__(self, library: Path, wasm: bytes, host: Host, *, board: Board = HIFIVE1) -> None:
        self.host = host
        self.now_ns = 1_000_000_000
        self.realtime_ns = 1_700_000_000_000_000_000
        self.logs: list[tuple[int, str]] = []
        self.sent: list[bytes] = []
        self.messages: list[tuple[str, bytes]] = []
        self.published: list[tuple[str, bytes]] = []
        self.subscriptions: dict[tuple[str, int], int] = {}
        self.handed_over: bytes | None = None
        self.lost = 0
        self.most_fuel = 0
        self._timers: dict[int, tuple[int, int]] = {}
        self._queue: deque[tuple[int, int, bytes]] = deque()
        self._later: list[tuple[int, int, int, int, bytes]] = []
        self._order = itertools.count()
        self._tokens = itertools.count(1)
        self._topics: list[str] = []
        self._unanswered: set[int] = set()
        self._event: bytes | None = None
        self._inside = ""
        self._failure: BaseException | None = None
        self._lib = ctypes.CDLL(str(library))
        self._lib.desk_new.restype = ctypes.c_void_p
        self._lib.desk_guest.restype = ctypes.c_void_p
        self._lib.desk_error.restype = ctypes.c_char_p
        self._callback = _CALLBACK(self._dispatch)
        self._desk = ctypes.c_void_p(self._lib.desk_new(self._callback))
        self._functions = [function for function in abi.FUNCTIONS.values() if function.module != abi.WASI]
        self._strings = []
        for function in self._functions:
            signature = "".join(_LETTERS[t] for t in function.type.params) + ":"
            signature += "".join(_LETTERS[t] for t in function.type.results)
            strings = [text.encode() for text in (function.module, function.name, signature)]
            self._strings.append(strings)
            assert self._lib.desk_define(self._desk, *strings) == 0
        self._check(self._lib.desk_load(self._desk, wasm, len(wasm), board.flash_bytes), loading=True)
        self.flash_bytes = int(self._lib.desk_flash_bytes(self._desk))
        self.ram_bytes = int(self._lib.desk_ram_needed(self._desk))
        self._check(self._lib.desk_start(self._desk, board.ram_bytes, board.stack_bytes))

    def close(self) -> None:
        self._lib.desk_free(self._desk)

    def _check(self, status: int, *, loading: bool = False) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if status != OK:
            reason = self._lib.desk_error(self._desk, int(loading)) or b""
            raise ModuleFailedError(f"status {status}: {reason.decode()}")

    def _call(self, name: str, *arguments: int) -> int:
        words = (ctypes.c_uint64 * max(1, len(arguments)))(*(a & 0xFFFF_FFFF for a in arguments))
        value = ctypes.c_int32(0)
        self._inside = name
        try:
            status = self._lib.desk_call(self._desk, name.encode(), words, len(arguments), FUEL, ctypes.byref(value))
            self.most_fuel = max(self.most_fuel, FUEL - int(self._lib.desk_fuel_left(self._desk)))
            self._check(status)
        finally:
            self._inside = ""
        return value.value

    # ---- what a test does -------------------------------------------------------------------------------------

    def start(self) -> None:
        if (value := self._call(abi.INIT)) != 0:
            raise ModuleFailedError(f"wasmbed_init returned {value}")
        self._run_queue()

    def event(self, kind: int, source: int, data: bytes = b"") -> None:
        """Deliver an event now, and after it what it brought about."""
        assert len(data) <= 512, "more than the queue of a microcontroller takes"
        self._queue.append((kind, source, data))
        self._run_queue()

    def _run_queue(self) -> None:
        while self._queue:
            kind, source, data = self._queue.popleft()
            self._event = data
            if kind == EventType.RESULT:
                self._unanswered.discard(source)
            value = self._call(abi.EVENT, kind, source, len(data))
            self._event = None
            if value < 0:
                raise ModuleFailedError(f"wasmbed_event returned {value}")

    def later(self, delay_s: float, kind: int, source: int, data: bytes) -> None:
        """Deliver an event after a time."""
        at = self.now_ns + int(delay_s * 1e9)
        heapq.heappush(self._later, (at, next(self._order), kind, source, data))

    def advance(self, seconds: float) -> None:
        """Let time pass, with the timers and events that fall into it."""
        end = self.now_ns + round(seconds * 1e9)
        while True:
            timer = min(self._timers, key=lambda number: self._timers[number][0], default=None)
            timer_at = self._timers[timer][0] if timer is not None else end + 1
            later_at = self._later[0][0] if self._later else end + 1
            if min(timer_at, later_at) > end:
                break
            self._pass_to(min(timer_at, later_at))
            if later_at <= timer_at:
                _, _, kind, source, data = heapq.heappop(self._later)
                self.event(kind, source, data)
            elif timer is not None:
                due, period = self._timers[timer]
                if period:
                    self._timers[timer] = (due + period, period)
                else:
                    del self._timers[timer]
                self.event(EventType.TIMER, timer, struct.pack("<I", 0))
        self._pass_to(end)

    def _pass_to(self, now_ns: int) -> None:
        self.realtime_ns += max(0, now_ns - self.now_ns)
        self.now_ns = max(self.now_ns, now_ns)

    def save(self) -> bytes | None:
        """The state for the next version."""
        self.handed_over = None
        return self.handed_over if self._call(abi.SAVE) >= 0 else None

    def stop(self) -> None:
        self._call(abi.STOP)

    def text(self) -> str:
        return "\n".join(text for _, text in self.logs)

    @property
    def stack_used(self) -> int:
        return int(self._lib.desk_stack_used(self._desk))

    # ---- the host functions -----------------------------------------------------------------------------------

    def _dispatch(self, number: int, cells: Any) -> int:
        function = self._functions[number]
        arguments: list[Any] = []
        at = 0
        for kind in function.type.params:
            low = cells[at]
            if kind == "i32":
                arguments.append(low - (1 << 32) if low >> 31 else low)
            else:
                raw = struct.pack("<II", low, cells[at + 1])
                arguments.append(struct.unpack("<q" if kind == "i64" else "<d", raw)[0])
            at += 1 if kind in ("i32", "f32") else 2
        try:
            handler = getattr(self, f"_{function.module.removeprefix('wasmbed:')}_{function.name}")
            value = handler(*arguments)
        except MemoryError:
            return TRAP_MEMORY
        except BaseException as error:
            self._failure = error
            return TRAP_HOST
        if function.type.results:
            cells[0] = int(value) & 0xFFFF_FFFF
            if function.type.results[0] == "i64":
                cells[1] = (int(value) >> 32) & 0xFFFF_FFFF
        return OK

    def _at(self, pointer: int, length: int) -> int:
        address = self._lib.desk_guest(self._desk, ctypes.c_uint32(pointer & 0xFFFF_FFFF), ctypes.c_uint32(length))
        if not address:
            raise MemoryError
        return int(address)

    def _get(self, pointer: int, length: int) -> bytes:
        return ctypes.string_at(self._at(pointer, length), length)

    def _put(self, pointer: int, capacity: int, data: bytes) -> int:
        address = self._at(pointer, capacity)
        if len(data) > capacity:
            return Code.TOOBIG
        ctypes.memmove(address, data, len(data))
        return len(data)

    def _sys_log(self, level: int, pointer: int, length: int) -> None:
        self.logs.append((level, self._get(pointer, length).decode()))

    def _sys_clock_monotonic_ns(self) -> int:
        return self.now_ns

    def _sys_clock_realtime_ns(self) -> int:
        return self.realtime_ns

    def _sys_random(self, pointer: int, length: int) -> int:
        return self._put(pointer, length, bytes(range(1, length + 1)))

    def _sys_device_name(self, pointer: int, capacity: int) -> int:
        return self._put(pointer, capacity, self.host.device.encode())

    def _sys_env(self, name: int, length: int, pointer: int, capacity: int) -> int:
        self._at(pointer, capacity)
        value = self.host.env.get(self._get(name, length).decode())
        return Code.NOTFOUND if value is None else self._put(pointer, capacity, value.encode())

    def _sys_timer_set(self, timer: int, first_ms: int, period_ms: int) -> int:
        for value in (first_ms, period_ms):
            if value != 0 and not abi.TIMER_MIN_MS <= value <= abi.TIMER_MAX_MS:
                return Code.INVALID
        if not 0 <= timer < abi.TIMERS:
            return Code.INVALID
        self._timers.pop(timer, None)
        if first_ms or period_ms:
            self._timers[timer] = (self.now_ns + (first_ms or period_ms) * 1_000_000, period_ms * 1_000_000)
        return 0

    def _sys_subscribe(self, pointer: int, length: int) -> int:
        topic = self._get(pointer, length).decode()
        if topic not in self._topics:
            self._topics.append(topic)
        return self._topics.index(topic)

    def _sys_send(self, topic: int, topic_length: int, data: int, length: int) -> int:
        if length > abi.SMALL_MESSAGE_MAX:
            return Code.TOOBIG
        self.messages.append((self._get(topic, topic_length).decode(), self._get(data, length)))
        return 0

    def _sys_event_read(self, offset: int, pointer: int, capacity: int) -> int:
        if self._event is None:
            return Code.NOTFOUND
        if not 0 <= offset <= len(self._event):
            return Code.INVALID
        data = self._event[offset : offset + capacity]
        self._at(pointer, capacity)
        return self._put(pointer, capacity, data)

    def _sys_dropped(self) -> int:
        lost, self.lost = self.lost, 0
        return lost

    def _sys_state_put(self, pointer: int, length: int) -> int:
        if self._inside != abi.SAVE:
            return Code.DENIED
        if length > abi.SMALL_STATE_MAX:
            return Code.TOOBIG
        self.handed_over = self._get(pointer, length)
        return 0

    def _sys_state_get(self, pointer: int, capacity: int) -> int:
        if self._inside != abi.INIT:
            return Code.DENIED
        return Code.NOTFOUND if self.host.state is None else self._put(pointer, capacity, self.host.state)

    def _sensor_count(self) -> int:
        return len(self.host.sensors)

    def _sensor_info(self, index: int, pointer: int, capacity: int) -> int:
        if not 0 <= index < len(self.host.sensors):
            return Code.NOTFOUND
        one = self.host.sensors[index]
        info = abi.SENSOR_INFO.pack(one.kind, one.values, 1000, one.max_bytes, one.name.encode())
        return self._put(pointer, capacity, info)

    def _sensor_subscribe(self, index: int, interval_ms: int) -> int:
        self.subscriptions["sensor", index] = interval_ms
        return 0

    def _ros2_open(self, pointer: int, length: int) -> int:
        alias = self._get(pointer, length).decode()
        return self.host.routes.index(alias) if alias in self.host.routes else Code.NOTFOUND

    def _ros2_publish(self, handle: int, pointer: int, length: int) -> int:
        if length > abi.SMALL_MESSAGE_MAX:
            return Code.TOOBIG
        self.published.append((self.host.routes[handle], self._get(pointer, length)))
        return 0

    def _secure_send(self, pointer: int, length: int) -> int:
        if length > abi.SMALL_MESSAGE_MAX:
            return Code.TOOBIG
        message = self._get(pointer, length)
        if self.host.secure_refuses is not None:
            return self.host.secure_refuses
        if len(self._unanswered) == TOKENS:
            return Code.AGAIN
        self.sent.append(message)
        return self._token(self.host.secure(message))

    def _token(self, status: int | None, detail: bytes = b"") -> int:
        if len(self._unanswered) == TOKENS:
            return Code.AGAIN
        token = next(self._tokens)
        self._unanswered.add(token)
        if status is not None:
            self._queue.append((EventType.RESULT, token, result(status, detail)))
        return token

    def _px4_acquire(self) -> int:
        return int(self.host.vehicle.acquire())

    def _px4_release(self) -> int:
        return int(self.host.vehicle.release())

    def _px4_subscribe(self, kind: int, interval_ms: int) -> int:
        if not self.host.px4:
            return Code.UNAVAILABLE
        self.subscriptions["px4", kind] = interval_ms
        return 0

    def _px4_read(self, kind: int, pointer: int, capacity: int) -> int:
        record = self.host.vehicle.record(kind)
        return Code.AGAIN if record is None else self._put(pointer, capacity, record)

    def _px4_command(self, pointer: int) -> int:
        outcome = self.host.vehicle.command(abi.COMMAND.unpack(self._get(pointer, abi.COMMAND.size)))
        return outcome[0] if outcome[0] is not None and outcome[0] < 0 and outcome[1] is None else self._token(*outcome)

    def _px4_mission(self, pointer: int, count: int) -> int:
        raw = self._get(pointer, count * abi.WAYPOINT.size)
        return self._token(self.host.vehicle.upload(list(abi.WAYPOINT.iter_unpack(raw))))
