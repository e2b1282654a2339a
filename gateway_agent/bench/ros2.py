#!/usr/bin/env python3
"""Measure the ROS 2 bridge and, in the same run, bare cyclonedds and rclpy; writes build/bench/ros2.json.

The sample has 188 bytes (a time, seven doubles, thirty floats); everything runs on the loopback interface.

bare_raw_write_take_per_s   write and take of serialized samples, cyclonedds alone, one process
raw_write_take_per_s        the same by our publisher and reader;  raw_ratio is to bare
codec_write_take_per_s      message to bytes, write, take, bytes to message (limit >= 250,000)
typed_write_take_per_s      the same by the typed calls of cyclonedds
bare_rtt_p50_us, _p99_us    round trips between two processes, cyclonedds alone;  rtt_p50_us, rtt_p99_us: ours
bare_latency_p99_us         from a publisher to a reader in another process at 1,000 messages a second, cyclonedds
bridge_latency_p50_us, _p99_us   from that publisher into an application's hands through a route in CDR
bridge_added_p50_us, _p99_us   from where cyclonedds hands a sample over into an application's hands (limit <= 300)
bridge_to_bare_p99_us       p99 of the two latencies, the bare reader's taken off, of turns one after the other
bridge_cpu_percent          of one core, at that rate
cbor_added_p99_us           as bridge_added_p99_us, through a route in CBOR
storm_added_p99_us          as bridge_added_p99_us, at the bridge of an agent through whose dispatcher an application
                            publishes without end
routes_N_added_p99_us, _cpu_percent, _rss_mib   with N = 1, 10, 100 routes sharing 1,000 messages a second
bridge_delivered_per_s      into an application's hands, from a publisher in another process, as fast as it can
delivered_per_s             read by an application in a runtime behind the agent's host calls, from such a publisher
rclpy_delivered_per_s       into an rclpy subscription, from the same, where there is an interpreter of
                            scripts/test-ros2;  delivered_to_rclpy_ratio (limit >= 5)
paced_delivered_per_s, rclpy_paced_delivered_per_s   the same, from a publisher of 40,000 messages a second
cbor_delivered_per_s        as delivered_per_s, but each message is decoded and made to CBOR for the application. rclpy
                            makes a Python object of each, an application in C reads CDR as it is
application_added_p50_us, _p99_us   from where cyclonedds hands a sample over to where that application has read it, at
                            1,000 messages a second
application_latency_p99_us  from the publisher to there
application_handed_p99_us   from where cyclonedds hands a sample over to where the agent's dispatcher gets it
application_cpu_percent     of one core, at that rate: agent and runtime together
storm_rtt_*                 round trips through the agent's bridge beside that application, and of bare cyclonedds
storm_application_*         the same, with that application beside it in the same worker
application_rss_mib         of agent and runtime, after all that
load_before                 load average when the run began: on a busy machine wall times mean little

Latencies are measured in three turns each; the figures are medians over the turns. Publishers that write as fast as
they can, or 40,000 messages a second, have a niceness of 19: another machine would take no processor of their readers.
Where an application takes part, the agent and the runtime have the priorities of their units, and rclpy the agent's.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ros2_application
import uvloop
from ros2_application import percentile
from ros2_latencies import WARM_S, Turn, latencies, open_session, round_trips_of_bare, round_trips_of_ours
from ros2_roles import IMU, RCLPY, SAMPLE, Process, backend, bare, free_domain, wait
from wasmbed.bridges.ros2 import Bridge, Node, Policy, qos
from wasmbed.bridges.ros2.dds import binding

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "codec_write_take_per_s": (">=", 250_000.0),
    "bridge_added_p99_us": ("<=", 300.0),
    "storm_added_p99_us": ("<=", 300.0),
    "delivered_to_rclpy_ratio": (">=", 5.0),
}
ALL = Policy(("/*",), ("/*",), ("/*",), ("/*",), frozenset(range(233)))
SECONDS = 3.0
TURNS = 3
BATCH = 50
ROUNDS = 7


def best_rate(work: Callable[[], int], seconds: float = 0.5) -> float:
    """Units a second in the fastest of ROUNDS rounds."""
    rates = []
    for _ in range(ROUNDS):
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            done += work()
        rates.append(done / (time.perf_counter() - began))
    return max(rates)


def measure_throughput(domain: int) -> dict[str, float]:
    """Write and take within one process, in batches of BATCH."""
    made = backend(domain, "bench")
    codec = made.codecs.codec(SAMPLE)
    message = codec.cls(1, tuple(map(float, range(7))), tuple(map(float, range(30))))
    data = codec.dumps(message)
    assert len(data) == 188  # noqa: S101
    writer, reader = bare(made, "bare", SAMPLE)
    ours = made.create_publisher("/ours", SAMPLE, qos.QosProfile(depth=1000))
    _, our_reader = bare(made, "rt/ours", SAMPLE)
    clayer, anything = binding._clayer, binding.ANY_STATE

    def bare_raw() -> int:
        for _ in range(BATCH):
            clayer.ddspy_write(writer._ref, data)
        return len(clayer.ddspy_take(reader._ref, anything, BATCH))

    def raw() -> int:
        for _ in range(BATCH):
            ours.publish(data)
        return len(binding.take(our_reader, BATCH))

    def coded() -> int:
        encode, decode, reference, write = codec.encode, codec.decode, ours.entity._ref, clayer.ddspy_write
        for _ in range(BATCH):
            write(reference, encode(message))
        return len([decode(item) for item, _ in binding.take(our_reader, BATCH)])

    typed_message = writer.topic.data_type.deserialize(data)

    def typed() -> int:
        for _ in range(BATCH):
            writer.write(typed_message)
        return len(reader.take(BATCH))

    figures = {
        "bare_raw_write_take_per_s": best_rate(bare_raw),
        "raw_write_take_per_s": best_rate(raw),
        "codec_write_take_per_s": best_rate(coded),
        "typed_write_take_per_s": best_rate(typed),
    }
    made.context.close()
    figures["raw_ratio"] = figures["raw_write_take_per_s"] / figures["bare_raw_write_take_per_s"]
    figures["codec_to_typed_ratio"] = figures["codec_write_take_per_s"] / figures["typed_write_take_per_s"]
    return figures


def measure_round_trips(domain: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for prefix, round_trips in (("bare_", round_trips_of_bare), ("", round_trips_of_ours)):
        made = backend(domain, "bench")
        times = round_trips(made, domain)
        made.context.close()
        figures |= {
            f"{prefix}rtt_p50_us": statistics.median(times) * 1e6,
            f"{prefix}rtt_p99_us": percentile(times, 0.99) * 1e6,
        }
    figures["rtt_p50_ratio"] = figures["rtt_p50_us"] / figures["bare_rtt_p50_us"]
    return figures


def latencies_of_bare(domain: int) -> list[float]:
    """Seconds from the publisher's clock to a reader of cyclonedds itself."""
    made = backend(domain, "bench")
    _, reader = bare(made, "rt/t0", SAMPLE)
    condition = binding.core.ReadCondition(reader, binding.ANY_STATE)
    waits = binding.WaitSet(made.context.participant)
    waits.attach(condition, 1)
    found: list[float] = []
    with Process("--role", "pace", "--domain", domain, "--topics", 1):
        begin = time.monotonic() + WARM_S
        while time.monotonic() < begin + SECONDS:
            waits.wait(100_000_000)
            for data, _ in binding._clayer.ddspy_take(reader._ref, binding.ANY_STATE, 64):
                if time.monotonic() > begin:
                    found.append(time.time() - int.from_bytes(data[4:12], "little") / 1e9)
    made.context.close()
    return found


