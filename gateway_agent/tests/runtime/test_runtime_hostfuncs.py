"""Every host function on every class, called from WebAssembly with good, bad and hostile arguments."""

from __future__ import annotations

import math
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from host_bench import KEY, NAMES, SENSORS, HostBench, World, compile_to, every_function, function
from wasmbed.runtime import Provision, Secret, abi, sealing
from wasmbed.runtime.abi import Code, EventType, Telemetry
from wasmbed.runtime.deliveries import take_deliveries, take_delivery
from wasmbed.runtime.faults import Fault
from wasmbed.runtime.profiles import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wasmbed.runtime.watchdog import Watchdog

# What the arguments point at: a name at 0, text at 16, records at 128 and 256; results go to 4096.
OUT = 4096
MEMORY = {
    0: b"RATE",
    8: b"odom",
    16: b"a\0b\nc\xffd\tA\xc3\xa9",
    32: b"MPC_XY_VEL",
    128: abi.COMMAND.pack(400, 0, 1, 0, 0, 0, 0, 0, 0),
    256: abi.SETPOINT.pack(1, *[math.nan] * 8, 0, 0),
    512: abi.SETPOINT.pack(9, *[0] * 8, 0, 0),
    640: abi.SETPOINT.pack(1, math.inf, *[0] * 7, 0, 0),
}
TOKEN = range(1, 1 << 31)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_to(tmp_path_factory.mktemp("all") / "all.cwasm", every_function())


@pytest.fixture
def make(tmp_path: Path, watchdog: Watchdog, artifact: Path) -> Iterator[Callable[..., HostBench]]:
    """Make a bench in a world where nothing is there yet."""
    benches: list[HostBench] = []

    def bench(device_class: str = "gateway", **changes: Any) -> HostBench:
        bench = HostBench(World(tmp_path, device_class, **changes), watchdog, artifact)
        benches.append(bench)
        for at, data in MEMORY.items():
            bench.write(at, data)
        return bench

    yield bench
    for each in benches:
        each.close()


@pytest.fixture(params=CLASSES)
def bench(request: pytest.FixtureRequest, make: Callable[..., HostBench]) -> HostBench:
    """A bench of each class where everything is there."""
    bench = make(request.param)
    bench.world.provide_all()
    return bench


