"""Frames: finding them in bytes, checking them, making them (MAVLink packet serialization guide)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcrc import crc16

from wasmbed.bridges.mavlink.codec import Message, decode, encode
from wasmbed.bridges.mavlink.definitions import Definition, Dialect, default_dialect

MAGIC_V1 = 0xFE
MAGIC_V2 = 0xFD
SIGNED = 0x01
SIGNATURE_BYTES = 13
MAX_FRAME_BYTES = 280

_crc = crc16.mcrf4xx


def _byte_table() -> tuple[int, ...]:
    # One step of the checksum for the CRC_EXTRA byte, cheaper than a second call into the extension.
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_STEP = _byte_table()


class Frame:
    """One frame as it came, with what routing needs of it; `definition` is None for a message nobody here knows.

    The checksum of an unknown message cannot be checked: it needs the definition.
    """

    __slots__ = (
        "component",
        "definition",
        "id",
        "raw",
        "sequence",
        "signed",
        "system",
        "target_component",
        "target_system",
    )

    def __init__(
        self,
        raw: bytes,
        number: int,
        system: int,
        component: int,
        sequence: int,
        signed: bool,
        target_system: int,
        target_component: int,
        definition: Definition | None,
    ) -> None:
        self.raw = raw
        self.id = number
        self.system = system
        self.component = component
        self.sequence = sequence
        self.signed = signed
        self.target_system = target_system
        self.target_component = target_component
        self.definition = definition

    @property
    def payload(self) -> bytes:
        """The payload as it is on the wire, truncated."""
        if self.raw[0] == MAGIC_V1:
            return self.raw[6:-2]
        return self.raw[10 : 10 + self.raw[1]]

    @property
    def link_id(self) -> int:
        """The link id of the signature; only of a signed frame."""
        return self.raw[-SIGNATURE_BYTES]

    @property
    def timestamp(self) -> int:
        """The signature's time in 10 us since 2015-01-01; only of a signed frame."""
        return int.from_bytes(self.raw[-12:-6], "little")

    def __repr__(self) -> str:
        name = self.definition.name if self.definition else f"message {self.id}"
        return f"<Frame {name} from {self.system}/{self.component} seq {self.sequence}, {len(self.raw)} bytes>"


def decode_frame(frame: Frame) -> Message | None:
    """The message of a frame, None when it is unknown."""
    definition = frame.definition
    if definition is None:
        return None
    return Message(definition.name, decode(definition, frame.payload), frame.system, frame.component)


@dataclass(slots=True)
class ParserCounts:
    """What a parser saw: frames, bytes outside of frames, wrong checksums, unknown flags and unknown messages."""

    frames: int = 0
    skipped_bytes: int = 0
    bad_checksum: int = 0
    unknown_flags: int = 0
    unknown_messages: int = 0


