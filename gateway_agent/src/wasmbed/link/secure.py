"""The gateway's end of the secure serial link, without input or output: bytes and time in, bytes and events out.

    gateway                          device
      <- KNOCK version                 it has no session
      -> INVITE version, nonce         also when the gateway has none
      <- MESSAGE1                      Noise IK; prologue: version, both ids, that nonce
      -> MESSAGE2
      <- DATA                          the device is sure of the gateway; now the gateway is of the device

Until that first protected message the session before goes on. Whatever does not prove its key is counted and not
answered. docs/link.md has the formats.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wasmbed.link import frames, noise
from wasmbed.link.frames import FrameType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VERSION: Final = 1
REKEY_MESSAGES: Final = 4096
NONCE_BYTES: Final = 16
ID_BYTES: Final = 64
HEARTBEAT_S: Final = 30.0
MISSED_HEARTBEATS: Final = 3
# As long as no session comes about: an invitation so often, and after an unanswered handshake.
INVITE_S: Final = 2.5
# Invitations that others on the line can make us send are this far apart.
INVITE_APART_S: Final = 0.5
# Handshakes that fit no candidate cost some work for each: further ones are looked at this much later.
REFUSED_APART_S: Final = 0.5
_EPOCH_STEPS: Final = 4
_MOST_PENDING: Final = 4
_MOST_STRANGERS: Final = 64
_LABEL: Final = b"wasmbed-link"


@dataclass(frozen=True)
class Ends:
    """Who may be at the ends of a line. ids are names of at most 64 bytes; keys have 32 bytes.

    privates: the gateway's private keys, first the one in use, then one that devices may still know instead; retired:
    those whose time is over, by which a device is recognised and not answered. devices: the public keys the device may
    have, likewise; empty for a device whose key is not known yet. name is the gateway's own name for the device
    (namespace/name), the id when it is empty.
    """

    device_id: bytes
    gateway_id: bytes
    privates: tuple[bytes, ...] = field(repr=False)
    devices: tuple[bytes, ...]
    name: str = ""
    retired: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in (self.device_id, self.gateway_id):
            if not 0 < len(name) <= ID_BYTES:
                raise ValueError(f"the id {name!r} has {len(name)} bytes; 1 to {ID_BYTES} are allowed")
        keys = (*self.privates, *self.retired, *self.devices)
        if not self.privates or any(len(key) != noise.KEY_BYTES for key in keys):
            raise ValueError(f"keys of {noise.KEY_BYTES} bytes are needed, and at least one private key")


@dataclass(frozen=True)
class Up:
    """A session is confirmed; device is the static key it proved, gateway the number of our key it used."""

    device: bytes
    gateway: int
    replaced: bool
    name: str


@dataclass(frozen=True)
class Lost:
    """The session is over; the text says why."""

    reason: str


@dataclass(frozen=True)
class Stranger:
    """A handshake by a static key that is not the device's of this name, or, outdated, with a key of ours whose time is
    over: told once for each key.
    """

    key: bytes
    name: str
    outdated: bool = False


@dataclass(frozen=True)
class Message:
    """One authentic message of the device."""

    data: bytes


SecureEvent = Up | Lost | Stranger | Message


@dataclass
class Counters:
    """Since the link was made."""

    frames_in: int = 0
    frames_out: int = 0
    bad_frames: int = 0
    replays: int = 0
    forged: int = 0
    handshakes: int = 0
    refused: int = 0
    strangers: int = 0
    lost: int = 0


def prologue(ends: Ends, nonce: bytes) -> bytes:
    """What both sides must agree on before the handshake."""
    return b"".join(
        (_LABEL, bytes([VERSION, len(ends.device_id)]), ends.device_id, bytes([len(ends.gateway_id)]), ends.gateway_id)
    ) + nonce  # fmt: skip


def encode_counter(counter: int) -> bytes:
    """LEB128 in its shortest form."""
    out = bytearray()
    while True:
        low, counter = counter & 0x7F, counter >> 7
        out.append(low | (0x80 if counter else 0))
        if not counter:
            return bytes(out)


def decode_counter(data: bytes) -> tuple[int, int] | None:
    """Return the counter and the bytes it took; None for what is not in its shortest form or above 64 bits."""
    value = 0
    for index, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return None if (byte == 0 and index) or value > noise.MAX_COUNTER else (value, index + 1)
    return None


class _Session:
    """Keys and counters of one session, from the gateway's side."""

    def __init__(self, keys: tuple[bytes, bytes], device: bytes, gateway: int, ends: Ends) -> None:
        self.ends = ends
        self._receive_key, self._send_key = keys
        self._send_counter = 0
        self._receive_counter = 0
        self.device = device
        self.gateway = gateway

    def seal(self, message: bytes) -> bytes:
        if self._send_counter and self._send_counter % REKEY_MESSAGES == 0:
            self._send_key = noise.rekey(self._send_key)
        body = encode_counter(self._send_counter) + noise.seal(self._send_key, self._send_counter, message)
        self._send_counter += 1
        return body

    def is_replay(self, counter: int) -> bool:
        return counter < self._receive_counter

    def open(self, counter: int, sealed: bytes) -> bytes:
        """Decrypt; what is not authentic moves nothing. Raises NoiseError."""
        epoch = max(0, self._receive_counter - 1) // REKEY_MESSAGES
        steps = counter // REKEY_MESSAGES - epoch
        if not 0 <= steps <= _EPOCH_STEPS:
            raise noise.NoiseError("the counter is out of reach")
        key = self._receive_key
        for _ in range(steps):
            key = noise.rekey(key)
        message = noise.unseal(key, counter, sealed)
        self._receive_key, self._receive_counter = key, counter + 1
        return message


