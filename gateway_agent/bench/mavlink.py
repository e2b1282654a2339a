"""Measure the MAVLink bridge; prints a table and writes build/bench/mavlink.json (figure -> number).

    python gateway_agent/bench/mavlink.py [--quick]

Figures per second are per core: process time of this process, so other load on the machine changes them little. Rates
against pymavlink are taken in the same run, alternating, best of several. The router of the CPU and latency figures is
this file in a process of its own (`--serve`), with real sockets on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from mavlink_storm import SYSTEMS, renice, runtime, storm
from pymavlink.dialects.v20 import common
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.endpoints import Endpoint, MavlinkConfig
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.frames import FrameParser, decode_frame, make_frame
from wasmbed.bridges.mavlink.hub import Hub
from wasmbed.bridges.mavlink.px4 import ToPx4
from wasmbed.bridges.mavlink.px4.messages import to_cdr
from wasmbed.bridges.mavlink.routing import PortPolicy
from wasmbed.bridges.mavlink.switch import PortOptions, Switch
from wasmbed.service.process import exempt_from_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = ROOT / "build" / "bench" / "mavlink.json"
# What PX4 sends to an onboard computer by default, messages a second (about 250 in all).
RATES = {
    "ATTITUDE": 50,
    "ATTITUDE_QUATERNION": 50,
    "HIGHRES_IMU": 50,
    "ODOMETRY": 30,
    "LOCAL_POSITION_NED": 30,
    "SERVO_OUTPUT_RAW": 10,
    "GLOBAL_POSITION_INT": 10,
    "GPS_RAW_INT": 5,
    "SYS_STATUS": 5,
    "EXTENDED_SYS_STATE": 5,
    "HEARTBEAT": 1,
    "BATTERY_STATUS": 1,
    "HOME_POSITION": 1,
}


def frames_of(system: int, count: int, names: dict[str, int] | None = None) -> list[bytes]:
    """Frames of a vehicle in the mix of `RATES`."""
    dialect = default_dialect()
    pool = [name for name, rate in (names or RATES).items() for _ in range(rate)]
    # Spread the kinds instead of sending them in blocks.
    pool = [pool[number * 97 % len(pool)] for number in range(len(pool))]
    made = []
    for number in range(count):
        name = pool[number % len(pool)]
        values: dict[str, Any] = {"time_boot_ms": number, "time_usec": number * 1000, "x": 1.5, "y": 2.5, "z": -3.5}
        values |= {"roll": 0.1, "pitch": 0.2, "yaw": 0.3, "q1": 1.0, "lat": 473977420, "lon": 85455940, "alt": 488000}
        values |= {"autopilot": 12, "type": 2, "mavlink_version": 3, "xacc": 0.1, "zgyro": 0.2, "fields_updated": 63}
        definition = dialect[name]
        floats = {item.name for item in definition.fields if item.type == "float"}
        whole = {key: value if key in floats else int(value) for key, value in values.items()}
        values = {key: value for key, value in whole.items() if key in definition.names}
        made.append(make_frame(definition, values, system=system, component=1, sequence=number & 255))
    return made


def best_rate(work: Callable[[], int], rounds: int = 5) -> float:
    """Items a second of process time, best of some rounds."""
    best = 0.0
    for _ in range(rounds):
        started = time.process_time()
        done = work()
        best = max(best, done / (time.process_time() - started))
    return best


def throughput(count: int) -> dict[str, float]:
    """Parsing, routing and converting, in one process without sockets."""
    frames = frames_of(1, count)
    stream = b"".join(frames)
    chunks = [stream[at : at + 1024] for at in range(0, len(stream), 1024)]

    def parse() -> int:
        parser = FrameParser()
        return sum(len(parser.feed(chunk)) for chunk in chunks)

    def parse_pymavlink() -> int:
        parser = common.MAVLink(None)
        return sum(len(parser.parse_buffer(chunk) or ()) for chunk in chunks)

    def route() -> int:
        clock = iter(range(10**9))
        switch = Switch(clock=lambda: next(clock) * 1e-5)
        out = bytearray()

        def write(raw: bytes) -> bool:
            out.extend(raw)
            return True

        source = switch.open(PortOptions(PortPolicy("vehicle")), "a", lambda _: True)
        switch.open(PortOptions(PortPolicy("station")), "b", write)
        done = sum(switch.receive(source, chunk) for chunk in chunks)
        if bytes(out) != stream:
            raise AssertionError("the router changed the bytes")
        return done

    def forward_pymavlink() -> int:
        parser, out, done = common.MAVLink(None), bytearray(), 0
        for chunk in chunks:
            for item in parser.parse_buffer(chunk) or ():
                out.extend(item.get_msgbuf())
                done += 1
        if bytes(out) != stream:
            raise AssertionError("pymavlink changed the bytes")
        return done

    def convert() -> int:
        parser, bridge, done = FrameParser(), ToPx4("1.16"), 0
        for chunk in chunks:
            for frame in parser.feed(chunk):
                item = decode_frame(frame)
                if item is not None:
                    # Messages that come out: about a quarter of what comes in makes none.
                    done += sum(1 for _ in bridge.receive(item, 1_000_000))
        return done

    def convert_cdr() -> int:
        parser, bridge, done = FrameParser(), ToPx4("1.16"), 0
        for chunk in chunks:
            for frame in parser.feed(chunk):
                item = decode_frame(frame)
                if item is not None:
                    done += sum(1 for made in bridge.receive(item, 1_000_000) if to_cdr(made))
        return done

    figures = {
        "parse_per_s": best_rate(parse),
        "pymavlink_parse_per_s": best_rate(parse_pymavlink),
        "route_frames_per_s": best_rate(route),
        "pymavlink_forward_per_s": best_rate(forward_pymavlink),
        "mavlink_to_px4_msgs_per_s": best_rate(convert),
        "mavlink_to_px4_cdr_per_s": best_rate(convert_cdr),
    }
    figures["parse_ratio"] = figures["parse_per_s"] / figures["pymavlink_parse_per_s"]
    figures["route_ratio"] = figures["route_frames_per_s"] / figures["pymavlink_forward_per_s"]
    return figures


async def serve() -> None:
    """The router process: prints its ports; `storm` and `calm` on its standard input, with whose end it ends."""
    stations = Endpoint("stations", "udpin:127.0.0.1:0", max_peers=256)
    server = Endpoint("server", "tcpin:127.0.0.1:0")
    config = MavlinkConfig(
        (Endpoint("vehicles", "udpin:127.0.0.1:0", max_peers=256, isolate_peers=True), stations, server)
    )
    path = sys.argv[sys.argv.index("--serve") + 1]
    async with Hub(config).running() as hub:
        for endpoint in config.endpoints:
            await hub.ready(endpoint.name)
        async with Fleet(hub.switch, 245, 191).running() as fleet:
            for system in range(1, 101):
                fleet.vehicle(system)
            ports = [link.bound[1] for link in hub.links.values() if link.bound is not None]
            print(*ports, flush=True)
            orders = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
            counted = [0]
            async with asyncio.TaskGroup() as tasks:
                while line := await orders.readline():
                    if line.strip() == b"storm":
                        tasks.create_task(storm(Path(path), fleet, counted))
                    else:
                        print(counted[0], flush=True)


def unit_nice(unit: str) -> int:
    """The priority that a service of the gateway has by its unit."""
    text = (ROOT / f"roles/gateway/templates/{unit}.service.j2").read_text()
    found = re.search(r"^Nice=(-?\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def router(path: str, nice: int = 0) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Our router in its own process: vehicle port, station port, server port."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A scheduling group of its own where the kernel groups by session, as a unit has.
        start_new_session=True,
    )
    try:
        renice(process.pid, nice)
        yield process, [int(word) for word in (process.stdout.readline() if process.stdout else "").split()]
    finally:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send_paced(vehicles: list[tuple[socket.socket, list[bytes]]], rate_hz: float, seconds: float) -> int:
    """Send each vehicle's frames at a rate; how many were sent."""
    sent, started = 0, time.monotonic()
    at = 0
    while (now := time.monotonic()) < started + seconds:
        due = int((now - started) * rate_hz)
        while at < due:
            for channel, frames in vehicles:
                with contextlib.suppress(OSError):
                    channel.send(frames[at % len(frames)])
                sent += 1
            at += 1
        time.sleep(0.002)
    return sent


