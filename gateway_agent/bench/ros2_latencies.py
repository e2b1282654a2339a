"""One turn of latencies through a bridge into the hands of the thread that measures."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ros2_roles import SAMPLE, Process, bare, resident_mib, stamping, wait
from wasmbed.bridges.ros2 import parse_routes, qos
from wasmbed.bridges.ros2.dds import binding

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.ros2 import Bridge
    from wasmbed.bridges.ros2.dds import DdsBackend

WARM_S = 1.0
ROUND_TRIPS = 4000


@dataclass
class Turn:
    """Seconds from the publisher and from cyclonedds into an application's hands, CPU percent, resident MiB."""

    latencies: list[float]
    added: list[float]
    cpu_percent: float
    rss_mib: float


def latencies(bridge: Bridge, domain: int, topics: int, encoding: str, seconds: float) -> Turn:
    """One turn at 1,000 messages a second over all topics; blocks its thread."""
    routes = [
        {"topic": f"/t{number}", "type": SAMPLE, "direction": "subscribe", "encoding": encoding, "qos": {"depth": 1000}}
        for number in range(topics)
    ]
    ready: list[str] = []
    event = threading.Event()

    def on_ready(name: str) -> None:
        ready.append(name)
        event.set()

    session = open_session(bridge, routes, on_ready)
    taken: dict[int, float] = {}  # by the time a sample carries
    for shared in list(bridge._shared.values()):
        shared.subscription._callback = stamping(shared.subscription._callback, taken)  # type: ignore[attr-defined]
    # In CBOR the map and the name of the first field come before the time.
    start = 4 if encoding == "cdr" else 1 + 1 + len("timestamp") + 1
    order = "little" if encoding == "cdr" else "big"
    found: list[float] = []
    added: list[float] = []
    with Process("--role", "pace", "--domain", domain, "--topics", topics):
        began, cpu = time.monotonic() + WARM_S, 0.0
        while (now := time.monotonic()) < began + seconds:
            if now > began and not cpu:
                cpu = time.process_time()
            event.wait(0.1)
            event.clear()
            while ready:
                name = ready.pop()
                while (delivery := session.receive(name)) is not None:
                    now, sent = time.time(), int.from_bytes(delivery.data[start : start + 8], order)
                    before = taken.pop(sent)
                    if cpu:
                        found.append(now - sent / 1e9)
                        added.append(now - before)
        percent = (time.process_time() - cpu) / seconds * 100
    rss = resident_mib()
    session.close()
    return Turn(found, added, percent, rss)


def round_trips_of_bare(made: DdsBackend, domain: int) -> list[float]:
    """Seconds of round trips to another process by cyclonedds itself; blocks its thread."""
    writer, _ = bare(made, "ping", SAMPLE)
    _, reader = bare(made, "pong", SAMPLE)
    condition = binding.core.ReadCondition(reader, binding.ANY_STATE)
    waits = binding.WaitSet(made.context.participant)
    waits.attach(condition, 1)
    times: list[float] = []
    with Process("--role", "echo", "--kind", "bare", "--domain", domain):
        wait(lambda: writer.get_matched_subscriptions() and reader.get_matched_publications())
        data = _sample(made)
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            binding._clayer.ddspy_write(writer._ref, data)
            while not binding._clayer.ddspy_take(reader._ref, binding.ANY_STATE, 8):
                waits.wait(1_000_000_000)
            times.append(time.perf_counter() - began)
    for entity in (condition, waits._set, writer, reader):
        binding.delete(entity)
    return times[ROUND_TRIPS // 10 :]


def round_trips_of_ours(made: DdsBackend, domain: int) -> list[float]:
    """The same by a publisher and a subscription of the backend."""
    event = threading.Event()
    subscription = made.create_subscription("/pong", SAMPLE, qos.DEFAULT, lambda *_: event.set())
    publisher = made.create_publisher("/ping", SAMPLE, qos.DEFAULT)
    times: list[float] = []
    with Process("--role", "echo", "--kind", "ours", "--domain", domain):
        wait(lambda: publisher.statistics.matched and subscription.statistics.matched)
        data = _sample(made)
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            event.clear()
            publisher.publish(data)
            event.wait(1.0)
            times.append(time.perf_counter() - began)
    publisher.close()
    subscription.close()
    return times[ROUND_TRIPS // 10 :]


def _sample(made: DdsBackend) -> bytes:
    codec = made.codecs.codec(SAMPLE)
    data: bytes = codec.dumps(codec.cls())
    return data


def open_session(bridge: Bridge, routes: list[dict[str, Any]], on_ready: Callable[[str], None]) -> Any:
    """Sessions belong to an event loop; the topics measured here need none running."""

    async def make() -> Any:
        parsed = parse_routes({"topics": routes}, bridge.node.resolve, bridge.node.codecs)
        return bridge.open("bench", parsed, on_ready)

    return asyncio.run(make())