# Function, arguments, result: a number, a range, or a bound that differs for small classes.
GOOD: list[tuple[str, tuple[float, ...], int | range]] = [
    ("sys.log", (2, 16, 5), 0),
    ("sys.clock_monotonic_ns", (), range(1, 1 << 62)),
    ("sys.clock_realtime_ns", (), range(1, 1 << 62)),
    ("sys.random", (OUT, 256), 256),
    ("sys.random", (65536, 0), 0),
    ("sys.device_name", (OUT, 64), 9),
    ("sys.env", (0, 4, OUT, 2), 2),
    ("sys.timer_set", (15, 10, 86_400_000), 0),
    ("sys.timer_set", (0, 0, 0), 0),
    ("sys.timer_set", (0, 0, 50), 0),
    ("sys.subscribe", (0, 4), 0),
    ("sys.send", (0, 4, 16, 3), 0),
    ("sys.event_read", (0, OUT, 16), 0),
    ("sys.dropped", (), 0),
    ("px4.acquire", (), 0),
    ("px4.release", (), 0),
    ("px4.subscribe", (1, 0), 0),
    ("px4.subscribe", (8, -1), 0),
    ("px4.read", (1, OUT, 64), Code.AGAIN),
    ("px4.command", (128,), TOKEN),
    ("px4.setpoint", (256,), 0),
    ("px4.offboard", (1,), TOKEN),
    ("px4.param_get", (32, 10), TOKEN),
    ("px4.param_set", (32, 10, 1.5), TOKEN),
    ("px4.mission", (0, 0), TOKEN),
    ("px4.mission", (2048, 256), TOKEN),
    ("ros2.open", (8, 4), 0),
    ("ros2.close", (1,), 0),
    ("ros2.publish", (0, 16, 256), 0),
    ("ros2.call", (1, 16, 0), TOKEN),
    ("ros2.respond", (0, 1 << 40, -5, 16, 4), 0),
    ("ros2.feedback", (0, 7, 16, 4), 0),
    ("ros2.cancel", (1, 7), 0),
    ("sensor.count", (), len(SENSORS)),
    ("sensor.info", (0, OUT, 32), 32),
    ("sensor.read", (1, OUT, 8192), Code.AGAIN),
    ("sensor.subscribe", (0, 100), 0),
    ("secure.seal", (16, 11, OUT, 1024), range(11 + 16, 11 + abi.ENVELOPE_MAX)),
    ("secure.send", (16, 256), TOKEN),
]
BAD: list[tuple[str, tuple[float, ...], int]] = [
    ("sys.random", (0, 257), Code.INVALID),
    ("sys.device_name", (OUT, 3), Code.TOOBIG),
    ("sys.env", (16, 4, OUT, 10), Code.NOTFOUND),
    ("sys.env", (0, 300, OUT, 10), Code.NOTFOUND),
    ("sys.env", (0, 4, OUT, 1), Code.TOOBIG),
    ("sys.timer_set", (16, 100, 100), Code.INVALID),
    ("sys.timer_set", (-1, 100, 100), Code.INVALID),
    ("sys.timer_set", (0, 9, 0), Code.INVALID),
    ("sys.timer_set", (0, 10, 86_400_001), Code.INVALID),
    ("sys.timer_set", (0, -10, 10), Code.INVALID),
    ("sys.subscribe", (0, 65), Code.INVALID),
    ("sys.subscribe", (0, 0), Code.INVALID),
    ("sys.send", (0, 0, 0, 1), Code.INVALID),
    ("sys.send", (0, 65, 0, 1), Code.INVALID),
    ("sys.send", (0, 4, 0, 4097), Code.TOOBIG),
    ("sys.event_read", (1, OUT, 16), Code.INVALID),
    ("sys.event_read", (-1, OUT, 16), Code.INVALID),
    ("sys.state_put", (0, 4), Code.DENIED),
    ("sys.state_get", (OUT, 4), Code.DENIED),
    ("px4.subscribe", (0, 0), Code.INVALID),
    ("px4.subscribe", (9, 0), Code.INVALID),
    ("px4.subscribe", (1, -2), Code.INVALID),
    ("px4.read", (99, OUT, 64), Code.INVALID),
    ("px4.setpoint", (512,), Code.INVALID),
    ("px4.setpoint", (640,), Code.INVALID),
    ("px4.offboard", (2,), Code.INVALID),
    ("px4.param_get", (32, 17), Code.INVALID),
    ("px4.param_get", (16, 5), Code.INVALID),
    ("px4.param_set", (32, 10, math.nan), Code.INVALID),
    ("px4.mission", (0, -1), Code.INVALID),
    ("px4.mission", (0, 257), Code.TOOBIG),
    ("ros2.open", (0, 4), Code.NOTFOUND),
    ("ros2.open", (0, 300), Code.NOTFOUND),
    ("ros2.close", (7,), Code.NOTFOUND),
    ("ros2.publish", (-1, 0, 4), Code.NOTFOUND),
    ("ros2.call", (2, 0, 4), Code.NOTFOUND),
    ("ros2.respond", (2, 1, 0, 0, 4), Code.NOTFOUND),
    ("ros2.feedback", (2, 1, 0, 4), Code.NOTFOUND),
    ("ros2.cancel", (2, 1), Code.NOTFOUND),
    ("sensor.info", (2, OUT, 32), Code.NOTFOUND),
    ("sensor.info", (0, OUT, 31), Code.TOOBIG),
    ("sensor.read", (-1, OUT, 32), Code.NOTFOUND),
    ("sensor.subscribe", (2, 0), Code.NOTFOUND),
    ("sensor.subscribe", (0, -2), Code.INVALID),
    ("secure.seal", (0, 4097, OUT, 1024), Code.TOOBIG),
    ("secure.seal", (0, 100, OUT, 100), Code.TOOBIG),
    ("secure.unseal", (0, 64, OUT, 64), Code.INVALID),
    ("secure.unseal", (0, 8192, OUT, 64), Code.TOOBIG),
    ("secure.send", (0, 4097), Code.TOOBIG),
]
# Pointer and length arguments by their places; None: a record of fixed size.
POINTERS: dict[str, list[tuple[int, int | None]]] = {
    "sys.log": [(1, 2)],
    "sys.random": [(0, 1)],
    "sys.device_name": [(0, 1)],
    "sys.env": [(0, 1), (2, 3)],
    "sys.subscribe": [(0, 1)],
    "sys.send": [(0, 1), (2, 3)],
    "sys.event_read": [(1, 2)],
    "sys.state_put": [(0, 1)],
    "sys.state_get": [(0, 1)],
    "px4.read": [(1, 2)],
    "px4.command": [(0, None)],
    "px4.setpoint": [(0, None)],
    "px4.param_get": [(0, 1)],
    "px4.param_set": [(0, 1)],
    "ros2.open": [(0, 1)],
    "ros2.publish": [(1, 2)],
    "ros2.call": [(1, 2)],
    "ros2.respond": [(3, 4)],
    "ros2.feedback": [(2, 3)],
    "sensor.info": [(1, 2)],
    "sensor.read": [(1, 2)],
    "secure.seal": [(0, 1), (2, 3)],
    "secure.unseal": [(0, 1), (2, 3)],
    "secure.send": [(0, 1)],
}
RANGES = [(65535, 2), (-1, 1), (0, -1), (2**31 - 1, 2**31 - 1), (-1, -1), (65537, 0), (-8, 64)]


