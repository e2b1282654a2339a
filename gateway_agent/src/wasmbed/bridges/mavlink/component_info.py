"""Component information: what a component says about itself in JSON files (COMPONENT_METADATA, MAVLink FTP)."""

import json
import lzma
import re
import zlib
from dataclasses import dataclass
from typing import Any

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids, Operation

MAX_JSON_BYTES = 16 * 1024 * 1024
_REQUEST_MESSAGE = 512
_METADATA = 397
_TIMEOUT_S = 0.5
_RETRIES = 10
_MFTP = re.compile(r"mftp://(?:\[;comp=(\d{1,3})\])?(/?.+)")
TYPES = {0: "general", 1: "parameter", 2: "commands", 3: "peripherals", 4: "events", 5: "actuators"}


class MetadataError(Exception):
    """Metadata that cannot be had or read; the message says why."""


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """Where a component's general metadata file is, and the CRC-32 it should have (0: not said)."""

    uri: str
    crc: int = 0

    def location(self, component: int) -> tuple[int, str]:
        """The component and path to ask by MAVLink FTP. MetadataError for another place, such as the internet."""
        found = _MFTP.fullmatch(self.uri)
        if found is None:
            raise MetadataError(f"{self.uri!r} is not on the vehicle; only mftp:// is read")
        asked = int(found[1]) if found[1] else component
        if asked > 255:
            raise MetadataError(f"{self.uri!r} names component {asked}")
        return asked, found[2]


class FindMetadata(Operation[MetadataSource]):
    """Ask a component where its metadata is; an empty URI when it has none or does not answer."""

    def __init__(self, ids: Ids) -> None:
        super().__init__(ids)
        self._tries = 0

    def start(self, now: float) -> None:
        """Request COMPONENT_METADATA."""
        self._tries += 1
        self._send("COMMAND_LONG", command=_REQUEST_MESSAGE, param1=float(_METADATA), confirmation=self._tries - 1)
        self.deadline = now + _TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Look for it, or for a refusal."""
        if self.result is not None or not self.ids.sent_by_target(item):
            return
        if item.name == "COMPONENT_METADATA":
            self._end(MetadataSource(item["uri"], item["file_crc"]))
        elif item.name == "COMMAND_ACK" and item["command"] == _REQUEST_MESSAGE and item["result"] in (2, 3, 4):
            self._end(MetadataSource(""))

    def advance(self, now: float) -> None:
        """Ask again, or give up."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if self._tries >= _RETRIES:
            self._end(MetadataSource(""))
        else:
            self.start(now)


def parse_metadata(data: bytes, crc: int = 0, *, compressed: bool = False) -> dict[str, Any]:
    """A metadata file's content. The CRC is that of the file as it is stored, compressed or not.

    MetadataError for a wrong CRC, a broken file, one that grows beyond 16 MiB and one that is no JSON object.
    """
    # MAVLink's CRC-32 starts at 0 and is not inverted.
    if crc and zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF != crc:
        raise MetadataError("the file's checksum is not the announced one; read it again")
    if compressed or data[:6] == b"\xfd7zXZ\x00":
        try:
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=64 * 1024 * 1024)
            data = unpacker.decompress(data, MAX_JSON_BYTES)
        except (lzma.LZMAError, EOFError) as error:
            raise MetadataError(f"the file cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise MetadataError("the file is cut off or grows too large")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"the file is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise MetadataError("the file is no JSON object")
    return value


def sources(general: dict[str, Any]) -> dict[str, MetadataSource]:
    """The further files that a general metadata file names, by what they are about."""
    found = {}
    entries = general.get("metadataTypes")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("uri"), str) and type(entry.get("type")) is int:
            crc = entry.get("fileCrc", 0)
            name = TYPES.get(entry["type"], str(entry["type"]))
            found[name] = MetadataSource(entry["uri"], crc if type(crc) is int else 0)
    return found
