"""One participant in one domain, and the thread on which its data and its problems arrive."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final
from xml.sax.saxutils import quoteattr

from wasmbed.bridges.ros2.dds import binding
from wasmbed.bridges.ros2.errors import ConfigurationError, Ros2Error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_DOMAIN: Final = 232
_WAIT_NS: Final = 1_000_000_000
_MAX_CONFIG: Final = 1 << 16
# The type objects of Fast DDS 3 (vendor 1.15) are invalid to Cyclone 11, which then never matches: names decide.
_COMPATIBILITY: Final = "<Compatibility><IgnoreTypeInformation>1.15</IgnoreTypeInformation></Compatibility>"


@dataclass(frozen=True)
class Discovery:
    """How participants find each other: by multicast, a list of addresses, or as a Cyclone configuration file says."""

    interfaces: tuple[str, ...] = ()
    multicast: bool = True
    peers: tuple[str, ...] = ()
    max_participants: int = 120
    file: Path | None = None

    def xml(self) -> str:
        """The configuration in Cyclone's XML; raises ConfigurationError for a file that cannot be read."""
        if self.file is not None:
            try:
                with self.file.open("rb") as source:
                    data = source.read(_MAX_CONFIG + 1)
                if len(data) > _MAX_CONFIG:
                    raise ConfigurationError(f"discovery.file: {self.file} is longer than {_MAX_CONFIG} bytes")
                return data.decode()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"discovery.file: {error}") from None
        interfaces = "".join(
            f'<NetworkInterface name={quoteattr(name)} multicast="{str(self.multicast).lower()}"/>'
            for name in self.interfaces
        )
        peers = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in self.peers)
        return (
            "<CycloneDDS><Domain><General>"
            + (f"<Interfaces>{interfaces}</Interfaces>" if interfaces else "")
            + f"<AllowMulticast>{str(self.multicast).lower()}</AllowMulticast></General><Discovery>"
            + f"<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>{self.max_participants}"
            + f"</MaxAutoParticipantIndex>{f'<Peers>{peers}</Peers>' if peers else ''}</Discovery>"
            + f"{_COMPATIBILITY}</Domain></CycloneDDS>"
        )

    def variables(self) -> dict[str, str]:
        """The same for ROS's own nodes (Iron and later), as far as they can be told: not which interfaces."""
        found = {"ROS_STATIC_PEERS": ";".join(self.peers)} if self.peers else {}
        if not self.multicast or self.interfaces == ("lo",):
            found["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        return found


class _Domains:
    """Cyclone's domains are global to the process: the first user of an id configures it, the last one deletes it."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    open: ClassVar[dict[int, tuple[Any, str, int]]] = {}

    @classmethod
    def acquire(cls, domain_id: int, xml: str) -> None:
        with cls.lock:
            found = cls.open.get(domain_id)
            if found is None:
                try:
                    entity = binding.domain.Domain(domain_id, xml)
                except (binding.DDSException, UnicodeEncodeError) as error:
                    raise ConfigurationError(
                        f"domain {domain_id}: cyclonedds refused its configuration, or a port from "
                        f"{7400 + 250 * domain_id} on is in use (its log says which): {error}"
                    ) from None
                found = (entity, xml, 0)
            elif found[1] != xml:
                raise ConfigurationError(f"domain {domain_id} is in use with another discovery configuration")
            cls.open[domain_id] = (found[0], xml, found[2] + 1)

    @classmethod
    def release(cls, domain_id: int) -> None:
        with cls.lock:
            entity, xml, users = cls.open.pop(domain_id)
            if users > 1:
                cls.open[domain_id] = (entity, xml, users - 1)
            else:
                binding.delete(entity)


class Context:
    """A participant; `watch` has callbacks run on its thread when an entity has something."""

    def __init__(self, domain_id: int, discovery: Discovery, enclave: str = "/") -> None:
        """Raises ConfigurationError when the domain cannot be joined."""
        if not 0 <= domain_id <= MAX_DOMAIN:
            raise ConfigurationError(f"domainId: {domain_id} is not within 0 to {MAX_DOMAIN}")
        self.domain_id = domain_id
        _Domains.acquire(domain_id, discovery.xml())
        try:
            qos = binding.participant_qos(f"enclave={enclave};".encode(), enclave)
            self.participant = binding.domain.DomainParticipant(domain_id, qos)
        except binding.DDSException as error:
            _Domains.release(domain_id)
            raise ConfigurationError(f"domain {domain_id}: no participant: {error}") from None
        self._waitset = binding.WaitSet(self.participant)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._paused: dict[int, tuple[float, Any]] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._closing = False
        self._guard = binding.core.GuardCondition(self.participant)
        self.watch(self._guard, lambda: None)
        self._thread = threading.Thread(target=self._run, name=f"ros2-domain-{domain_id}", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        return self._closing

    def watch(self, entity: Any, callback: Callable[[], None]) -> int:
        """Run callback when the entity triggers, until `unwatch` with the number returned."""
        with self._lock:
            self._next += 1
            number = self._next
            self._callbacks[number] = callback
        self._waitset.attach(entity, number)
        return number

    def unwatch(self, entity: Any, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)
            self._paused.pop(number, None)
        self._waitset.detach(entity)

    def pause(self, entity: Any, number: int, seconds: float) -> None:
        """Leave an entity alone for a while, but not the others; on this thread."""
        with self._lock:
            if number in self._callbacks:
                self._waitset.detach(entity)
                self._paused[number] = (time.monotonic() + seconds, entity)

    def _resume(self) -> int:
        """Watch again what was paused long enough; returns the nanoseconds until the next one is."""
        if not self._paused:
            return _WAIT_NS
        with self._lock:
            now = time.monotonic()
            for number, (due, entity) in list(self._paused.items()):
                if due <= now:
                    del self._paused[number]
                    self._waitset.attach(entity, number)
            return min([_WAIT_NS, *(int((due - now) * 1e9) for due, _ in self._paused.values())])

    def delete(self, entity: Any) -> None:
        """Delete an entity; the thread never sees it half gone, since callbacks tolerate a dead reference."""
        binding.delete(entity)

    def close(self) -> None:
        """Stop the thread and leave the domain."""
        if self._closing:
            return
        self._closing = True
        self._guard.set(True)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        binding.delete(self.participant)
        _Domains.release(self.domain_id)

    def _run(self) -> None:
        while not self._closing:
            try:
                numbers = self._waitset.wait(self._resume())
            except Ros2Error as error:
                if not self._closing:
                    log.error("the thread of a domain ends domain=%d error=%s", self.domain_id, error)
                return
            for number in numbers:
                callback = self._callbacks.get(number)
                if callback is None:
                    continue
                try:
                    callback()
                except Exception:  # one endpoint's failure must not stop the others
                    if not self._closing:
                        log.exception("callback failed domain=%d", self.domain_id)