def test_the_cases_cover_every_function() -> None:
    only_in_a_phase = {"sys.state_put", "sys.state_get", "secure.unseal"}
    assert {name for name, _, _ in GOOD} | only_in_a_phase == set(NAMES)
    never_wrong = {"sys.log", "sys.clock_monotonic_ns", "sys.clock_realtime_ns", "sys.dropped", "sensor.count"}
    always_taken = {"px4.acquire", "px4.release", "px4.command"}
    assert {name for name, _, _ in BAD} | never_wrong | always_taken == set(NAMES)
    assert set(POINTERS) | {"px4.mission"} == {name for name in NAMES if function(name).pointers}


def test_good_arguments_do_what_they_say(bench: HostBench) -> None:
    for name, arguments, expected in GOOD:
        bench.world.context.ownership.acquire()
        bench.world.context.open_routes.update((0, 1))
        result = bench.call(name, *arguments)
        assert result in expected if isinstance(expected, range) else result == expected, (name, arguments, result)


def test_bad_arguments_are_their_code_and_ask_nothing_of_the_peer(bench: HostBench) -> None:
    for name, arguments, expected in BAD:
        assert bench.call(name, *arguments) == expected, (name, arguments)
    assert bench.world.requests == []


@pytest.mark.parametrize("name", POINTERS)
def test_a_range_outside_the_memory_is_a_trap(bench: HostBench, name: str) -> None:
    good = next((arguments for case, arguments, _ in [*GOOD, *BAD] if case == name), None)
    assert good is not None
    for pointer, length in POINTERS[name]:
        for at, size in RANGES:
            if length is None and at == 0:
                continue
            hostile = list(good)
            hostile[pointer] = at
            if length is not None:
                hostile[length] = size
            says = r"wasmbed:\w+\.\w+: -?\d+ bytes at 0x[0-9a-f]+ are not inside the memory of 65536 bytes"
            with pytest.raises(Fault, match=says):
                bench.call(name, *hostile)
    assert bench.world.requests == []


def test_a_mission_that_is_not_all_inside_the_memory_is_a_trap(bench: HostBench) -> None:
    with pytest.raises(Fault, match=r"wasmbed:px4\.mission: 12288 bytes at 0xf000 are not inside"):
        bench.call("px4.mission", 0xF000, 256)


@pytest.mark.parametrize("name", [name for name in NAMES if function(name).rate_per_s and name != "sys.log"])
def test_a_rate_is_held_counted_and_refills(make: Callable[..., HostBench], name: str) -> None:
    bench = make()
    bench.world.provide_all()
    arguments = next(arguments for case, arguments, _ in [*BAD, *GOOD] if case == name)
    rate = function(name).rate_per_s
    count = bench.world.host.binder.counts[f"wasmbed:{name}"]
    deadline = time.monotonic() + 30
    if rate >= 1000:
        # Emptying a large bucket by single calls would take as long as it refills.
        bench.world.host.binder.rates[f"wasmbed:{name}"].drain(0.5)
    while bench.call(name, *arguments) != Code.RATE:
        assert time.monotonic() < deadline
    assert count[1] >= 1
    assert rate >= 1000 or count[0] > rate
    while bench.call(name, *arguments) == Code.RATE:
        assert time.monotonic() < deadline


