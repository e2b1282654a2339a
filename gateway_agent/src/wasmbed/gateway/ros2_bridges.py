"""The thread of the ROS 2 bridge with a loop of its own: cyclonedds and the codecs never hold up the agent's loop.

One bridge a domain, started when the first instance needs it and again, after a while, when it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from wasmbed.bridges.ros2 import Bridge, Ros2Error, parse_routes, start
from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.names import remappings, resolve
from wasmbed.gateway.model import retry_delay_s
from wasmbed.gateway.ros2_recording import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from wasmbed.bridges.ros2 import BridgeConfig, Route
    from wasmbed.bridges.ros2.recording import RecordingStatistics
    from wasmbed.bridges.ros2.types import CodecFactory
    from wasmbed.gateway.ros2_config import Ros2Config

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
STOP_S: Final = 10.0
SWITCH_S: Final = 0.0005
PROBLEMS_S: Final = 5.0
MAX_TOLD: Final = 10_000
_KINDS: Final = (("topics", "topic"), ("services", "service"), ("actions", "action"))


@dataclass(frozen=True)
class DomainStatistics:
    """Starts of a domain's bridge, other nodes seen, its routes' figures by session, its recording's."""

    starts: int
    nodes: int
    sessions: Mapping[str, Mapping[str, Any]]
    recorded: RecordingStatistics | None


class Carried(Protocol):
    """What takes part in a domain while there is a bridge; `join` and `leave` are called on the bridge's loop."""

    @property
    def key(self) -> str: ...

    domain: int

    def join(self, bridge: Bridge) -> None:
        """Open what it has there; raises Ros2Error."""
        ...

    def leave(self) -> None:
        """Close it."""
        ...


class _Domain:
    """A bridge that is kept running, and the sessions it carries; on the bridge's loop."""

    def __init__(self, number: int, owner: Ros2Bridges) -> None:
        self.number = number
        self.bridge: Bridge | None = None
        self.recorded: RecordingStatistics | None = None
        self.starts = self.nodes = 0
        self.tried = asyncio.Event()
        self.sessions: dict[str, Carried] = {}
        self._owner = owner
        self._told: set[tuple[str, str, str]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            ended = asyncio.Event()
            try:
                async with start(
                    self._owner.config, self.number, codecs=self._owner.codecs(), on_end=ended.set
                ) as bridge:
                    await self._serve(bridge, ended)
                log.error("the ROS 2 bridge has ended and is started again domain=%d", self.number)
            except (Ros2Error, OSError) as error:
                log.error("no ROS 2 bridge domain=%d error=%s", self.number, error)
            except Exception:
                log.exception("the ROS 2 bridge has failed and is started again domain=%d", self.number)
            finally:
                self._down()
            failures = 1 if loop.time() - began > LAST_RETRY_S else failures + 1
            await asyncio.sleep(retry_delay_s(failures, first_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))

    async def _serve(self, bridge: Bridge, ended: asyncio.Event) -> None:
        self.bridge = bridge
        self.starts += 1
        for session in self.sessions.values():
            self.join(session)
        with recording(self._owner.section, self._owner.state_directory, bridge, self.number) as self.recorded:
            self._owner.on_state(self.number, True)
            self.tried.set()
            log.info("ROS 2 bridge started domain=%d node=%s", self.number, bridge.node.full_name)
            while not ended.is_set():
                self._tell_problems()
                with contextlib.suppress(Ros2Error):
                    # Without our own.
                    self.nodes = len(set(await bridge.node.backend.nodes()) - {bridge.node.full_name})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROBLEMS_S):
                        await ended.wait()

    def _tell_problems(self) -> None:
        """Log what is wrong with routes, such as an incompatible QoS, once."""
        bridge = self.bridge
        if bridge is not None:
            bridge.look()
        for key, routes in bridge.statistics().items() if bridge is not None else ():
            for route, figures in routes.items():
                for problem in figures["problems"]:
                    if (key, route, problem) not in self._told and len(self._told) < MAX_TOLD:
                        self._told.add((key, route, problem))
                        log.warning("route application=%s route=%s problem=%s", key, route, problem)

    def _down(self) -> None:
        for session in self.sessions.values():
            try:
                session.leave()
            except Exception:  # one session's fault must not stop the others
                log.exception("routes not closed application=%s", session.key)
        self.bridge = self.recorded = None
        self.nodes = 0
        self.tried.set()
        self._owner.on_state(self.number, False)

    def join(self, session: Carried) -> None:
        if self.bridge is not None:
            try:
                session.join(self.bridge)
            except Ros2Error as error:  # what the manifest says was checked before
                log.error("routes not opened application=%s error=%s", session.key, error)


