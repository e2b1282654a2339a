"""The router: which ports a frame goes to (MAVLink routing guide), without sockets.

A port is one peer: a serial line, a TCP connection, a UDP address or something inside the gateway. Frames are never
changed. Routes are learned from who sends; a frame for everybody goes to every other port, an addressed one to the
ports where its target was heard. A frame whose very bytes were seen within `loop_window_s` from another port has come
round in a circle and ends here.

Redundant ports each lead to the same vehicles, which take what comes by two of them for two orders. So a message that
can name a target leaves such a group by one port, by which the target is heard; by all of them, as a search, when it
was not heard for `peer_timeout_s`.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from wasmbed.bridges.mavlink.filters import Gate, Rules
from wasmbed.bridges.mavlink.frames import Frame

SYSTEM_TIME = 2
# What radios say of themselves; it proves nothing about the vehicle at the other end.
_RADIO_REPORTS = frozenset({109, 166})
LOOP_WINDOW_S = 3.0
MERGE_WINDOW_S = 1.0
_MAX_REMEMBERED = 65536
# Less than an order is sent again for, so that its last copy goes by the port that is left.
SILENT_S = 0.9
# SYSTEM_TIME frames that overtook each other are no reboot.
_REORDERED_MS = 3000


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """What holds for a port. Ports with the same `redundancy` are several ways to the same vehicles.

    What such a port brought shows for `peer_timeout_s` that it reaches a vehicle.

    Broadcasts do not pass between ports with the same `isolation`: vehicles on one endpoint need not hear each other.
    `drop_repeats` also ends frames that come twice from this very port, for links that duplicate.
    """

    name: str
    incoming: Rules = field(default_factory=Rules)
    outgoing: Rules = field(default_factory=Rules)
    redundancy: str = ""
    isolation: str = ""
    drop_repeats: bool = False
    peer_timeout_s: float = 60.0


class _Group:
    """Redundant ports, and which of them leads to a component (system << 8 | component), or system (component 0).

    It stays the same while it brings something: an autopilot knows a transfer only on the link it was begun on.
    """

    __slots__ = ("bits", "leads", "merger")

    def __init__(self) -> None:
        self.bits = 0
        self.leads: dict[int, tuple[_Port, float]] = {}
        self.merger = _Merger()

    def heard(self, port: "_Port", frame: Frame, now: float) -> None:
        """A port of the group brought a frame."""
        if frame.id in _RADIO_REPORTS:
            return
        leads, heard, silent = self.leads, (port, now), now - SILENT_S
        for key in (frame.system << 8 | frame.component, frame.system << 8):
            before = leads.get(key)
            if before is None or before[0] is port or before[1] < silent:
                leads[key] = heard

    def one_way(self, among: int, frame: Frame, now: float) -> int:
        """Those of the ports `among` by which a frame that can name a target leaves."""
        system = frame.target_system << 8
        if system:
            keys = (system | frame.target_component, system)
            return next((bit for key in keys if (bit := self._lead(key, now) & among)), among)
        # For all vehicles: by each port that is the way to one of them.
        bits = 0
        for key in self.leads:
            if not key & 0xFF:
                bits |= self._lead(key, now)
        return bits & among or among

    def forget(self, number: int, port: "_Port") -> None:
        """A port leaves."""
        self.bits &= ~port.bit
        self.leads = {key: lead for key, lead in self.leads.items() if lead[0] is not port}
        self.merger.forget(number)

    def _lead(self, key: int, now: float) -> int:
        lead = self.leads.get(key)
        return lead[0].bit if lead is not None and now - lead[1] <= lead[0].peer_timeout_s else 0


class _Port:
    __slots__ = ("bit", "group", "incoming", "isolation", "outgoing", "peer_timeout_s", "repeats")

    def __init__(self, policy: PortPolicy, bit: int, group: _Group | None) -> None:
        self.bit = bit
        self.group = group
        self.isolation = policy.isolation
        self.peer_timeout_s = policy.peer_timeout_s
        self.repeats = _Repeats() if policy.drop_repeats else None
        self.incoming = None if policy.incoming.empty else Gate(policy.incoming)
        self.outgoing = None if policy.outgoing.empty else Gate(policy.outgoing)


@dataclass(slots=True)
class RouterCounts:
    """Frames routed, ended as loops or duplicates, without a route, and reboots that cleared routes."""

    frames: int = 0
    loops: int = 0
    duplicates: int = 0
    unroutable: int = 0
    reboots: int = 0


class Router:
    """Decides; the caller sends. Ports are numbers, given out by `add` and free again after `remove`."""

    def __init__(self, *, loop_window_s: float = LOOP_WINDOW_S) -> None:
        self.counts = RouterCounts()
        self._ports: dict[int, _Port] = {}
        self._mask = 0
        self._systems: dict[int, int] = {}
        self._components: dict[int, int] = {}
        self._boot_ms: dict[int, int] = {}
        self._numbers: dict[int, tuple[int, ...]] = {0: ()}
        self._groups: dict[str, _Group] = {}
        self._grouped = 0
        self._isolated: dict[str, int] = {}
        self._gated = False
        self._window_s = loop_window_s
        self._recent: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}
        self._turn_at = 0.0

    def add(self, policy: PortPolicy) -> int:
        """A new port; the lowest free number."""
        number = 0
        while number in self._ports:
            number += 1
        bit = 1 << number
        group = self._groups.setdefault(policy.redundancy, _Group()) if policy.redundancy else None
        self._ports[number] = _Port(policy, bit, group)
        self._mask |= bit
        if group is not None:
            group.bits |= bit
            self._grouped |= bit
        if policy.isolation:
            self._isolated[policy.isolation] = self._isolated.get(policy.isolation, 0) | bit
        self._changed()
        return number

    def remove(self, number: int) -> None:
        """Forget a port and every route over it."""
        port = self._ports.pop(number)
        self._mask &= ~port.bit
        for routes in (self._systems, self._components):
            for key in [key for key, mask in routes.items() if mask & port.bit]:
                routes[key] &= ~port.bit
                if not routes[key]:
                    del routes[key]
        if port.group is not None:
            port.group.forget(number, port)
            self._grouped &= ~port.bit
        if port.isolation:
            self._isolated[port.isolation] &= ~port.bit
        # A new port with this number must not inherit what this one sent.
        for seen in (self._recent, self._older):
            for raw in [raw for raw, origin in seen.items() if origin == number]:
                seen[raw] = -1
        self._changed()

    def ports_of(self, system: int, component: int = 0) -> tuple[int, ...]:
        """Where a system (and component) was heard."""
        if component:
            return self._tuple(self._components.get(system << 8 | component, 0))
        return self._tuple(self._systems.get(system, 0))

    @property
    def systems(self) -> tuple[int, ...]:
        """The systems that have a route."""
        return tuple(sorted(self._systems))

    def gates(self, number: int) -> tuple[Gate | None, Gate | None]:
        """The gates of a port, for their counts."""
        port = self._ports[number]
        return port.incoming, port.outgoing

    def learn(self, number: int, system: int, component: int) -> None:
        """Make a route without a frame, as for a component of the gateway that has not spoken yet."""
        bit = self._ports[number].bit
        self._systems[system] = self._systems.get(system, 0) | bit
        key = system << 8 | component
        self._components[key] = self._components.get(key, 0) | bit

    def remember(self, raw: bytes, number: int, now: float) -> None:
        """Note a frame that a port sent by other ways than `route`, so that it ends when it comes back."""
        if now >= self._turn_at or len(self._recent) >= _MAX_REMEMBERED:
            self._turn(now)
        self._recent[raw] = number

    # With as few calls as can be: the hot path of every frame.
    def route(self, number: int, frame: Frame, now: float) -> tuple[int, ...]:  # noqa: PLR0912
        """The ports a frame from port `number` goes to; `now` is in monotonic seconds."""
        port = self._ports[number]
        if port.incoming is not None and not port.incoming.passes(frame, now):
            return ()
        raw = frame.raw
        if now >= self._turn_at or len(self._recent) >= _MAX_REMEMBERED:
            self._turn(now)
        origin = self._recent.get(raw)
        if origin is None:
            origin = self._older.get(raw)
            self._recent[raw] = number if origin is None else origin
        repeated = port.repeats is not None and port.repeats.seen(frame)
        if origin is not None and (origin != number or repeated):
            self.counts.loops += 1
            return ()
        self.counts.frames += 1
        bit = port.bit
        system = frame.system
        if system:
            key = system << 8 | frame.component
            if frame.id == SYSTEM_TIME:
                self._check_reboot(key, frame)
            mask = self._components.get(key, 0)
            if not mask & bit:
                self._components[key] = mask | bit
                self._systems[system] = self._systems.get(system, 0) | bit
        group = port.group
        if group is not None:
            group.heard(port, frame, now)
            if not group.merger.first(number, frame, now):
                self.counts.duplicates += 1
                return ()
        if frame.target_system:
            mask = self._targets(frame.target_system, frame.target_component)
        else:
            mask = self._mask & ~self._isolated[port.isolation] if port.isolation else self._mask
        mask &= ~(bit if group is None else group.bits)
        if mask & self._grouped:
            mask = self._one_way_each(mask, frame, now)
        if not mask:
            self.counts.unroutable += 1
            return ()
        numbers = self._numbers.get(mask) or self._tuple(mask)
        if self._gated:
            ports = self._ports
            return tuple(
                other for other in numbers if (gate := ports[other].outgoing) is None or gate.passes(frame, now)
            )
        return numbers

    def _targets(self, system: int, component: int) -> int:
        # A component that was not heard yet is looked for where its system is.
        mask = self._components.get(system << 8 | component, 0) if component else 0
        return mask or self._systems.get(system, 0)

    def _one_way_each(self, mask: int, frame: Frame, now: float) -> int:
        if frame.definition is None or frame.definition.target_system_at < 0:
            # It cannot be an order, and radios' own ends want to hear heartbeats.
            return mask
        for group in self._groups.values():
            among = mask & group.bits
            if among & (among - 1):
                mask ^= among ^ group.one_way(among, frame, now)
        return mask

    def _check_reboot(self, key: int, frame: Frame) -> None:
        boot_ms = int.from_bytes(frame.payload[8:12], "little")
        before = self._boot_ms.get(key)
        self._boot_ms[key] = boot_ms
        if before is not None and boot_ms + _REORDERED_MS < before:
            # The clock of a vehicle that goes back means a reboot: its routes may be others now.
            self.counts.reboots += 1
            self._systems.pop(key >> 8, None)
            for other in [other for other in self._components if other >> 8 == key >> 8]:
                del self._components[other]

    def _turn(self, now: float) -> None:
        if self._recent and now >= self._turn_at + self._window_s:
            # Nothing came for a whole window, so nothing in it is recent.
            self._recent = {}
        self._older = self._recent
        self._recent = {}
        self._turn_at = now + self._window_s

    def _tuple(self, mask: int) -> tuple[int, ...]:
        numbers = self._numbers.get(mask)
        if numbers is None:
            numbers = tuple(number for number in self._ports if mask >> number & 1)
            if len(self._numbers) > 4096:
                self._numbers = {0: ()}
            self._numbers[mask] = numbers
        return numbers

    def _changed(self) -> None:
        self._numbers = {0: ()}
        self._gated = any(port.outgoing is not None for port in self._ports.values())


class _Content:
    """When a content passed lately, the number of the first of these, and by link the number that it brings next."""

    __slots__ = ("first", "following", "passed")

    def __init__(self) -> None:
        self.first = 0
        self.passed: list[float] = []
        self.following: dict[int, int] = {}


class _Merger:
    """Redundant links number their frames each for itself, so copies are told by content.

    The n-th copy of a content on one link answers the n-th on another. What passed longer than `MERGE_WINDOW_S` ago is
    not waited for: a link that lost copies must not owe them when it is the only one left.
    """

    def __init__(self) -> None:
        self._recent: dict[tuple[object, ...], _Content] = {}
        self._older: dict[tuple[object, ...], _Content] = {}
        self._turn_at = 0.0

    def first(self, number: int, frame: Frame, now: float) -> bool:
        if now >= self._turn_at or len(self._recent) >= _MAX_REMEMBERED:
            self._older, self._recent = self._recent, {}
            self._turn_at = now + MERGE_WINDOW_S
        key = (frame.system, frame.component, frame.id, frame.payload)
        item = self._recent.get(key)
        if item is None:
            item = self._recent[key] = self._older.get(key) or _Content()
        passed = item.passed
        if passed and passed[0] < now - MERGE_WINDOW_S:
            gone = bisect_left(passed, now - MERGE_WINDOW_S)
            del passed[:gone]
            item.first += gone
        at = max(item.following.get(number, 0), item.first)
        item.following[number] = at + 1
        if at < item.first + len(passed):
            return False
        passed.append(now)
        return True

    def forget(self, number: int) -> None:
        for item in (*self._recent.values(), *self._older.values()):
            item.following.pop(number, None)


class _Repeats:
    """Which places in the senders' counts were seen, so that a number that begins again is no copy.

    Numbers are put in one row, as those next to the highest: a copy is at most 128 frames late.
    """

    def __init__(self) -> None:
        self._highest: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def seen(self, frame: Frame) -> bool:
        """Whether a frame of this place came before; it is noted."""
        if len(self._places) >= _MAX_REMEMBERED:
            self._highest, self._places = {}, {}
        sender = frame.system << 8 | frame.component
        highest = self._highest.get(sender, frame.sequence)
        ahead = (frame.sequence - highest & 0xFF ^ 0x80) - 0x80
        place = highest + ahead
        self._highest[sender] = max(highest, place)
        slot = sender << 8 | frame.sequence
        before = self._places.get(slot)
        self._places[slot] = place
        return before == place