def test_small_classes_have_small_messages(bench: HostBench) -> None:
    small = bench.world.request.device_class in abi.SMALL_CLASSES
    refused = Code.TOOBIG
    assert bench.call("sys.send", 0, 4, 0, 257) == (refused if small else 0)
    assert bench.call("ros2.publish", 0, 0, 257) == (refused if small else 0)
    assert (bench.call("secure.send", 0, 257) == refused) is small
    assert bench.call("sys.state_put", 0, 257, phase="save") == (refused if small else 0)
    assert bench.call("sys.state_put", 0, 256, phase="save") == 0


def test_without_backends_everything_is_unavailable_and_harmless(make: Callable[..., HostBench]) -> None:
    bench = make()
    for name, arguments, _ in GOOD:
        module = name.split(".")[0]
        if module == "sys" or name in ("px4.release", "sensor.count", "sensor.info", "ros2.close"):
            continue
        expected = Code.NOTFOUND if name.startswith("ros2.") and name != "ros2.open" else Code.UNAVAILABLE
        assert bench.call(name, *arguments) == expected, name
    assert bench.call("sensor.count") == 0
    assert bench.world.requests == []


def test_acting_needs_ownership_and_the_right(make: Callable[..., HostBench]) -> None:
    acts = [("px4.command", (128,)), ("px4.setpoint", (256,)), ("px4.offboard", (1,)), ("px4.mission", (0, 0))]
    acts.append(("px4.param_set", (32, 10, 1.0)))
    bench = make(rights=())
    bench.world.provide_all()
    for name, arguments in acts:
        assert bench.call(name, *arguments) == Code.DENIED
    assert bench.call("px4.param_get", 32, 10) in TOKEN
    other = make(device="ns/other")
    other.world.backends.provide(Provision("ns/other", ("px4",)))
    for name, arguments in acts:
        assert other.call(name, *arguments) == Code.DENIED
    assert other.call("px4.acquire") == 0
    for name, arguments in acts:
        assert other.call(name, *arguments) >= 0
    assert [request.op for request in other.world.requests] == [
        *("acquire", "command", "setpoint", "offboard", "mission", "param_set")
    ]


def test_one_instance_owns_a_device_until_it_lets_go(make: Callable[..., HostBench]) -> None:
    first, second = make(), make()
    for bench in (first, second):
        bench.world.backends.provide(Provision("ns/device", ("px4",)))
    assert first.call("px4.acquire") == 0
    assert first.call("px4.acquire") == 0
    assert second.call("px4.acquire") == Code.BUSY
    assert second.call("px4.command", 128) == Code.DENIED
    assert first.call("px4.release") == 0
    assert second.call("px4.acquire") == 0
    assert [(r.op, r.args) for r in first.world.requests] == [("acquire", ()), ("release", ("released",))]
    take_delivery(second.world.context, EventType.OWNER, 0, b"\x01")
    assert second.call("px4.command", 128) == Code.DENIED
    event = second.world.inbox.next(until_ns=0)
    assert event is not None
    assert (event.type, event.data) == (EventType.OWNER, b"\x01")