class FrameParser:
    """Bytes in, frames out. A stream keeps what is incomplete; a datagram ends with its last byte.

    A wrong checksum costs one byte, not the frame's length, so a frame behind noise that looks like a start is found.
    """

    def __init__(self, *, datagrams: bool = False, dialect: Dialect | None = None) -> None:
        self.counts = ParserCounts()
        self._datagrams = datagrams
        self._buffer = b""
        self._table: Mapping[int, tuple[int, int, int, Definition]] = _routing_table(dialect or default_dialect())

    def reset(self) -> None:
        """Forget an incomplete frame, as after a reconnection."""
        self._buffer = b""

    # One loop without calls: this is the hot path of every byte that comes in.
    def feed(self, data: bytes) -> list[Frame]:  # noqa: PLR0912, PLR0915
        """The frames that `data` completes."""
        buffer = self._buffer + data if self._buffer else data
        frames: list[Frame] = []
        at, end = 0, len(buffer)
        table, step, crc_of = self._table, _STEP, _crc
        while end - at >= 8:
            magic = buffer[at]
            if magic == MAGIC_V2:
                length = buffer[at + 1]
                flags = buffer[at + 2]
                if flags:
                    if flags != SIGNED:
                        self.counts.unknown_flags += 1
                        at = self._skip(buffer, at)
                        continue
                    checked, stop = at + 10 + length, at + 25 + length
                else:
                    checked, stop = at + 10 + length, at + 12 + length
                if stop > end:
                    if not self._datagrams:
                        break
                    at = self._skip(buffer, at)
                    continue
                number = buffer[at + 7] | buffer[at + 8] << 8 | buffer[at + 9] << 16
                payload = at + 10
                sequence, system, component = buffer[at + 4], buffer[at + 5], buffer[at + 6]
            elif magic == MAGIC_V1:
                length = buffer[at + 1]
                flags = 0
                checked, stop = at + 6 + length, at + 8 + length
                if stop > end:
                    if not self._datagrams:
                        break
                    at = self._skip(buffer, at)
                    continue
                number = buffer[at + 5]
                payload = at + 6
                sequence, system, component = buffer[at + 2], buffer[at + 3], buffer[at + 4]
            else:
                at = self._skip(buffer, at)
                continue
            entry = table.get(number)
            if entry is None:
                if not self._plausible(buffer, stop, end):
                    self.counts.bad_checksum += 1
                    at = self._skip(buffer, at)
                    continue
                self.counts.unknown_messages += 1
                frames.append(Frame(buffer[at:stop], number, system, component, sequence, flags != 0, 0, 0, None))
                at = stop
                continue
            extra, system_at, component_at, definition = entry
            crc = crc_of(buffer[at + 1 : checked])
            if (crc >> 8) ^ step[(crc ^ extra) & 0xFF] != buffer[checked] | buffer[checked + 1] << 8:
                self.counts.bad_checksum += 1
                at = self._skip(buffer, at)
                continue
            frames.append(
                Frame(
                    buffer[at:stop],
                    number,
                    system,
                    component,
                    sequence,
                    flags != 0,
                    buffer[payload + system_at] if 0 <= system_at < length else 0,
                    buffer[payload + component_at] if 0 <= component_at < length else 0,
                    definition,
                )
            )
            at = stop
        self.counts.frames += len(frames)
        if self._datagrams:
            self.counts.skipped_bytes += end - at
            self._buffer = b""
        else:
            self._buffer = buffer[at:]
        return frames

    def _skip(self, buffer: bytes, at: int) -> int:
        v2, v1 = buffer.find(MAGIC_V2, at + 1), buffer.find(MAGIC_V1, at + 1)
        following = min(v1, v2) if v1 >= 0 and v2 >= 0 else max(v1, v2)
        if following < 0:
            following = len(buffer)
        self.counts.skipped_bytes += following - at
        return following

    def _plausible(self, buffer: bytes, stop: int, end: int) -> bool:
        # Without a checksum only what follows tells a frame from noise.
        return stop == end or buffer[stop] in (MAGIC_V1, MAGIC_V2)


def _routing_table(dialect: Dialect) -> dict[int, tuple[int, int, int, Definition]]:
    return {
        number: (item.crc_extra, item.target_system_at, item.target_component_at, item)
        for number, item in dialect.messages.items()
    }


def make_frame(
    definition: Definition,
    values: Mapping[str, Any],
    *,
    system: int,
    component: int,
    sequence: int,
    version: int = 2,
    signed: bool = False,
) -> bytes:
    """A frame without its signature; `signed` sets the flag a signature needs (`signing.sign` appends it).

    MAVLink 1 has no extension fields, no message ids above 255 and no signature: ValueError for those.
    """
    payload = encode(definition, values)
    if version == 1:
        if definition.id > 255 or signed:
            raise ValueError(f"{definition.name} cannot be sent as MAVLink 1; use version 2")
        payload = payload[: definition.base_bytes]
        body = bytes((len(payload), sequence, system, component, definition.id)) + payload
        magic = MAGIC_V1
    else:
        # The first byte of a payload always stays.
        payload = payload[:1] + payload[1:].rstrip(b"\0")
        flags = SIGNED if signed else 0
        body = bytes((len(payload), flags, 0, sequence, system, component)) + definition.id.to_bytes(3, "little")
        body += payload
        magic = MAGIC_V2
    crc = _crc(body)
    crc = (crc >> 8) ^ _STEP[(crc ^ definition.crc_extra) & 0xFF]
    return bytes((magic,)) + body + crc.to_bytes(2, "little")