def connect(port: int, count: int) -> list[tuple[socket.socket, list[bytes]]]:
    """Vehicles with a socket each."""
    vehicles = []
    for system in range(1, count + 1):
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        channel.setblocking(False)
        channel.connect(("127.0.0.1", port))
        vehicles.append((channel, frames_of(system, 500)))
    return vehicles


# Messages a second of each vehicle.
FLEET_HZ = 50.0
PX4_HZ = 250.0


def cpu_shares(seconds: float) -> dict[str, float]:
    """Processor shares in per cent of one core: 1, 10, 100 vehicles at one rate; one at PX4's, and MAVProxy with it.

    A wake-up costs more than a message, so a hundred vehicles are compared with one that sends as much in such bursts.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, router(f"{folder}/echo") as (process, ports):
        station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        station.connect(("127.0.0.1", ports[1]))
        station.send(frames_of(250, 1)[0])
        for name, count, rate in (
            *((f"{count}_vehicles", count, FLEET_HZ) for count in (1, 10, 100)),
            ("1_vehicle_for_100", 1, FLEET_HZ),
            ("at_px4_rates", 1, PX4_HZ),
        ):
            vehicles = connect(ports[0], count)
            if name == "1_vehicle_for_100":
                ((channel, frames),) = vehicles
                vehicles = [(channel, frames[at:] + frames[:at]) for at in range(100)]
            send_paced(vehicles, rate, 1.0)
            before, started = cpu_s(process.pid), time.monotonic()
            sent = send_paced(vehicles, rate, seconds)
            passed = time.monotonic() - started
            figures[f"cpu_percent_{name}"] = 100 * (cpu_s(process.pid) - before) / passed
            figures[f"messages_per_s_{name}"] = sent / passed
            figures[f"cpu_us_per_message_{name}"] = 1e6 * (cpu_s(process.pid) - before) / sent
            for channel, _ in vehicles:
                channel.close()
        station.close()
    one, hundred = (figures[f"cpu_us_per_message_{name}"] for name in ("1_vehicle_for_100", "100_vehicles"))
    figures["cpu_growth_1_to_100_vehicles"] = hundred / one
    found = mavproxy_share(seconds)
    if found is not None:
        figures["mavproxy_cpu_percent_1_vehicle"], figures["mavproxy_forwarded_share"] = found
        figures["cpu_ratio_to_mavproxy"] = figures["cpu_percent_at_px4_rates"] / found[0]
    return figures


@contextlib.contextmanager
def counting(sink: socket.socket) -> Iterator[list[int]]:
    """Count the frames that come to a socket, beside other work: the first item."""
    counted, ended = [0], threading.Event()
    sink.settimeout(0.1)

    def count() -> None:
        parser = FrameParser()
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                counted[0] += len(parser.feed(sink.recv(65_536)))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counted
    finally:
        ended.set()
        thread.join()


def mavproxy_share(seconds: float) -> tuple[float, float] | None:
    """MAVProxy as the router of one vehicle, without modules: per cent of a core, and which share came out.

    None where it is not installed.
    """
    tool = Path(sys.executable).parent / "mavproxy.py"
    if not tool.exists():
        return None
    free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, str(tool), f"--master=udpin:127.0.0.1:{port}", "--daemon", "--default-modules="),
                *(f"--out=udpout:127.0.0.1:{sink.getsockname()[1]}", f"--state-basedir={folder}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            time.sleep(4.0)
            vehicles = connect(port, 1)
            with counting(sink) as counted:
                send_paced(vehicles, PX4_HZ, 1.0)
                # Whatever is still to come of these is not of those that are counted.
                time.sleep(0.5)
                before, already, started = cpu_s(process.pid), counted[0], time.monotonic()
                sent = send_paced(vehicles, PX4_HZ, seconds)
                used, passed = cpu_s(process.pid) - before, time.monotonic() - started
                # What is under way counts too.
                deadline = time.monotonic() + 2.0
                while counted[0] - already < sent and time.monotonic() < deadline:
                    time.sleep(0.01)
                return 100 * used / passed, (counted[0] - already) / sent
        finally:
            process.kill()
            process.wait()
            sink.close()


# The least that a router in a process of its own can do: what it takes is the machine's and the scheduler's, not ours.
RELAY = """
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); listener.bind(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); out.connect(('127.0.0.1', int(sys.argv[1])))
while True:
    out.send(listener.recv(2048))