def test_requests_carry_what_was_given(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    token = bench.call("px4.command", 128)
    bench.call("px4.param_set", 32, 10, 2.5)
    bench.call("px4.mission", 128, 1)
    bench.call("ros2.respond", 0, 1 << 40, -5, 16, 3)
    made = [(r.module, r.op, r.args, r.data) for r in bench.world.requests]
    assert made == [
        ("px4", "command", (), MEMORY[128]),
        ("px4", "param_set", ("MPC_XY_VEL", 2.5), None),
        ("px4", "mission", (1,), MEMORY[128]),
        ("ros2", "respond", (0, 1 << 40, -5), b"a\0b"),
    ]
    assert bench.world.requests[0].token == token


def test_a_result_comes_once_and_frees_its_token(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    tokens = [bench.world.context.calls.ask("px4", "command") for _ in range(abi.TOKENS)]
    assert bench.call("px4.offboard", 0) == Code.AGAIN
    take_delivery(bench.world.context, EventType.RESULT, tokens[3], struct.pack("<iBB", 0, 0, 100))
    take_delivery(bench.world.context, EventType.RESULT, tokens[3], struct.pack("<iBB", 0, 0, 100))
    take_delivery(bench.world.context, EventType.RESULT, 9999, bytes(4))
    assert bench.call("px4.offboard", 0) in TOKEN
    event = bench.world.inbox.next(until_ns=0)
    assert event is not None
    assert (event.type, event.source, event.data) == (EventType.RESULT, tokens[3], b"\0\0\0\0\0\x64")
    assert bench.world.inbox.next(until_ns=0) is None


def test_a_full_queue_to_the_peer_is_again_and_leaves_no_token(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    bench.world.full = True
    for _ in range(2 * abi.TOKENS):
        assert bench.world.context.calls.ask("px4", "command") == Code.AGAIN
    assert bench.call("ros2.publish", 0, 16, 3) == Code.AGAIN
    bench.world.full = False
    assert bench.call("px4.command", 128) in TOKEN


def test_telemetry_is_read_and_becomes_events_only_when_subscribed(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    status = abi.TELEMETRY[Telemetry.STATUS].pack(7, 1, 1, 5, 0, 0, 2, 1, 99)
    assert bench.call("px4.read", 1, OUT, 24) == Code.AGAIN
    assert bench.call("px4.read", 1, OUT, 24) == Code.AGAIN
    assert [(r.op, r.args) for r in bench.world.requests] == [("watch", (1,))]
    take_delivery(bench.world.context, EventType.TELEMETRY, 1, status[:-1])
    assert bench.call("px4.read", 1, OUT, 24) == Code.AGAIN
    take_delivery(bench.world.context, EventType.TELEMETRY, 1, status)
    assert bench.call("px4.read", 1, OUT, 23) == Code.TOOBIG
    assert bench.call("px4.read", 1, OUT, 24) == 24
    assert bench.read(OUT, 24) == status
    assert bench.world.inbox.next(until_ns=0) is None
    assert bench.call("px4.subscribe", 1, 60_000) == 0
    for _ in range(3):
        take_delivery(bench.world.context, EventType.TELEMETRY, 1, status)
    event = bench.world.inbox.next(until_ns=0)
    assert event is not None
    assert (event.type, event.source, event.data) == (EventType.TELEMETRY, 1, status)
    assert bench.world.inbox.next(until_ns=0) is None


def test_samples_are_checked_read_and_described(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    assert bench.call("sensor.info", 0, OUT, 32) == 32
    kind, values, rate, longest, name = abi.SENSOR_INFO.unpack(bench.read(OUT, 32))
    assert (kind, values, rate, longest, name.rstrip(b"\0")) == (5, 1, 1000, 28, b"thermometer")
    sample = abi.SAMPLE.pack(7, 5, 1, 0, 0, 0, 4) + struct.pack("<f", 21.5)
    take_delivery(bench.world.context, EventType.SENSOR, 0, sample + b"too long")
    take_delivery(bench.world.context, EventType.SENSOR, 9, sample)
    assert bench.call("sensor.read", 0, OUT, 64) == Code.AGAIN
    take_delivery(bench.world.context, EventType.SENSOR, 0, sample)
    assert bench.call("sensor.read", 0, OUT, 64) == 28
    assert bench.read(OUT, 28) == sample


def test_ros2_events_need_an_open_route_and_end_their_call(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.backends.provide(Provision("ns/device", ("ros2",)))
    message = abi.ROS2_HEADER.pack(1, 0, 0, 0) + b"payload"
    take_delivery(bench.world.context, EventType.ROS2, 0, message)
    assert bench.world.inbox.next(until_ns=0) is None
    assert bench.call("ros2.open", 8, 4) == 0
    take_delivery(bench.world.context, EventType.ROS2, 0, message)
    event = bench.world.inbox.next(until_ns=0)
    assert event is not None
    assert event.data == message
    tokens = [bench.world.context.calls.ask("ros2", "call", 0) for _ in range(abi.TOKENS)]
    assert bench.call("ros2.call", 0, 0, 4) == Code.AGAIN
    take_delivery(bench.world.context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(7, 0, tokens[0], 0))
    assert bench.call("ros2.call", 0, 0, 4) == Code.AGAIN
    context = bench.world.context
    last = abi.ROS2_HEADER.pack(8, 0, tokens[0], 0)
    take_delivery(context, EventType.ROS2, 0, last)
    # Until it is taken, since so many ends of calls may wait, of which none is dropped.
    assert bench.call("ros2.call", 0, 0, 4) == Code.AGAIN
    context.calls.taken(last)
    assert bench.call("ros2.call", 0, 0, 4) in TOKEN


def test_ends_of_ros2_calls_wait_whatever_comes_with_them(make: Callable[..., HostBench]) -> None:
    """They were dropped like telemetry, and the application waited for ever."""
    bench = make()
    bench.world.backends.provide(Provision("ns/device", ("ros2",)))
    assert bench.call("ros2.open", 8, 4) == 0
    context, inbox = bench.world.context, bench.world.inbox
    tokens = [context.calls.ask("ros2", "call", 0) for _ in range(abi.TOKENS)]
    feedback = [abi.ROS2_HEADER.pack(abi.Ros2Kind.FEEDBACK, 0, token, 0) for token in tokens]
    for token in tokens:
        take_deliveries(context, EventType.ROS2, 0, feedback)
        take_delivery(context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(abi.Ros2Kind.RESULT, 4, token, 0))
        # Of one that nobody waits for, or twice, there is none.
        take_delivery(context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(abi.Ros2Kind.RESULT, 4, token, 0))
        take_delivery(context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(abi.Ros2Kind.REPLY, 0, 1 << 40, 0))
    take_deliveries(context, EventType.ROS2, 0, feedback * 10)
    found = []
    while event := inbox.next(until_ns=0):
        context.calls.taken(event.data)
        kind, status, token, _ = abi.ROS2_HEADER.unpack_from(event.data)
        found.append((kind, status, token))
    assert [item for item in found if item[0] != abi.Ros2Kind.FEEDBACK] == [(8, 4, token) for token in tokens]
    assert len(found) <= abi.ROS2_EVENTS + abi.TOKENS
    assert inbox.dropped[EventType.ROS2] == 64 * 64 + 640 - (len(found) - 64)
    assert bench.call("ros2.call", 0, 0, 4) in TOKEN


def test_end_of_a_ros2_call_that_is_too_long_is_told_as_a_failure(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.backends.provide(Provision("ns/device", ("ros2",)))
    assert bench.call("ros2.open", 8, 4) == 0
    token = bench.world.context.calls.ask("ros2", "call", 0)
    long = bytes(abi.ROS2_MAX + 1)
    take_delivery(bench.world.context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(7, 0, token, 0) + long)
    take_delivery(bench.world.context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(8, 0, token, 0) + long)
    event = bench.world.inbox.next(until_ns=0)
    assert event is not None
    assert event.data == abi.ROS2_HEADER.pack(abi.Ros2Kind.FAILURE, Code.TOOBIG, token, 0)


def test_call_of_a_route_that_was_closed_since_does_not_count_for_ever(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.backends.provide(Provision("ns/device", ("ros2",)))
    assert bench.call("ros2.open", 8, 4) == 0
    tokens = [bench.world.context.calls.ask("ros2", "call", 0) for _ in range(abi.TOKENS)]
    assert bench.call("ros2.close", 0) == 0
    for token in tokens:
        take_delivery(bench.world.context, EventType.ROS2, 0, abi.ROS2_HEADER.pack(8, 0, token, 0))
    assert bench.call("ros2.open", 8, 4) == 0
    assert bench.call("ros2.call", 0, 0, 4) in TOKEN
    assert bench.world.inbox.next(until_ns=0) is None


def test_state_is_put_when_saving_and_read_when_starting(make: Callable[..., HostBench]) -> None:
    bench = make()
    assert bench.call("sys.state_put", 0, 4, phase="save") == 0
    assert bench.world.context.state_out == b"RATE"
    assert bench.call("sys.state_get", OUT, 16, phase="init") == Code.NOTFOUND
    bench.world.context.state_in = b"state"
    assert bench.call("sys.state_get", OUT, 4, phase="init") == Code.TOOBIG
    assert bench.call("sys.state_get", OUT, 5, phase="init") == 5
    assert bench.read(OUT, 5) == b"state"
    assert bench.call("sys.event_read", 0, OUT, 4, phase="init") == Code.NOTFOUND


def test_an_event_is_read_from_any_place(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.context.event_data = b"0123456789"
    assert bench.call("sys.event_read", 0, OUT, 4) == 4
    assert bench.call("sys.event_read", 4, OUT + 4, 100) == 6
    assert bench.read(OUT, 10) == b"0123456789"
    assert bench.call("sys.event_read", 10, OUT, 4) == 0
    assert bench.call("sys.event_read", 11, OUT, 4) == Code.INVALID


def test_what_is_sealed_opens_with_the_applications_key_alone(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    length = bench.call("secure.seal", 16, 11, OUT, 1024)
    envelope = sealing.unseal(KEY, bench.read(OUT, length))
    assert (envelope.application, envelope.device, envelope.direction) == ("ns/app", "ns/device", sealing.UP)
    assert (envelope.sequence, envelope.content) == (5000, MEMORY[16])
    assert bench.call("secure.unseal", OUT, length, 8192, 64) == 11
    bench.write(OUT + length - 1, bytes([bench.read(OUT + length - 1, 1)[0] ^ 1]))
    assert bench.call("secure.unseal", OUT, length, 8192, 64) == Code.INVALID
    foreign = sealing.seal(KEY, "ns/other", "ns/device", sealing.UP, 1, b"x")
    bench.write(OUT, foreign)
    assert bench.call("secure.unseal", OUT, len(foreign), 8192, 64) == Code.INVALID


def test_numbers_are_asked_for_before_they_run_out_and_never_repeated(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()
    sealer = bench.world.backends.sealer("ns/app", "ns/device")
    assert sealer is not None
    for _ in range(sealing.BLOCK - sealing.LOW - 1):
        sealer.seal(b"")
    assert bench.world.requests == []
    seals = [bench.call("secure.seal", 16, 1, OUT, 1024) for _ in range(sealing.LOW + 3)]
    assert all(result > 0 for result in seals[: sealing.LOW + 1])
    assert seals[-1] == Code.AGAIN
    asked = [(r.module, r.op, r.args) for r in bench.world.requests]
    assert asked[:2] == [("secure", "sequence", ("ns/app", "ns/device"))] * 2
    bench.world.backends.secret(Secret("ns/app", "ns/device", KEY, 5000))
    assert bench.call("secure.seal", 16, 1, OUT, 1024) == Code.AGAIN
    bench.world.backends.secret(Secret("ns/app", "ns/device", KEY, 6000))
    length = bench.call("secure.seal", 16, 1, OUT, 1024)
    assert sealing.unseal(KEY, bench.read(OUT, length)).sequence == 6000


def test_messages_from_the_cloud_are_opened_once_each(make: Callable[..., HostBench]) -> None:
    bench = make()
    bench.world.provide_all()

    def down(sequence: int) -> bytes:
        return sealing.seal(KEY, "ns/app", "ns/device", sealing.DOWN, sequence, b"order %d" % sequence)

    for data in (down(5), down(5), down(4), b"junk", down(6)):
        take_delivery(bench.world.context, EventType.SECURE, 0, data)
    received = []
    while event := bench.world.inbox.next(until_ns=0):
        received.append(event.data)
    assert received == [b"order 5", b"order 6"]
    assert [r.op for r in bench.world.requests] == ["refused"] * 3


def test_log_passes_level_and_text_without_control_characters(make: Callable[..., HostBench]) -> None:
    bench = make()
    for arguments in ((9, 16, 11), (-1, 0, 4), (2, 0, 0), (2, 1200, 60000)):
        bench.call("sys.log", *arguments)
    assert bench.world.lines[:3] == [(4, "a\ufffdb\ufffdc\ufffdd\tAé", 0), (0, "RATE", 0), (2, "", 0)]
    assert len(bench.world.lines[3][1]) == abi.LOG_MAX
