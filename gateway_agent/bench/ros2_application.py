"""An application in a runtime of its own behind the agent's host calls, for the ROS 2 benchmark.

All of the agent's path is there: the bridge's thread, the dispatcher, the runtime's socket, a worker, WebAssembly.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry
from ros2_latencies import latencies as latencies_at
from ros2_latencies import round_trips_of_bare, round_trips_of_ours
from ros2_roles import DEFINITION, IMU, SAMPLE, STORM, Process, resident_mib, stamping
from wasmbed.gateway.config import AgentConfig
from wasmbed.gateway.host_instances import route_handles
from wasmbed.gateway.hostcalls import HostCalls
from wasmbed.gateway.model import Wanted
from wasmbed.gateway.ros2 import Ros2Backend
from wasmbed.gateway.ros2_config import Ros2Config, Ros2DiscoveryConfig, Ros2PolicyConfig
from wasmbed.hostcalls import HostInstance, Status
from wasmbed.runtime import LogEvent, RuntimeClient, RuntimeGone, StartRequest, StateEvent, abi
from wasmbed.service.process import exempt_from_collection
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from wasmbed.bridges.ros2 import Bridge

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "gateway_agent/bench/ros2_probe.c"
GRANTS = (abi.SYS, abi.ROS2)
WAIT_S = 60.0
SKIP = 1000
SAMPLES = 3000
PACED_HZ = 40_000.0
# As deep as the subscription of rclpy.
QUEUE = 1000
# As the units of the role `gateway` have it.
AGENT_NICE, RUNTIME_NICE = -5, 5
# Of a sample's own time in an event.
_STAMP = slice(abi.ROS2_HEADER.size + 4, abi.ROS2_HEADER.size + 12)


def build_probe(directory: Path) -> bytes:
    """Compile the application."""
    module = directory / "probe.wasm"
    subprocess.run([str(ROOT / "scripts/build-example"), str(PROBE), str(module)], check=True)
    return module.read_bytes()


def write_package(directory: Path) -> Path:
    """The benchmark's own type as a user's package on disk."""
    package, _, name = SAMPLE.split("/")
    folder = directory / package
    (folder / "msg").mkdir(parents=True, exist_ok=True)
    (folder / "package.xml").write_text(f"<package><name>{package}</name></package>\n")
    (folder / "msg" / f"{name}.msg").write_text(DEFINITION[SAMPLE])
    return folder


class Gateway:
    """An agent without a cluster: backend, dispatcher and a client of the runtime, on the loop of this process."""

    def __init__(
        self,
        hosts: HostCalls,
        registry: CollectorRegistry,
        backend: Ros2Backend,
        client: RuntimeClient,
        runtime_pid: int,
    ) -> None:
        self.client = client
        self._registry = registry
        self._hosts, self._backend = hosts, backend
        self._pid = runtime_pid
        self._hosted: Any = None  # from `attach` on
        self._specs: dict[str, Wanted] = {}
        self._lines: dict[str, list[str]] = {}
        self._states: dict[str, StateEvent] = {}
        self._news = asyncio.Condition()
        self.handed: dict[int, float] = {}
        """When the bridge handed a message to the dispatcher, by the time it carries."""

    async def attach(self) -> None:
        """Take up the runtime."""
        self._hosted, _ = await self._hosts.attach(self.client, [], {})
        dispatcher: Any = self._hosts.dispatcher
        post = dispatcher._post

        def noted(peer: Any, events: Any) -> None:
            for event in events:
                if event.type == abi.EventType.ROS2:
                    self.handed[int.from_bytes(event.data[_STAMP], "little")] = time.time()
            post(peer, events)

        dispatcher._post = noted

    async def serve(self) -> None:
        """Do what the agent does with the runtime's events."""
        async for event in self.client.events():
            if isinstance(event, LogEvent):
                self._lines.setdefault(event.instance, []).append(event.text)
            elif isinstance(event, StateEvent):
                await self._hosted.observe(event)
                self._states[event.instance] = event
            else:
                self._hosted.submit(event)
                continue
            async with self._news:
                self._news.notify_all()

    async def start(
        self, name: str, wasm: bytes, routes: list[dict[str, Any]], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start an application and wait until it runs."""
        ros2 = {"topics": routes}
        request = StartRequest(
            *(name, f"sha256:{hashlib.sha256(wasm).hexdigest()}", f"bench/{name}", f"bench/{name}", "gateway"),
            grants=GRANTS,
            env=dict(environment or {}),
            routes=route_handles(ros2),
        )
        spec = HostInstance(name, request.application, "uid", request.device, frozenset(GRANTS), frozenset(), ros2)
        self._specs[name] = Wanted("", request, request.key(), spec)
        self._hosts.set_wanted(self._specs)
        await self.client.load(request.digest, wasm)
        await self._hosted.start(request)
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: name in self._states and self._states[name].state != "Starting")
        if self._states[name].state != "Running":
            raise RuntimeError(f"{name}: {self._states[name].message}")

    async def stop(self, name: str) -> None:
        await self._hosted.stop(name)
        self._lines.pop(name, None)
        self._states.pop(name, None)

    async def line(self, name: str, text: str) -> list[str]:
        """All lines of an application up to this one."""

        def found() -> list[str] | None:
            lines = self._lines.get(name, [])
            return lines[: lines.index(text)] if text in lines else None

        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: found() is not None)
        return found() or []

    async def read(self) -> float:
        """How many events applications have read."""
        return (await self.client.metrics()).get("calls wasmbed:sys.event_read", 0.0)

    async def until(self, reached: Callable[[float], bool]) -> None:
        """Wait for a count of events read."""
        async with asyncio.timeout(WAIT_S):
            while not reached(await self.read()):  # noqa: ASYNC110 - another process has no event to wait for
                await asyncio.sleep(0.05)

    def bridge(self, domain: int) -> Bridge:
        """The agent's bridge in a domain."""
        found = self._backend._bridges._domains[domain].bridge
        assert found is not None  # noqa: S101
        return found

    def published(self) -> float:
        """How many host calls to publish the agent has answered."""
        found = (
            self._registry.get_sample_value(
                "wasmbed_host_calls_total", {"module": "ros2", "op": "publish", "result": status.name.lower()}
            )
            for status in Status
        )
        return sum(count or 0.0 for count in found)

    def stamp(self, taken: dict[int, float]) -> None:
        """Note for every message when cyclonedds handed it over, by the time it carries."""
        for domain in self._backend._bridges._domains.values():
            for shared in domain.bridge._shared.values() if domain.bridge is not None else ():
                subscription = cast("Any", shared.subscription)
                subscription._callback = stamping(subscription._callback, taken)

    def cpu_s(self) -> float:
        """CPU seconds of this process and the runtime's."""
        own = os.times()
        return own.user + own.system + sum(map(_cpu_s, self._processes()))

    def rss_mib(self) -> float:
        """Resident memory of this process and the runtime's."""
        return resident_mib("self") + sum(map(resident_mib, self._processes()))

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return [self._pid, *map(int, children)]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def gateway(domain: int, directory: Path) -> AsyncIterator[Gateway]:
    """Run one with its runtime."""
    socket, config = directory / "runtime.sock", directory / "runtime.yaml"
    config.write_text(f"socket: {socket}\ncache_directory: {directory}/cache\n")
    # Before there are other threads, since each has a priority of its own.
    _prioritise(AGENT_NICE)
    exempt_from_collection()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wasmbed.runtime.main", "--config", str(config)),
        env=os.environ | {"WASMBED_LOG_LEVEL": "ERROR"},
        preexec_fn=lambda: _prioritise(RUNTIME_NICE),
    )
    ros2 = Ros2Config(
        domain=domain,
        packages=(write_package(directory),),
        discovery=Ros2DiscoveryConfig(interfaces=("lo",)),
        policy=Ros2PolicyConfig(("/*",), ("/*",)),
    )
    registry = CollectorRegistry()
    hosts = HostCalls(AgentConfig("bench", directory / "none"), registry)
    try:
        async with Ros2Backend.running(ros2, "bench", directory) as backend, await _connect(socket) as client:
            hosts.register(backend, backend)
            found = Gateway(hosts, registry, backend, client, process.pid)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(hosts.run())]
                await found.attach()
                tasks.append(group.create_task(found.serve()))
                try:
                    yield found
                finally:
                    for task in tasks:
                        task.cancel()
    finally:
        process.terminate()
        await process.wait()


