"""The vehicle's side of the mission, parameter and file protocols."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasmbed_sitl.constants import Out


class MissionServer:
    """One plan: the vehicle's side of upload, download and clear."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.items: list[dict[str, Any]] = []
        self.incoming: list[dict[str, Any]] = []
        self.count: int | None = None
        self.partner = (0, 0)
        self.due = 0.0
        self.tries = 0
        self.replaced = 0

    def _to(self, **fields: Any) -> dict[str, Any]:
        return {
            "target_system": self.partner[0],
            "target_component": self.partner[1],
            "mission_type": self.kind,
            **fields,
        }

    def _ask(self, now: float) -> Out:
        self.due = now + 0.25
        return [("MISSION_REQUEST_INT", self._to(seq=len(self.incoming)))]

    def _store(self) -> Out:
        self.items, self.incoming, self.count = self.incoming, [], None
        self.replaced += 1
        return [("MISSION_ACK", self._to(type=0))]

    def handle(self, name: str, fields: dict[str, Any], sender: tuple[int, int], now: float) -> Out:  # noqa: PLR0911
        if name == "MISSION_COUNT":
            self.partner, self.count, self.incoming, self.tries = sender, fields["count"], [], 0
            return self._store() if self.count == 0 else self._ask(now)
        if name == "MISSION_ITEM_INT":
            if self.count is None or sender != self.partner:
                self.partner = sender
                return [("MISSION_ACK", self._to(type=13))] if self.count is None else []
            if fields["seq"] != len(self.incoming):
                return []
            self.incoming.append(fields)
            self.tries = 0
            return self._store() if len(self.incoming) == self.count else self._ask(now)
        if name == "MISSION_REQUEST_LIST":
            self.partner = sender
            return [("MISSION_COUNT", self._to(count=len(self.items)))]
        if name in ("MISSION_REQUEST_INT", "MISSION_REQUEST"):
            self.partner = sender
            if fields["seq"] >= len(self.items):
                return [("MISSION_ACK", self._to(type=13))]
            return [("MISSION_ITEM_INT", {**self.items[fields["seq"]], **self._to()})]
        if name == "MISSION_CLEAR_ALL":
            self.partner, self.items, self.count = sender, [], None
            return [("MISSION_ACK", self._to(type=0))]
        if name == "MISSION_ACK" and fields["type"] != 0:
            self.count = None
        return []

    def step(self, now: float) -> Out:
        if self.count is None or now < self.due:
            return []
        self.tries += 1
        if self.tries > 5:
            self.count, self.incoming = None, []
            return [("MISSION_ACK", self._to(type=15))]
        return self._ask(now)


class ParameterServer:
    """Parameters by name: (value, type); PX4 sends bytes and a hash, ArduPilot casts to float."""

    def __init__(self, autopilot: str) -> None:
        self.bytewise = autopilot == "px4"
        self.values: dict[str, tuple[float, int]] = {
            "MIS_TAKEOFF_ALT": (2.5, 9),
            "COM_OF_LOSS_T": (1.0, 9),
            "SYS_AUTOSTART": (4001, 6),
            "CAL_MAG0_ID": (-5_000_000 if self.bytewise else -5_000, 6),
            "COM_OBL_RC_ACT": (0, 6),
            **{f"TEST_{number:03d}": (number / 4, 9) for number in range(60)},
        }
        self.limits = {"COM_OBL_RC_ACT": (0, 7)}
        self.silent = False
        self.writes: list[tuple[str, float]] = []

    def _wire(self, value: float, kind: int) -> float:
        if kind == 9 or not self.bytewise:
            return float(value)
        raw: float = struct.unpack("<f", struct.pack("<i", int(value)))[0]
        return raw

    def show(self, name: str) -> tuple[str, dict[str, Any]]:
        value, kind = self.values[name]
        return "PARAM_VALUE", {
            "param_id": name,
            "param_value": self._wire(value, kind),
            "param_bytes": struct.pack("<i" if self.bytewise and kind != 9 else "<f", value),
            "param_type": kind,
            "param_count": len(self.values),
            "param_index": list(self.values).index(name),
        }

    def hash(self) -> tuple[str, dict[str, Any]]:
        crc = 0xFFFFFFFF
        for name in sorted(self.values):
            value, kind = self.values[name]
            crc = zlib.crc32(name.encode() + struct.pack("<f" if kind == 9 else "<i", value), crc)
        raw = struct.pack("<I", crc ^ 0xFFFFFFFF)
        return "PARAM_VALUE", {
            "param_id": "_HASH_CHECK",
            "param_value": struct.unpack("<f", raw)[0],
            "param_bytes": raw,
            "param_type": 5,
            "param_count": len(self.values),
            "param_index": 0x7FFF,
        }

    def handle(self, name: str, fields: dict[str, Any], sender: tuple[int, int]) -> Out:
        if name == "PARAM_REQUEST_LIST":
            return [*([self.hash()] if self.bytewise else []), *(self.show(item) for item in self.values)]
        if name == "PARAM_REQUEST_READ":
            wanted = fields["param_id"]
            if fields["param_index"] >= 0:
                wanted = dict(enumerate(self.values)).get(fields["param_index"], "")
            elif wanted == "_HASH_CHECK" and self.bytewise:
                return [self.hash()]
            return [self.show(wanted)] if wanted in self.values else self._error(wanted, sender)
        wanted = fields["param_id"]
        if wanted not in self.values:
            return self._error(wanted, sender)
        kind = self.values[wanted][1]
        raw: bytes = fields["param_bytes"]
        value: float = struct.unpack("<i" if self.bytewise and kind != 9 else "<f", raw)[0]
        low, high = self.limits.get(wanted, (-math.inf, math.inf))
        if low <= value <= high and fields["param_type"] == kind:
            self.values[wanted] = (value if kind == 9 else int(value), kind)
            self.writes.append((wanted, value))
        return [] if self.silent else [self.show(wanted)]

    @staticmethod
    def _error(name: str, sender: tuple[int, int]) -> Out:
        target = {"target_system": sender[0], "target_component": sender[1]}
        return [("PARAM_ERROR", {**target, "param_id": name, "param_index": -1, "error": 1})]