def latencies_of_bridge(domain: int, topics: int, encoding: str) -> Turn:
    """One turn at 1,000 messages a second over all topics, through a bridge without an agent."""
    made = backend(domain, "bench")
    bridge = Bridge(Node(made, made.codecs, name="bench"), ALL, domain)
    try:
        return latencies(bridge, domain, topics, encoding, SECONDS)
    finally:
        made.context.close()


def median_turn(domain: int, topics: int) -> Turn:
    """Of three turns the medians; of the times their p99 in microseconds."""
    turns = [latencies_of_bridge(domain, topics, "cdr") for _ in range(TURNS)]
    return Turn(
        [statistics.median(percentile(turn.latencies, 0.99) for turn in turns) * 1e6],
        [statistics.median(percentile(turn.added, 0.99) for turn in turns) * 1e6],
        statistics.median(turn.cpu_percent for turn in turns),
        statistics.median(turn.rss_mib for turn in turns),
    )


def measure_latencies(domain: int) -> dict[str, float]:
    turns: dict[str, list[float]] = {}
    for _ in range(TURNS):
        alone = percentile(latencies_of_bare(domain), 0.99) * 1e6
        cdr, cbor = latencies_of_bridge(domain, 1, "cdr"), latencies_of_bridge(domain, 1, "cbor")
        for name, value in {
            "bare_latency_p99_us": alone,
            "bridge_latency_p50_us": percentile(cdr.latencies, 0.5) * 1e6,
            "bridge_latency_p99_us": percentile(cdr.latencies, 0.99) * 1e6,
            "bridge_to_bare_p99_us": percentile(cdr.latencies, 0.99) * 1e6 - alone,
            "bridge_added_p50_us": percentile(cdr.added, 0.5) * 1e6,
            "bridge_added_p99_us": percentile(cdr.added, 0.99) * 1e6,
            "cbor_added_p99_us": percentile(cbor.added, 0.99) * 1e6,
            "bridge_cpu_percent": cdr.cpu_percent,
        }.items():
            turns.setdefault(name, []).append(value)
    figures = {name: statistics.median(values) for name, values in turns.items()}
    for number in (1, 10, 100):
        turn = median_turn(domain, number)
        figures |= {
            f"routes_{number}_added_p99_us": turn.added[0],
            f"routes_{number}_cpu_percent": turn.cpu_percent,
            f"routes_{number}_rss_mib": turn.rss_mib,
        }
    return figures


