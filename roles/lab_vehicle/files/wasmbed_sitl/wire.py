"""One vehicle on one UDP socket, by pymavlink."""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from pymavlink.dialects.v20 import common

if TYPE_CHECKING:
    from pathlib import Path

    from wasmbed_sitl.constants import Out
    from wasmbed_sitl.vehicle import SimulatedVehicle


class Wire:
    """One vehicle on one UDP socket, by pymavlink."""

    def __init__(self, vehicle: SimulatedVehicle, address: tuple[str, int]) -> None:
        self.module: Any = common
        self.vehicle = vehicle
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(address)
        self.mav = common.MAVLink(None, vehicle.system, 1)
        self.mav.robust_parsing = True

    def use_key(self, file: Path | None) -> None:
        """Sign with the key in a file (64 hexadecimal digits) and hear nothing else, or sign nothing (None)."""
        signing = self.mav.signing
        signing.secret_key = bytes.fromhex(file.read_text()) if file is not None else None
        signing.sign_outgoing = file is not None
        # 10 us since 2015, as MAVLink's signatures count.
        signing.timestamp = int((time.time() - 1_420_070_400) * 100_000)

    def send(self, out: Out) -> None:
        for name, fields in out:
            cls = getattr(self.module, f"MAVLink_{name.lower()}_message", None)
            if cls is None:
                continue
            values = {key: value for key, value in fields.items() if key in cls.fieldnames}
            arguments = []
            for key, kind in zip(cls.fieldnames, cls.fieldtypes, strict=True):
                at = cls.ordered_fieldnames.index(key)
                empty: Any = b"" if kind == "char" else 0
                if cls.array_lengths[at] and kind != "char":
                    empty = [0] * cls.array_lengths[at]
                value = values.get(key, empty)
                arguments.append(value.encode() if isinstance(value, str) else value)
            raw = bytearray(cls(*arguments).pack(self.mav))
            if "param_bytes" in fields:
                raw = self._with_bytes(raw, fields["param_bytes"], cls.crc_extra)
            self.mav.seq = (self.mav.seq + 1) % 256
            try:
                self.socket.send(raw)
            except OSError:
                return

    def _with_bytes(self, raw: bytearray, value: bytes, extra: int) -> bytearray:
        # A float of pymavlink cannot carry every integer's bytes.
        signature = raw[-13:] if raw[2] & 1 else bytearray()
        body = raw[: len(raw) - len(signature) - 2]
        body[10:14] = value
        frame = body + struct.pack("<H", self.module.x25crc(bytes(body[1:]) + bytes([extra])).crc)
        if not signature:
            return frame
        stamped = frame + signature[:7]
        return stamped + hashlib.sha256(self.mav.signing.secret_key + stamped).digest()[:6]

    def receive(self, now: float) -> None:
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            for item in self.mav.parse_buffer(data) or []:
                if item.get_type() == "BAD_DATA":
                    continue
                fields = {key: getattr(item, key) for key in item.get_fieldnames()}
                if item.get_type() == "PARAM_SET":
                    fields["param_bytes"] = bytes(item.get_msgbuf()[10:14])
                sender = (item.get_srcSystem(), item.get_srcComponent())
                self.send(self.vehicle.handle(item.get_type(), fields, sender, now))