class FileServer:
    """Files by path, read and written through one session; the last answer is kept for a repeated request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.open: bytes | None = None
        self.writing: str | None = None
        self.last: tuple[int, bytes] = (-1, b"")
        self.served: list[int] = []

    def handle(self, payload: bytes, sender: tuple[int, int]) -> Out:
        sequence, _session, opcode, size, _asked, _burst, offset = struct.unpack_from("<HBBBBBxI", payload)
        if sequence != self.last[0]:
            ok, session, data = self._do(opcode, payload[12 : 12 + size], size, offset)
            header = (sequence + 1) & 0xFFFF, session, 128 if ok else 129, len(data), opcode, 0, offset
            self.last = sequence, (struct.pack("<HBBBBBxI", *header) + data).ljust(251, b"\0")
        target = {"target_system": sender[0], "target_component": sender[1]}
        return [("FILE_TRANSFER_PROTOCOL", {**target, "payload": list(self.last[1])})]

    def _do(self, opcode: int, data: bytes, size: int, offset: int) -> tuple[bool, int, bytes]:  # noqa: PLR0911
        if opcode == 4:
            self.open = self.files.get(data.decode())
            return (True, 5, struct.pack("<I", len(self.open))) if self.open is not None else (False, 0, b"\x0a")
        if opcode == 5 and self.open is not None:
            self.served.append(offset)
            part = self.open[offset : offset + size]
            return (True, 5, part) if part else (False, 5, b"\x06")
        if opcode == 1:
            self.open = self.writing = None
            return True, 5, b""
        if opcode == 3:
            return self._list(data.decode().rstrip("/"), offset)
        if opcode in (6, 11):
            return self._open_to_write(data.decode(), opcode == 6)
        if opcode == 7:
            if self.writing is None:
                return False, 0, b"\x04"
            old = self.files[self.writing].ljust(offset, b"\0")
            self.files[self.writing] = old[:offset] + data + old[offset + len(data) :]
            return True, 5, struct.pack("<I", len(data))
        if opcode == 14:
            found = self.files.get(data.decode())
            crc = zlib.crc32(found, 0xFFFFFFFF) ^ 0xFFFFFFFF if found is not None else 0
            return (True, 0, struct.pack("<I", crc)) if found is not None else (False, 0, b"\x0a")
        return False, 0, b"\x07"

    def _open_to_write(self, path: str, create: bool) -> tuple[bool, int, bytes]:
        if self.writing is not None:
            return False, 0, b"\x05"
        if not create and path not in self.files:
            return False, 0, b"\x0a"
        if create:
            self.files[path] = b""
        self.writing = path
        return True, 5, struct.pack("<I", len(self.files[path]))

    def _list(self, folder: str, offset: int) -> tuple[bool, int, bytes]:
        entries = []
        names = {name[len(folder) + 1 :] for name in self.files if name.startswith(folder + "/")}
        for name in sorted({name.split("/")[0] for name in names}):
            size = len(self.files.get(f"{folder}/{name}", b""))
            entries.append(f"F{name}\t{size}" if name in names else f"D{name}")
        if not names:
            return False, 0, b"\x0a"
        part = b""
        for entry in entries[offset:]:
            if len(part) + len(entry) + 1 > 239:
                break
            part += entry.encode() + b"\0"
        return (True, 0, part) if part else (False, 0, b"\x06")
