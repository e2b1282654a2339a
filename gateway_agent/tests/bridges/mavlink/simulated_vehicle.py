"""A simulated autopilot, written from the MAVLink guide; shares no code with the bridge and is no independent peer.

The protocols are in `SimulatedVehicle`, which takes and gives (name, fields) pairs and a time, so tests can put any
network between it and the bridge. As a program it speaks over UDP by pymavlink, one socket a vehicle:

    python simulated_vehicle.py --port 14550 [--system 1] [--count 1] [--autopilot px4|ardupilot] [--rate 10]

Lines on its standard input are orders: `reboot`, `fix 0`, `mode 4.3`, `failsafe 0` (no hold when
setpoints stop), `deaf 3` (hears no commands for so many seconds), `battery 40`; it prints `ready` when it runs.
"""

from __future__ import annotations

import argparse
import math
import select
import socket
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any

from pymavlink.dialects.v20 import common

if TYPE_CHECKING:
    from collections.abc import Iterator

Out = list[tuple[str, dict[str, Any]]]

ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED, FAILED, IN_PROGRESS, CANCELLED = range(7)
MANUAL, HOLD, MISSION, RETURN, LAND, TAKEOFF, OFFBOARD = (1, 0), (4, 3), (4, 4), (4, 5), (4, 6), (4, 2), (6, 0)
COPTER = {MANUAL: 0, HOLD: 5, MISSION: 3, RETURN: 6, LAND: 9, TAKEOFF: 4, OFFBOARD: 4}
METRES_A_DEGREE = 111_194.9
CLIMB_M_S, SPEED_M_S = 3.0, 12.0


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
    """Files by path, read through one session; the last answer is kept for a repeated request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.open: bytes | None = None
        self.last: tuple[int, bytes] = (-1, b"")
        self.served: list[int] = []

    def handle(self, payload: bytes, sender: tuple[int, int]) -> Out:
        sequence, _, opcode, size, _, _, offset = struct.unpack_from("<HBBBBBxI", payload)
        if sequence != self.last[0]:
            ok, session, data = self._do(opcode, payload[12 : 12 + size], size, offset)
            header = (sequence + 1) & 0xFFFF, session, 128 if ok else 129, len(data), opcode, 0, offset
            self.last = sequence, (struct.pack("<HBBBBBxI", *header) + data).ljust(251, b"\0")
        target = {"target_system": sender[0], "target_component": sender[1]}
        return [("FILE_TRANSFER_PROTOCOL", {**target, "payload": list(self.last[1])})]

    def _do(self, opcode: int, data: bytes, size: int, offset: int) -> tuple[bool, int, bytes]:
        if opcode == 4:
            self.open = self.files.get(data.decode())
            return (True, 5, struct.pack("<I", len(self.open))) if self.open is not None else (False, 0, b"\x0a")
        if opcode == 5 and self.open is not None:
            self.served.append(offset)
            part = self.open[offset : offset + size]
            return (True, 5, part) if part else (False, 5, b"\x06")
        if opcode == 1:
            self.open = None
            return True, 5, b""
        return False, 0, b"\x07"


class SimulatedVehicle:
    """The autopilot: commands, modes, a flight that is a point with limited speed, and the servers above."""

    def __init__(self, system: int = 1, autopilot: str = "px4", rate_hz: float = 10.0) -> None:
        self.system = system
        self.autopilot = autopilot
        self.rate_hz = rate_hz
        self.parameters = ParameterServer(autopilot)
        self.plans = {kind: MissionServer(kind) for kind in range(3)}
        self.storage = FileServer()
        self.executed: list[tuple[float, int, tuple[float, ...]]] = []
        # Whether it goes to hold by itself when setpoints stop; until when it hears no commands; percent.
        self.failsafe = True
        self.deaf_until = 0.0
        self.battery = 90
        self.power_on(0.0)

    def power_on(self, now: float) -> None:
        """What a reboot does: the state is lost, plans and parameters stay, transfers are gone."""
        self.boot = now
        self.armed, self.mode, self.fix = False, MANUAL, 3
        self.home = (47.397742 + 0.001 * (self.system - 1), 8.545594, 488.0)
        self.north, self.east, self.height = 0.0, 0.0, 0.0
        self.target: tuple[float, float, float] | None = None
        self.item = 0
        self.reached: list[int] = []
        self.setpoints: list[float] = []
        self.slow: tuple[int, tuple[int, int], float, float] | None = None
        self.next: dict[str, float] = {}
        self.stepped = now
        for server in self.plans.values():
            server.count, server.incoming = None, []

    # --- what comes in

    def handle(self, name: str, fields: dict[str, Any], sender: tuple[int, int], now: float) -> Out:  # noqa: PLR0911
        """Take a message; what is answered."""
        if fields.get("target_system", 0) not in (0, self.system):
            return []
        if name in ("COMMAND_LONG", "COMMAND_INT"):
            if now < self.deaf_until:
                return []
            return self._command(name, fields, sender, now)
        if name == "COMMAND_CANCEL" and self.slow is not None and self.slow[0] == fields["command"]:
            self.slow = None
            return [self._ack(fields["command"], CANCELLED, sender)]
        if name.startswith("PARAM_"):
            return self.parameters.handle(name, fields, sender)
        if name == "FILE_TRANSFER_PROTOCOL":
            return self.storage.handle(bytes(fields["payload"]), sender)
        if name.startswith("MISSION_") and fields.get("mission_type", 0) in self.plans:
            return self.plans[fields.get("mission_type", 0)].handle(name, fields, sender, now)
        if name.startswith("SET_POSITION_TARGET") or name == "SET_ATTITUDE_TARGET":
            self.setpoints = [*self.setpoints[-40:], now]
            if self.mode == OFFBOARD and name == "SET_POSITION_TARGET_LOCAL_NED" and not fields["type_mask"] & 7:
                self.target = (fields["x"], fields["y"], -fields["z"])
        elif name == "TIMESYNC" and fields["tc1"] == 0:
            mine = int((now - self.boot) * 1e9)
            return [("TIMESYNC", {"tc1": mine, "ts1": fields["ts1"]})]
        return []

    def _ack(self, command: int, result: int, sender: tuple[int, int], progress: int = 0) -> tuple[str, dict[str, Any]]:
        target = {"target_system": sender[0], "target_component": sender[1]}
        return "COMMAND_ACK", {"command": command, "result": result, "progress": progress, **target}

    def _command(self, name: str, fields: dict[str, Any], sender: tuple[int, int], now: float) -> Out:
        command = fields["command"]
        if name == "COMMAND_LONG":
            params = tuple(fields[f"param{number}"] for number in range(1, 8))
        else:
            scale = 1e7 if fields["frame"] in (0, 3, 5, 6) else 1e4
            params = (*(fields[f"param{number}"] for number in range(1, 5)), fields["x"] / scale, fields["y"] / scale)
            params = (*params, fields["z"])
        if command == 241:  # calibration: works on it for a while
            if self.slow is not None:
                return [self._ack(command, TEMPORARILY_REJECTED, sender)]
            self.executed.append((now, command, params))
            self.slow = (command, sender, now + 2.0, now)
            return [self._ack(command, IN_PROGRESS, sender, 0)]
        if command == 192 and name == "COMMAND_LONG":
            return [self._ack(command, 8, sender)]
        if command in (511, 512):
            return self._messages(command, params, sender, now)
        result = self._execute(command, params, now)
        if result == ACCEPTED:
            self.executed.append((now, command, params))
        out: Out = [self._ack(command, result, sender)]
        if result == DENIED and command == 400:
            out.insert(
                0, ("STATUSTEXT", {"severity": 2, "text": "Preflight Fail: no GPS fix", "id": 0, "chunk_seq": 0})
            )
        if command == 246 and result == ACCEPTED:
            self.power_on(now)
        return out

    def _messages(self, command: int, params: tuple[float, ...], sender: tuple[int, int], now: float) -> Out:
        names = {0: "HEARTBEAT", 1: "SYS_STATUS", 30: "ATTITUDE", 33: "GLOBAL_POSITION_INT", 242: "HOME_POSITION"}
        names[148] = "AUTOPILOT_VERSION"
        wanted = names.get(int(params[0]))
        if wanted is None:
            return [self._ack(command, DENIED, sender)]
        self.executed.append((now, command, params))
        extra = [item for item in self.telemetry(now, everything=True) if item[0] == wanted] if command == 512 else []
        return [self._ack(command, ACCEPTED, sender), *extra]

    def _execute(self, command: int, params: tuple[float, ...], now: float) -> int:  # noqa: PLR0911, PLR0912
        flying = self.height > 0.1
        if command == 400:
            if params[0] == 0 and flying and params[1] != 21196.0:
                return DENIED
            if params[0] == 1 and self.fix < 3:
                return DENIED
            self.armed = params[0] == 1
            if not self.armed:
                self.target = None
            return ACCEPTED
        if command == 176:
            return self._set_mode(self._mode(params), now)
        if command == 22:
            if not self.armed:
                return DENIED
            base = 0.0 if self.autopilot == "ardupilot" else self.home[2]
            self.mode, self.target = TAKEOFF, (self.north, self.east, params[6] - base)
            return ACCEPTED
        if command in (20, 21):
            return self._set_mode(RETURN if command == 20 else LAND, now)
        if command == 192:
            if not flying:
                return DENIED
            self.mode = HOLD if self.autopilot == "px4" else OFFBOARD
            self.target = (*self._local(params[4], params[5]), params[6] - self.home[2])
            return ACCEPTED
        if command == 300:
            return self._set_mode(MISSION, now)
        if command == 246:
            return DENIED if self.armed else ACCEPTED
        if command == 185:
            self.armed, self.target, self.height = False, None, 0.0
            return ACCEPTED
        return ACCEPTED if command in (183, 2000, 211) else UNSUPPORTED

    def _mode(self, params: tuple[float, ...]) -> tuple[int, int]:
        if self.autopilot == "px4":
            return int(params[1]), int(params[2])
        return {value: mode for mode, value in COPTER.items()}.get(int(params[1]), (0, 0))

    def _set_mode(self, mode: tuple[int, int], now: float) -> int:
        if mode == OFFBOARD and self.autopilot == "px4" and not self._fed(now):
            return DENIED
        if mode == MISSION and not self.plans[0].items:
            return DENIED
        if mode not in COPTER:
            return DENIED
        self.mode = mode
        if mode == HOLD:
            self.target = (self.north, self.east, self.height) if self.height > 0.1 else None
        elif mode == MISSION:
            self.item, self.reached = 0, []
        elif mode == RETURN:
            self.target = (0.0, 0.0, max(self.height, 10.0))
        elif mode == LAND:
            self.target = (self.north, self.east, 0.0)
        return ACCEPTED

    def _fed(self, now: float) -> bool:
        # Setpoints above 2 Hz for a second.
        recent = [at for at in self.setpoints if now - at <= 1.0]
        return len(recent) > 2 and any(0.9 <= now - at <= 1.5 for at in self.setpoints) and now - recent[-1] < 0.5

    # --- time

    def step(self, now: float) -> Out:
        """Fly until now; what is to be sent."""
        passed, self.stepped = min(now - self.stepped, 0.5), now
        out: Out = []
        fed = bool(self.setpoints) and now - self.setpoints[-1] <= 1.0
        if self.mode == OFFBOARD and self.autopilot == "px4" and self.failsafe and not fed:
            self._set_mode(HOLD, now)
            out.append(("STATUSTEXT", {"severity": 4, "text": "Offboard control lost", "id": 0, "chunk_seq": 0}))
        if self.slow is not None:
            command, sender, until, said = self.slow
            if now >= until:
                out.append(self._ack(command, ACCEPTED, sender, 100))
                self.slow = None
            elif now - said > 0.3:
                out.append(self._ack(command, IN_PROGRESS, sender, 50))
                self.slow = (command, sender, until, now)
        self._fly(passed, out)
        for server in self.plans.values():
            out += server.step(now)
        return out + self.telemetry(now)

    def _fly(self, passed: float, out: Out) -> None:
        if not self.armed:
            return
        if self.mode == MISSION:
            self._fly_mission(out)
        if self.target is None:
            return
        north, east, height = self.target
        way = math.hypot(north - self.north, east - self.east)
        part = min(1.0, SPEED_M_S * passed / way) if way else 1.0
        self.north += (north - self.north) * part
        self.east += (east - self.east) * part
        self.height += max(-CLIMB_M_S * passed, min(CLIMB_M_S * passed, height - self.height))
        if self.mode == RETURN and way < 0.5:
            self.target = (0.0, 0.0, 0.0)
        if self.mode in (RETURN, LAND) and self.target[2] == 0.0 and self.height < 0.05:
            self.height, self.armed, self.target = 0.0, False, None
        elif self.mode == TAKEOFF and self.target is not None and abs(self.height - height) < 0.2:
            self.mode = HOLD if self.autopilot == "px4" else OFFBOARD

    def _fly_mission(self, out: Out) -> None:
        items = self.plans[0].items
        if self.item >= len(items):
            self.mode, self.target = HOLD, (self.north, self.east, self.height)
            return
        item = items[self.item]
        if item["command"] == 20:
            out.append(("MISSION_ITEM_REACHED", {"seq": self.item}))
            self.reached.append(self.item)
            self.mode, self.target = RETURN, (0.0, 0.0, max(self.height, 10.0))
            return
        height = item["z"] if item["frame"] in (3, 6) else item["z"] - self.home[2]
        place = (self.north, self.east) if item["command"] == 22 else self._local(item["x"] / 1e7, item["y"] / 1e7)
        self.target = (*place, height)
        if math.dist(self.target, (self.north, self.east, self.height)) < 1.0:
            out.append(("MISSION_ITEM_REACHED", {"seq": self.item}))
            self.reached.append(self.item)
            self.item += 1

    def _local(self, latitude: float, longitude: float) -> tuple[float, float]:
        shrink = math.cos(math.radians(self.home[0]))
        return (latitude - self.home[0]) * METRES_A_DEGREE, (longitude - self.home[1]) * METRES_A_DEGREE * shrink

    @property
    def place(self) -> tuple[float, float]:
        """Latitude and longitude."""
        shrink = math.cos(math.radians(self.home[0]))
        return (
            self.home[0] + self.north / METRES_A_DEGREE,
            self.home[1] + self.east / METRES_A_DEGREE / shrink,
        )

    @property
    def landed(self) -> int:
        """MAV_LANDED_STATE."""
        if self.height <= 0.1:
            return 1
        return 3 if self.mode == TAKEOFF else 4 if self.mode == LAND else 2

    def telemetry(self, now: float, *, everything: bool = False) -> Out:
        """What is due, or one of everything."""
        return [item for name, rate, item in self._messages_of(now) if everything or self._due(name, rate, now)]

    def _due(self, name: str, rate: float, now: float) -> bool:
        if rate <= 0 or now < self.next.get(name, -1.0):
            return False
        self.next[name] = now + 1 / rate
        return True

    def _messages_of(self, now: float) -> Iterator[tuple[str, float, tuple[str, dict[str, Any]]]]:
        since = int((now - self.boot) * 1000)
        latitude, longitude = (round(value * 1e7) for value in self.place)
        altitude = round((self.home[2] + self.height) * 1000)
        custom = self.mode[0] << 16 | self.mode[1] << 24 if self.autopilot == "px4" else COPTER[self.mode]
        fields: list[tuple[str, float, dict[str, Any]]] = [
            (
                "HEARTBEAT",
                1.0,
                {
                    "type": 2,
                    "autopilot": 12 if self.autopilot == "px4" else 3,
                    "base_mode": 1 | (128 if self.armed else 0),
                    "custom_mode": custom,
                    "system_status": 4 if self.armed else 3,
                    "mavlink_version": 3,
                },
            ),
            (
                "SYS_STATUS",
                1.0,
                {"voltage_battery": 16000, "current_battery": 100, "battery_remaining": self.battery, "load": 200},
            ),
            ("SYSTEM_TIME", 1.0, {"time_unix_usec": int(now * 1e6), "time_boot_ms": since}),
            ("EXTENDED_SYS_STATE", 5.0, {"vtol_state": 0, "landed_state": self.landed}),
            (
                "GPS_RAW_INT",
                2.0,
                {
                    "time_usec": since * 1000,
                    "fix_type": self.fix,
                    "lat": latitude,
                    "lon": longitude,
                    "alt": altitude,
                    "satellites_visible": 12,
                },
            ),
            (
                "GLOBAL_POSITION_INT",
                self.rate_hz,
                {
                    "time_boot_ms": since,
                    "lat": latitude,
                    "lon": longitude,
                    "alt": altitude,
                    "relative_alt": round(self.height * 1000),
                    "hdg": 0,
                },
            ),
            ("ATTITUDE", self.rate_hz, {"time_boot_ms": since, "roll": 0.01, "pitch": -0.02, "yaw": 0.3}),
            (
                "HOME_POSITION",
                0.5,
                {
                    "latitude": round(self.home[0] * 1e7),
                    "longitude": round(self.home[1] * 1e7),
                    "altitude": round(self.home[2] * 1000),
                    "q": [1.0, 0.0, 0.0, 0.0],
                },
            ),
            ("MISSION_CURRENT", 1.0, {"seq": self.item, "total": len(self.plans[0].items), "mission_state": 0}),
            ("AUTOPILOT_VERSION", 0.0, {"capabilities": 0b10_0000_0000_1110, "uid": self.system}),
        ]
        for name, rate, values in fields:
            yield name, rate, (name, values)


class Wire:
    """One vehicle on one UDP socket, by pymavlink."""

    def __init__(self, vehicle: SimulatedVehicle, port: int) -> None:
        self.module: Any = common
        self.vehicle = vehicle
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", port))
        self.mav = common.MAVLink(None, vehicle.system, 1)
        self.mav.robust_parsing = True

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
        raw[10:14] = value
        crc = self.module.x25crc(bytes(raw[1:-2]) + bytes([extra])).crc
        raw[-2:] = struct.pack("<H", crc)
        return raw

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


def order(vehicle: SimulatedVehicle, line: str, now: float) -> None:
    """Do what a line of standard input says."""
    word, _, rest = line.strip().partition(" ")
    if word == "reboot":
        vehicle.power_on(now)
    elif word == "fix":
        vehicle.fix = int(rest)
    elif word == "mode":
        main, sub = rest.split(".")
        vehicle.mode = (int(main), int(sub))
    elif word == "failsafe":
        vehicle.failsafe = rest == "1"
    elif word == "deaf":
        vehicle.deaf_until = now + float(rest)
    elif word == "battery":
        vehicle.battery = int(rest)
    elif word == "silent":
        vehicle.parameters.silent = rest == "1"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--system", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--autopilot", choices=("px4", "ardupilot"), default="px4")
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster the flight goes")
    options = parser.parse_args()
    global CLIMB_M_S, SPEED_M_S
    CLIMB_M_S, SPEED_M_S = CLIMB_M_S * options.speed, SPEED_M_S * options.speed
    systems = range(options.system, options.system + options.count)
    wires = [Wire(SimulatedVehicle(system, options.autopilot, options.rate), options.port) for system in systems]
    for wire in wires:
        wire.vehicle.power_on(time.monotonic())
    print("ready", flush=True)
    sockets = {wire.socket: wire for wire in wires}
    step_s = 0.02
    following = time.monotonic()
    while True:
        readable, _, _ = select.select([*sockets, sys.stdin], [], [], max(0.0, following - time.monotonic()))
        now = time.monotonic()
        for ready in readable:
            if ready is sys.stdin:
                line = sys.stdin.readline()
                if not line:
                    return
                for wire in wires:
                    order(wire.vehicle, line, now)
            else:
                sockets[ready].receive(now)
        if now >= following:
            following = max(following + step_s, now)
            for wire in wires:
                wire.send(wire.vehicle.step(now))


if __name__ == "__main__":
    main()