"""


def tell(process: subprocess.Popen[str], order: str) -> str:
    """Give the router an order; its answer to `count`."""
    if process.stdin is None or process.stdout is None:
        return ""
    process.stdin.write(f"{order}\n")
    process.stdin.flush()
    return process.stdout.readline() if order == "count" else ""


@contextlib.contextmanager
def relay(receiver: socket.socket, nice: int) -> Iterator[int]:
    """A process that does nothing but pass datagrams on to a socket: its port."""
    port = str(receiver.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, port], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        renice(process.pid, nice)
        yield int(process.stdout.readline() if process.stdout else "0")
    finally:
        process.kill()
        process.wait()


def latency(seconds: float) -> dict[str, float]:
    """Milliseconds through the router at 1,000 messages a second, and what of it is ours.

    Each message is followed by one over a bare relay, a process as the router is and with the same priority, so that
    both meet the same machine: `added_latency_...` is the difference of the two. Percentiles are those of a second, and
    what is told is the second in the middle, because others' load comes in bursts; the worst one is told beside it. The
    priorities of router and runtime are those of their units.
    """
    agent, storming = unit_nice("wasmbed-agent"), unit_nice("wasmbed-runtime")
    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        runtime(Path(folder), storming) as path,
        router(str(path), agent) as (process, ports),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as direct,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as routed,
    ):
        direct.bind(("127.0.0.1", 0))
        routed.connect(("127.0.0.1", ports[1]))
        routed.send(frames_of(250, 1)[0])
        with relay(direct, agent) as relayed:
            probes = (Probe(routed, ports[0]), Probe(direct, relayed))
            round_trips(probes, 0.5)
            quiet = by_second(probes, seconds / 2)
            tell(process, "storm")
            # The module is compiled meanwhile.
            round_trips(probes, 3.0)
            for probe in probes:
                probe.take()
            before = int(tell(process, "count") or "0")
            stormy = by_second(probes, seconds)
            figures["storm_requests_per_s"] = (int(tell(process, "count") or "0") - before) / seconds
        alone = by_second((Probe(direct, direct.getsockname()[1]),), seconds / 2)
    through, floor = ([second[number] for second in stormy] for number in (0, 1))
    for name, found in (("latency", through), ("relay_latency", floor), ("direct_latency", [one[0] for one in alone])):
        for column, figure in enumerate(("p50", "p99")):
            figures[f"{name}_{figure}_ms"] = statistics.median(second[column] for second in found)
    for column, figure in enumerate(("p50", "p99")):
        figures[f"added_latency_{figure}_ms"] = added(stormy, column)
    # Above no router at all, which is the scheduler's part too: told, not limited.
    figures["added_latency_p99_ms_to_direct"] = figures["latency_p99_ms"] - figures["direct_latency_p99_ms"]
    figures["added_latency_p99_ms_without_storm"] = added(quiet, 1)
    figures["added_latency_p99_ms_worst_second"] = max(ours[1] - theirs[1] for ours, theirs in stormy)
    figures["latency_lost"] = sum(second[2] for second in through)
    return figures


Second = tuple[tuple[float, float, float], ...]


def by_second(probes: tuple[Probe, ...], seconds: float) -> list[Second]:
    """What each of the probes had in each second: p50, p99 and how many were lost."""
    return [tuple(probe.take() for probe in round_trips(probes, 1.0)) for _ in range(max(3, round(seconds)))]


def added(seconds: list[Second], column: int) -> float:
    """What the first probe has above the second one: of a second, and of all seconds the one in the middle."""
    return statistics.median(ours[column] - theirs[column] for ours, theirs in seconds)


HEARTBEAT = {"autopilot": 12, "type": 2, "mavlink_version": 3, "base_mode": 1, "system_status": 3}


class Probe:
    """Sends frames to a port and takes the time until they come to a socket."""

    def __init__(self, receiver: socket.socket, port: int) -> None:
        self._receiver = receiver
        # Long enough that what is late is no loss.
        receiver.settimeout(2.0)
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(("127.0.0.1", port))
        self._times: list[float] = []
        self._lost = 0

    def beat(self) -> None:
        """Send heartbeats, so that the vehicles are there for the applications."""
        beat = {**HEARTBEAT, "custom_mode": time.monotonic_ns() & 0xFFFF}
        for system in SYSTEMS:
            self._sender.send(make_frame(default_dialect()["HEARTBEAT"], beat, system=system, component=1, sequence=0))

    def once(self, raw: bytes) -> None:
        """Send a frame and wait for it."""
        sent = time.perf_counter()
        self._sender.send(raw)
        try:
            while self._receiver.recv(2048) != raw:
                pass
        except TimeoutError:
            self._lost += 1
        else:
            self._times.append((time.perf_counter() - sent) * 1000)

    def take(self) -> tuple[float, float, float]:
        """p50 and p99 in milliseconds and how many did not come, since the last time."""
        times, lost = sorted(self._times), self._lost
        self._times, self._lost = [], 0
        if not times:
            return math.inf, math.inf, float(lost)
        return statistics.median(times), times[math.ceil(len(times) * 0.99) - 1], float(lost)


def round_trips(probes: tuple[Probe, ...], seconds: float) -> tuple[Probe, ...]:
    """A thousand frames a second over each of the probes, one after the other."""
    definition = default_dialect()["NAMED_VALUE_INT"]
    number = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        due = started + number / 1000.0
        while time.perf_counter() < due:
            time.sleep(0.0001)
        if number % 1000 == 0:
            for probe in probes:
                probe.beat()
        number += 1
        # The same bytes from another socket would be a loop to the router, so every frame is one of its kind.
        values = {"time_boot_ms": time.monotonic_ns() & 0xFFFFFFFF, "value": number, "name": "latency"}
        raw = make_frame(definition, values, system=1, component=1, sequence=number & 255)
        for probe in probes:
            probe.once(raw)
    return probes


LIMITS: dict[str, tuple[str, float]] = {
    "route_frames_per_s": (">=", 150_000),
    "mavlink_to_px4_msgs_per_s": (">=", 40_000),
    "route_ratio": (">=", 1.0),
    "added_latency_p99_ms": ("<=", 1.0),
    # Without these the one above would say nothing: no messages, or no storm. One application's rates allow about 300.
    "latency_lost": ("<=", 0.0),
    "storm_requests_per_s": (">=", 250.0),
    # What a message costs when it comes from one of a hundred vehicles, above what it costs from a single one.
    "cpu_growth_1_to_100_vehicles": ("<=", 2.0),
    "cpu_ratio_to_mavproxy": ("<=", 1.0),
    # One that forwards little would be cheap.
    "mavproxy_forwarded_share": (">=", 0.9),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        default_dialect()
        exempt_from_collection()
        uvloop.run(serve())
        return
    full(Message("HEARTBEAT", {}))
    seconds = 2.0 if options.quick else 10.0
    figures = throughput(5_000 if options.quick else 50_000)
    figures |= cpu_shares(seconds)
    # The more seconds, the less the bursts of others count in the middle one.
    figures |= latency(3 * seconds)
    figures["load_average"] = os.getloadavg()[0]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n")
    missed = []
    for name, value in figures.items():
        limit = LIMITS.get(name)
        verdict = ""
        if limit is not None:
            met = value >= limit[1] if limit[0] == ">=" else value <= limit[1]
            verdict = f"  limit {limit[0]} {limit[1]:,g}: {'met' if met else 'MISSED'}"
            missed += [] if met else [name]
        print(f"{name:38} {value:16,.3f}{verdict}")
    missed += [name for name in LIMITS if name not in figures]
    if missed:
        sys.exit(
            f"bench: {', '.join(missed)} is not within its limit, or was not measured (MAVProxy is in requirements)"
        )


if __name__ == "__main__":
    main()