def measure_delivery(domain: int) -> dict[str, float]:
    """Messages a second into an application and into rclpy, from the same kind of publisher."""
    made = backend(domain, "bench")
    bridge = Bridge(Node(made, made.codecs, name="bench"), ALL, domain)
    event = threading.Event()
    route = {"topic": "/flood", "type": IMU, "direction": "subscribe", "encoding": "cdr", "queue": 10_000}
    session = open_session(bridge, [route | {"qos": {"depth": 1000}}], lambda _: event.set())
    with Process("--role", "flood", "--domain", domain):
        wait(lambda: session.receive("/flood"))
        count, began = 0, time.monotonic()
        while time.monotonic() < began + SECONDS:
            event.wait(0.1)
            event.clear()
            while session.receive("/flood") is not None:
                count += 1
        figures = {"bridge_delivered_per_s": count / (time.monotonic() - began)}
    session.close()
    made.context.close()
    return figures


def rclpy_python() -> str | None:
    """The interpreter that scripts/test-ros2 makes, None when it has not."""
    wheels = ROOT / "roles/ros2/files/jazzy.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(wheels.read_bytes()).hexdigest()[:16]
    made = cache / f"wasmbed/ros2/jazzy-{key}"
    default = str(made / "bin/python") if (made / ".complete").exists() else None
    return os.environ.get("WASMBED_ROS2_JAZZY") or default


def rclpy_delivered(python: str, domain: int, rate_hz: float) -> float:
    """Messages a second into an rclpy subscription."""
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": "",
    }
    peer = subprocess.Popen([python, "-c", RCLPY, str(SECONDS + 2)], stdout=subprocess.PIPE, text=True, env=environment)
    assert peer.stdout is not None  # noqa: S101
    peer.stdout.readline()
    with Process("--role", "flood", "--domain", domain, "--rate", rate_hz):
        found = float(peer.stdout.readline())
    peer.wait()
    return found


def measure_applications(domain: int) -> dict[str, float]:
    """An application in a runtime, and rclpy beside it."""
    python = rclpy_python()
    if python is None:
        print("no comparison with rclpy: run scripts/test-ros2 once, which installs its wheels")
    rclpy = None if python is None else functools.partial(rclpy_delivered, python, domain)
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as name:
        figures = uvloop.run(ros2_application.measure(domain, Path(name), TURNS, SECONDS, rclpy))
    if rclpy is not None:
        figures["delivered_to_rclpy_ratio"] = figures["delivered_per_s"] / figures["rclpy_delivered_per_s"]
    return figures


def measure() -> dict[str, float]:
    figures = {"load_before": os.getloadavg()[0]}
    domain = free_domain()
    figures |= measure_throughput(domain)
    figures |= measure_round_trips(domain)
    figures |= measure_latencies(domain)
    figures |= measure_delivery(domain)
    figures |= measure_applications(domain)
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> int:
    figures = measure()
    path = ROOT / "build/bench/ros2.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    missing = sorted(LIMITS.keys() - figures.keys())
    for name in missing:
        print(f"{name}: not measured")
    failed = len(missing)
    print(f"{'figure':<32} {'measured':>14}")
    for name, value in figures.items():
        limit = LIMITS.get(name)
        verdict = ""
        if limit:
            good = value >= limit[1] if limit[0] == ">=" else value <= limit[1]
            verdict = f"  {limit[0]} {limit[1]:g} {'ok' if good else 'MISSED'}"
            failed += not good
        print(f"{name:<32} {value:>14.2f}{verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
