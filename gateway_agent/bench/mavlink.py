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
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from mavlink_storm import runtime, storm
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
                    bridge.receive(item, 1_000_000)
                    done += 1
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


@contextlib.contextmanager
def router(path: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Our router in its own process: vehicle port, station port, server port."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
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


def cpu_shares(seconds: float) -> dict[str, float]:
    """Processor shares in per cent of one core: 1, 10 and 100 vehicles, and MAVProxy with one."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, router(f"{folder}/echo") as (process, ports):
        station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        station.connect(("127.0.0.1", ports[1]))
        station.send(frames_of(250, 1)[0])
        for count, rate in ((1, 250.0), (10, 50.0), (100, 50.0)):
            vehicles = connect(ports[0], count)
            send_paced(vehicles, rate, 1.0)
            before, started = cpu_s(process.pid), time.monotonic()
            sent = send_paced(vehicles, rate, seconds)
            passed = time.monotonic() - started
            figures[f"cpu_percent_{count}_vehicles"] = 100 * (cpu_s(process.pid) - before) / passed
            figures[f"messages_per_s_{count}_vehicles"] = sent / passed
            for channel, _ in vehicles:
                channel.close()
        station.close()
    share = mavproxy_share(seconds)
    if share is not None:
        figures["mavproxy_cpu_percent_1_vehicle"] = share
        figures["cpu_ratio_to_mavproxy"] = figures["cpu_percent_1_vehicles"] / share
    return figures


def mavproxy_share(seconds: float) -> float | None:
    """MAVProxy as the router of one vehicle, without modules; None where it is not installed."""
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
            send_paced(vehicles, 250.0, 1.0)
            before, started = cpu_s(process.pid), time.monotonic()
            send_paced(vehicles, 250.0, seconds)
            return 100 * (cpu_s(process.pid) - before) / (time.monotonic() - started)
        finally:
            process.kill()
            process.wait()
            sink.close()


# The least that a router in a process of its own can do: what it needs is the machine's, not ours.
FORWARDER = """
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


def latency(seconds: float) -> dict[str, float]:
    """Milliseconds through the router beyond the same two sockets directly, at 1,000 messages a second."""
    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        runtime(Path(folder)) as path,
        router(str(path)) as (process, ports),
    ):
        direct = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        direct.bind(("127.0.0.1", 0))
        routed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        routed.connect(("127.0.0.1", ports[1]))
        routed.send(frames_of(250, 1)[0])
        round_trips(routed, ports[0], 0.5)
        quiet = round_trips(routed, ports[0], seconds / 2)
        tell(process, "storm")
        try:
            # The module is compiled meanwhile.
            round_trips(routed, ports[0], 3.0)
            before = int(tell(process, "count") or "0")
            alone = round_trips(direct, direct.getsockname()[1], seconds / 2)
            least = forwarded(direct, seconds)
            through = round_trips(routed, ports[0], seconds)
            figures["storm_requests_per_s"] = (int(tell(process, "count") or "0") - before) / (2.5 * seconds)
        finally:
            direct.close()
            routed.close()
    figures["latency_p50_ms"] = through[0]
    figures["latency_p99_ms"] = through[1]
    figures["latency_p99_ms_without_storm"] = quiet[1]
    figures["direct_latency_p99_ms"] = alone[1]
    figures["forwarder_latency_p99_ms"] = least[1]
    figures["added_to_forwarder_p99_ms"] = through[1] - least[1]
    figures["added_latency_p50_ms"] = through[0] - alone[0]
    figures["added_latency_p99_ms"] = through[1] - alone[1]
    figures["latency_lost"] = through[2]
    return figures


def forwarded(receiver: socket.socket, seconds: float) -> tuple[float, float, float]:
    """`round_trips` through a process that does nothing but pass datagrams on."""
    port = str(receiver.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", FORWARDER, port], stdout=subprocess.PIPE, text=True)
    try:
        return round_trips(receiver, int(process.stdout.readline() if process.stdout else "0"), seconds)
    finally:
        process.kill()
        process.wait()


HEARTBEAT = {"autopilot": 12, "type": 2, "mavlink_version": 3, "base_mode": 1, "system_status": 3}


def round_trips(receiver: socket.socket, port: int, seconds: float) -> tuple[float, float, float]:
    """p50 and p99 in milliseconds from sending a frame to receiving it, and how many did not come."""
    definition = default_dialect()["NAMED_VALUE_INT"]
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", port))
    receiver.settimeout(0.2)
    times, number, lost = [], 0, 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        due = started + number / 1000.0
        while time.perf_counter() < due:
            time.sleep(0.0001)
        if number % 1000 == 0:
            # So that the vehicle is there for the application.
            beat = {**HEARTBEAT, "custom_mode": time.monotonic_ns() & 0xFFFF}
            sender.send(make_frame(default_dialect()["HEARTBEAT"], beat, system=1, component=1, sequence=0))
        number += 1
        # The same bytes from another socket would be a loop to the router, so every frame is one of its kind.
        values = {"time_boot_ms": time.monotonic_ns() & 0xFFFFFFFF, "value": number, "name": "latency"}
        raw = make_frame(definition, values, system=1, component=1, sequence=number & 255)
        sent = time.perf_counter()
        sender.send(raw)
        try:
            while receiver.recv(2048) != raw:
                pass
        except TimeoutError:
            lost += 1
            continue
        times.append((time.perf_counter() - sent) * 1000)
    sender.close()
    ordered = sorted(times)
    return statistics.median(ordered), ordered[math.ceil(len(ordered) * 0.99) - 1], float(lost)


LIMITS: dict[str, tuple[str, float]] = {
    "route_frames_per_s": (">=", 150_000),
    "mavlink_to_px4_msgs_per_s": (">=", 40_000),
    "added_latency_p99_ms": ("<=", 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
        return
    full(Message("HEARTBEAT", {}))
    seconds = 2.0 if options.quick else 10.0
    figures = throughput(5_000 if options.quick else 50_000)
    figures |= cpu_shares(seconds)
    figures |= latency(seconds)
    figures["load_average"] = os.getloadavg()[0]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n")
    for name, value in figures.items():
        limit = LIMITS.get(name)
        verdict = ""
        if limit is not None:
            met = value >= limit[1] if limit[0] == ">=" else value <= limit[1]
            verdict = f"  limit {limit[0]} {limit[1]:,g}: {'met' if met else 'MISSED'}"
        print(f"{name:34} {value:16,.3f}{verdict}")


if __name__ == "__main__":
    main()