class Ros2Bridges:
    """The thread. Its public methods belong to the agent's loop, where `on_state` gets a domain and if it is up."""

    def __init__(
        self,
        section: Ros2Config,
        gateway: str,
        state_directory: Path,
        on_state: Callable[[int, bool], None],
    ) -> None:
        self.section = section
        self.config: BridgeConfig = section.bridge(gateway)
        self.state_directory = state_directory
        self._agent = asyncio.get_running_loop()
        self._tell = on_state
        # Not the agent's uvloop: this one starts children from a thread.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ros2", daemon=True)
        self._domains: dict[int, _Domain] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._codecs: CodecFactory | None = None
        self._posted: deque[Callable[[], None]] = deque()
        self._waking = False

    def start(self) -> None:
        """Begin with the gateway's own domain and those that are recorded."""
        # The interpreter's lock goes back to the agent's loop sooner than after the usual 5 ms.
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()
        recorded = self.section.recording.topics if self.section.recording is not None else ()
        # The gateway's own, so that it is seen as a node before the first application comes.
        domains = {self.section.domain} | {item.domain for item in recorded if item.domain is not None}

        def begin() -> None:
            for domain in domains:
                self._domain(domain)

        self.post(begin)

    async def stop(self) -> None:
        """End all bridges and the thread."""

        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._on_loop(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, STOP_S)
        if not self._thread.is_alive():
            self._loop.close()

    def post(self, function: Callable[[], None]) -> None:
        """Run a function on the bridge's loop, in order; not at all when that has ended."""
        self._posted.append(function)
        # Waking a thread costs more than what most functions do: once for all of this turn of the agent's loop.
        if not self._waking:
            self._waking = True
            self._agent.call_soon(self._wake)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._run_posted)

    def _run_posted(self) -> None:
        self._waking = False  # before looking: what is posted from here on wakes the loop again
        for _ in range(len(self._posted)):
            try:
                self._posted.popleft()()
            except Exception:  # one application's fault must not stop the others
                log.exception("failed on the bridge's loop")

    def on_state(self, domain: int, up: bool) -> None:
        """Tell the agent's loop; on the bridge's."""
        with contextlib.suppress(RuntimeError):
            self._agent.call_soon_threadsafe(self._tell, domain, up)

    def codecs(self) -> CodecFactory:
        """All types that are known, made once; on the bridge's loop. Raises Ros2Error."""
        if self._codecs is None:
            self._codecs = self.config.codecs()
        return self._codecs

    async def routes(self, spec: Mapping[str, Any], device: str, domain: int) -> list[Route]:
        """Read the routes of a manifest; raises ConfigurationError whose message begins with the field."""

        async def read() -> list[Route]:
            return self._read(spec, device, domain)

        routes: list[Route] = await self._on_loop(read())
        return routes

    async def join(self, session: Carried) -> None:
        """Have a domain's bridge carry a session from now on, and after each start; waits for the first try."""

        async def join() -> None:
            domain = self._domain(session.domain)
            domain.sessions[session.key] = session
            domain.join(session)
            await domain.tried.wait()

        await self._on_loop(join())

    async def leave(self, session: Carried) -> None:
        """Carry a session no longer."""

        async def leave() -> None:
            self._leave(session)

        await self._on_loop(leave())

    def drop(self, session: Carried) -> None:
        """As `leave`, without waiting for it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._leave, session)

    def _leave(self, session: Carried) -> None:
        domain = self._domains.get(session.domain)
        if domain is not None and domain.sessions.get(session.key) is session:
            del domain.sessions[session.key]
        session.leave()

    def statistics(self) -> dict[int, DomainStatistics]:
        """What is known of every domain."""
        return {
            number: DomainStatistics(
                *(domain.starts, domain.nodes),
                *(domain.bridge.statistics() if domain.bridge is not None else {}, domain.recorded),
            )
            for number, domain in list(self._domains.items())
        }

    def _domain(self, number: int) -> _Domain:
        domain = self._domains.get(number)
        if domain is None:
            domain = self._domains[number] = _Domain(number, self)
            self._tasks.append(self._loop.create_task(domain.run()))
        return domain

    def _read(self, spec: Mapping[str, Any], device: str, domain: int) -> list[Route]:
        config = self.config
        rules = remappings(config.remap, config.node, config.namespace)
        name = ros_name(device)
        manifest = {key: [_filled(entry, kind, name) for entry in spec.get(key, [])] for key, kind in _KINDS}
        routes = parse_routes(
            manifest, lambda target: resolve(target, config.node, config.namespace, rules), self.codecs()
        )
        places = [f"{key}[{index}].{kind}" for key, kind in _KINDS for index in range(len(manifest[key]))]
        seen: set[str] = set()
        for place, route in zip(places, routes, strict=True):
            if domain not in config.policy.domains:
                raise ConfigurationError(f"domainId: {domain} is not in ros2.policy.domains of this gateway")
            refusal = config.policy.refusal(route, domain)
            if refusal is not None:
                raise ConfigurationError(f"{place}: {refusal}")
            if route.name in seen:
                raise ConfigurationError(f"{place}: {route.name} is there twice; give one route a `name`")
            seen.add(route.name)
        return routes

    async def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


def ros_name(device: str) -> str:
    """The name of a device (namespace/name) as a token of ROS names."""
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in device.rpartition("/")[2])
    return f"_{name}" if name[:1].isdigit() else name


def _filled(entry: Any, kind: str, device: str) -> Any:
    """A route of a manifest for one device: its alias stays as it is written."""
    if not isinstance(entry, dict) or not isinstance(entry.get(kind), str):
        return entry
    return {"name": entry[kind], **entry, kind: entry[kind].replace("{device}", device)}