class SecureLink:
    """One line's link. Times are seconds of any steady clock, the same for all calls."""

    def __init__(self, candidates: Callable[[], Iterable[Ends]], now: float) -> None:
        """candidates: the devices that may be at the other end, asked at each handshake.

        Which of them it is shows by its name, which the handshake proves to both ends without telling it to others.
        """
        self._candidates = candidates
        self._last_id = b""
        self._refused = now - REFUSED_APART_S
        self.counters = Counters()
        self.lost_after_s = HEARTBEAT_S * MISSED_HEARTBEATS
        self._reader = frames.FrameReader()
        self._session: _Session | None = None
        # Each answered handshake may be the one the device goes on with, whatever the line did to the others.
        self._pending: deque[_Session] = deque(maxlen=_MOST_PENDING)
        self._answered: tuple[bytes, bytes] = (b"", b"")
        self._nonce = os.urandom(NONCE_BYTES)
        self._heard = now
        self._invited = now - INVITE_S
        self._renewing = False
        self._strangers: set[tuple[bytes, bool]] = set()
        self._out = bytearray()

    @property
    def up(self) -> bool:
        """There is a confirmed session."""
        return self._session is not None

    def take(self) -> bytes:
        """Return the bytes to send now."""
        data, self._out = bytes(self._out), bytearray()
        return data

    def _send(self, kind: FrameType, body: bytes) -> None:
        self._out += frames.encode(kind, body)
        self.counters.frames_out += 1

    def _invite(self, now: float, apart_s: float) -> None:
        if now - self._invited >= apart_s:
            self._invited = now
            self._send(FrameType.INVITE, bytes([VERSION]) + self._nonce)

    def send(self, message: bytes) -> None:
        """Protect one message and queue it; raises NoiseError without a session."""
        if self._session is None:
            raise noise.NoiseError("there is no session")
        self._send(FrameType.DATA, self._session.seal(message))

    def renew(self, now: float) -> None:
        """Ask for a new handshake until there is one; the session before goes on until the new one is confirmed."""
        self._renewing = True
        self._invite(now, 0)

    def drop(self, reason: str) -> list[SecureEvent]:
        """Give the session up."""
        if self._session is None:
            return []
        self._session = None
        self._pending.clear()
        self.counters.lost += 1
        self._invited -= INVITE_S
        return [Lost(reason)]

    def poll(self, now: float) -> list[SecureEvent]:
        """Do what is due."""
        if self._session is not None:
            if now - self._heard < self.lost_after_s:
                if self._renewing:
                    self._invite(now, INVITE_S)
                return []
            events = self.drop(f"the device was silent for {now - self._heard:.0f} s")
            self._invite(now, 0)
            return events
        self._invite(now, INVITE_S)
        return []

    def due(self, now: float) -> float:
        """Return the seconds until poll has something to do without input."""
        invite, lost = self._invited + INVITE_S, self._heard + self.lost_after_s
        then = invite if self._session is None else min(invite, lost) if self._renewing else lost
        return max(0.0, then - now)

    def feed(self, data: bytes, now: float) -> Iterator[SecureEvent]:
        """Take received bytes; yields what came of them."""
        before = self._reader.bad
        for frame in self._reader.feed(data):
            match frame.kind:
                case FrameType.KNOCK if frame.body == bytes([VERSION]):
                    self._invite(now, INVITE_APART_S)
                case FrameType.MESSAGE1:
                    yield from self._take_message1(frame.body, now)
                case FrameType.DATA:
                    yield from self._take_data(frame.body, now)
                case _:
                    self.counters.bad_frames += 1
        self.counters.bad_frames += self._reader.bad - before

    def _take_message1(self, body: bytes, now: float) -> Iterator[SecureEvent]:
        if len(body) != noise.MESSAGE1_BYTES:
            self.counters.bad_frames += 1
            return
        if body == self._answered[0]:
            self._send(FrameType.MESSAGE2, self._answered[1])
            return
        if now - self._refused < REFUSED_APART_S:
            self.counters.refused += 1
            return
        # What costs time is the same for all candidates: a gateway that starts has a hundred devices at once.
        responders: dict[bytes, noise.Responder] = {}
        # Nearly always the device that was here before.
        for ends in sorted(self._candidates(), key=lambda item: item.device_id != self._last_id):
            for index, private in enumerate((*ends.privates, *ends.retired)):
                try:
                    if private not in responders:
                        responders[private] = noise.Responder(private, body)
                    handshake = responders[private].read(prologue(ends, self._nonce))
                except noise.NoiseError:
                    continue
                yield from self._answer(ends, index, handshake, body, now)
                return
        self._refused = now
        self.counters.refused += 1

    def _answer(
        self, ends: Ends, index: int, handshake: noise.Handshake, body: bytes, now: float
    ) -> Iterator[SecureEvent]:
        device = handshake.remote or b""
        outdated = index >= len(ends.privates)
        if outdated or device not in ends.devices:
            self.counters.strangers += 1
            if (device, outdated) not in self._strangers and len(self._strangers) < _MOST_STRANGERS:
                self._strangers.add((device, outdated))
                yield Stranger(device, ends.name or ends.device_id.decode("utf-8", "replace"), outdated)
            return
        answer = handshake.write2()
        self._pending.appendleft(_Session(handshake.split(), device, index, ends))
        self._answered = (body, answer)
        self._invited = now
        self._send(FrameType.MESSAGE2, answer)

    def _take_data(self, body: bytes, now: float) -> Iterator[SecureEvent]:
        found = decode_counter(body)
        if found is None or len(body) < found[1] + noise.TAG_BYTES:
            self.counters.bad_frames += 1
            return
        counter, sealed = found[0], body[found[1] :]
        for pending in self._pending:
            try:
                message = pending.open(counter, sealed)
            except noise.NoiseError:
                pass
            else:
                replaced = self._session is not None
                self._session = pending
                self._pending.clear()
                # Its nonce is used up: a recorded message 1 is worth nothing from now on.
                self._nonce, self._answered = os.urandom(NONCE_BYTES), (b"", b"")
                self._renewing = False
                self.counters.handshakes += 1
                self._heard = now
                self.counters.frames_in += 1
                self._last_id = pending.ends.device_id
                name = pending.ends.name or pending.ends.device_id.decode("utf-8", "replace")
                yield Up(pending.device, pending.gateway, replaced, name)
                yield Message(message)
                return
        if self._session is None:
            self.counters.forged += 1
            self._invite(now, INVITE_APART_S)
            return
        try:
            if self._session.is_replay(counter):
                self.counters.replays += 1
                raise noise.NoiseError("the message was there before")
            message = self._session.open(counter, sealed)
        except noise.NoiseError:
            self.counters.forged += not self._session.is_replay(counter)
            # Nothing but such messages: perhaps the device has a session that we do not know.
            if now - self._heard > INVITE_S:
                self._invite(now, INVITE_S)
            return
        self.counters.frames_in += 1
        self._heard = now
        yield Message(message)