def _prioritise(nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        print("the agent has not the priority of its unit: run as root")


async def _connect(socket: Path) -> RuntimeClient:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await RuntimeClient.connect(socket)
            except RuntimeGone:
                await asyncio.sleep(0.05)


def route(topic: str, type_name: str, encoding: str = "cdr") -> dict[str, Any]:
    return {
        "topic": topic,
        "name": "in",
        "type": type_name,
        "direction": "subscribe",
        "encoding": encoding,
        "qos": {"depth": 1000},
    }


async def delivered(
    bench: Gateway, wasm: bytes, domain: int, seconds: float, rate_hz: float = 0.0, encoding: str = "cdr"
) -> float:
    """Imu messages a second that an application has read, from a publisher of this rate, 0: as fast as it can."""
    await bench.start("sink", wasm, [route("/flood", IMU, encoding) | {"queue": QUEUE}])
    with Process("--role", "flood", "--domain", domain, "--rate", rate_hz):
        await bench.until(lambda read: read > 0)
        await asyncio.sleep(1.0)
        before, began = await bench.read(), time.monotonic()
        await asyncio.sleep(seconds)
        count, passed = await bench.read() - before, time.monotonic() - began
    await bench.stop("sink")
    return count / passed


@dataclass
class Turn:
    """Seconds from the publisher and from cyclonedds into an application, and to the dispatcher; CPU percent."""

    sent: list[float]
    added: list[float]
    handed: list[float]
    cpu_percent: float


async def latencies(bench: Gateway, wasm: bytes, domain: int, samples: int) -> Turn:
    """One turn at 1,000 messages a second."""
    environment = {"SAMPLES": str(samples), "SKIP": str(SKIP)}
    await bench.start("probe", wasm, [route("/t0", SAMPLE)], environment)
    taken: dict[int, float] = {}
    bench.stamp(taken)
    bench.handed.clear()
    with Process("--role", "pace", "--domain", domain, "--topics", 1):
        await bench.until(lambda _read: len(taken) >= SKIP)
        cpu, began = bench.cpu_s(), time.monotonic()
        lines = await bench.line("probe", "end")
        percent = (bench.cpu_s() - cpu) / (time.monotonic() - began) * 100
    await bench.stop("probe")
    digits = "".join(lines)
    pairs = [(int(digits[at : at + 16], 16), int(digits[at + 16 : at + 32], 16)) for at in range(0, len(digits), 32)]
    return Turn(
        [(seen - sent) / 1e9 for sent, seen in pairs],
        [seen / 1e9 - taken[sent] for sent, seen in pairs],
        [bench.handed[sent] - taken[sent] for sent, _ in pairs],
        percent,
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(
    domain: int, directory: Path, turns: int, seconds: float, rclpy: Callable[[float], float] | None
) -> dict[str, float]:
    """The figures of ros2.py that are an application's, and rclpy's (messages a second by the publisher's rate)."""
    wasm = build_probe(directory)
    found: dict[str, list[float]] = {}

    def note(figure: str, value: float) -> None:
        found.setdefault(figure, []).append(value)

    async with gateway(domain, directory) as bench:
        for _ in range(turns):
            for name in ("application", "storm_application"):
                async with storming(bench) if name.startswith("storm") else contextlib.AsyncExitStack():
                    turn = await latencies(bench, wasm, domain, SAMPLES)
                note(f"{name}_added_p50_us", percentile(turn.added, 0.5) * 1e6)
                note(f"{name}_added_p99_us", percentile(turn.added, 0.99) * 1e6)
                note(f"{name}_latency_p99_us", percentile(turn.sent, 0.99) * 1e6)
                note(f"{name}_handed_p99_us", percentile(turn.handed, 0.99) * 1e6)
                note(f"{name}_cpu_percent", turn.cpu_percent)
            async with storming(bench):
                at_bridge = await asyncio.to_thread(latencies_at, bench.bridge(domain), domain, 1, "cdr", seconds)
                backend: Any = bench.bridge(domain).node.backend
                bare = await asyncio.to_thread(round_trips_of_bare, backend, domain)
                ours = await asyncio.to_thread(round_trips_of_ours, backend, domain)
            note("storm_added_p99_us", percentile(at_bridge.added, 0.99) * 1e6)
            for prefix, times in (("storm_bare_rtt", bare), ("storm_rtt", ours)):
                note(f"{prefix}_p50_us", percentile(times, 0.5) * 1e6)
                note(f"{prefix}_p99_us", percentile(times, 0.99) * 1e6)
            for prefix, rate in (("", 0.0), ("paced_", PACED_HZ)):
                note(f"{prefix}delivered_per_s", await delivered(bench, wasm, domain, seconds, rate))
                if rclpy is not None:
                    note(f"rclpy_{prefix}delivered_per_s", await asyncio.to_thread(rclpy, rate))
            note("cbor_delivered_per_s", await delivered(bench, wasm, domain, seconds, encoding="cbor"))
        note("application_rss_mib", bench.rss_mib())
    return {name: statistics.median(values) for name, values in found.items()}


@contextlib.asynccontextmanager
async def storming(bench: Gateway) -> AsyncIterator[None]:
    """One more application in the same runtime, which publishes without end through the same dispatcher and bridge."""
    storm = {"topic": "/storm", "name": "storm", "type": "std_msgs/String", "direction": "publish", "encoding": "cdr"}
    await bench.start("storm", bytes(wat2wasm(STORM)), [storm])
    published = bench.published()
    async with asyncio.timeout(WAIT_S):
        while bench.published() <= published:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.05)
    try:
        yield
    finally:
        await bench.stop("storm")
