"""The autopilot: commands, modes and its flight."""

from __future__ import annotations

import math
from typing import Any

from wasmbed_sitl.constants import (
    ACCEPTED,
    CANCELLED,
    CLIMB_M_S,
    COPTER,
    DENIED,
    HOLD,
    HOME,
    IN_PROGRESS,
    LAND,
    MANUAL,
    METRES_A_DEGREE,
    MISSION,
    NEXT_HOME_DEG,
    OFFBOARD,
    RETURN,
    SPEED_M_S,
    TAKEOFF,
    TEMPORARILY_REJECTED,
    UNSUPPORTED,
    Out,
)
from wasmbed_sitl.servers import FileServer, MissionServer, ParameterServer
from wasmbed_sitl.telemetry import messages_of


def _rounded(value: float) -> int:
    """What PX4 makes of a parameter that is a choice (`lroundf`): halves go away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value)) if math.isfinite(value) else 0


class SimulatedVehicle:
    """The autopilot: commands, modes, a flight that is a point with limited speed, and the servers above."""

    def __init__(
        self,
        system: int = 1,
        autopilot: str = "px4",
        rate_hz: float = 10.0,
        *,
        home: tuple[float, float, float] | None = None,
        speed: float = 1.0,
        battery_minutes: float = 0.0,
    ) -> None:
        """`speed` is how many times faster it flies; a battery of 0 minutes never gets empty."""
        self.system = system
        self.speed = speed
        self.battery_minutes = battery_minutes
        self.base = home or (HOME[0] + NEXT_HOME_DEG * (system - 1), *HOME[1:])
        self.autopilot = autopilot
        self.rate_hz = rate_hz
        self.parameters = ParameterServer(autopilot)
        self.plans = {kind: MissionServer(kind) for kind in range(3)}
        self.storage = FileServer()
        self.executed: list[tuple[float, int, tuple[float, ...]]] = []
        # Whether it goes to hold by itself when setpoints stop; until when it hears no commands; percent.
        self.failsafe = True
        self.deaf_until = 0.0
        self.battery = 90.0
        self.power_on(0.0)

    def power_on(self, now: float) -> None:
        """What a reboot does: the state is lost, plans and parameters stay, transfers are gone."""
        self.boot = now
        self.armed, self.mode, self.fix = False, MANUAL, 3
        self.home = self.base
        self.north, self.east, self.height = 0.0, 0.0, 0.0
        self.velocity = (0.0, 0.0, 0.0)
        self.demanded: tuple[float, float, float] | None = None
        self.target: tuple[float, float, float] | None = None
        self.item = 0
        self.reached: list[int] = []
        self.setpoints: list[float] = []
        self.slow: tuple[int, tuple[int, int], float, float] | None = None
        self.next: dict[str, float] = {}
        self.stepped = now
        for server in self.plans.values():
            server.count, server.incoming = None, []

    def lift(self, height_m: float) -> None:
        """Be armed and holding at a height, or disarmed on the ground (0), without the way there."""
        self.height, self.armed, self.mode = height_m, height_m > 0, HOLD if height_m > 0 else MANUAL
        self.target = (self.north, self.east, height_m) if height_m > 0 else None
        self.demanded = None

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
        if name in ("PARAM_REQUEST_LIST", "PARAM_REQUEST_READ", "PARAM_SET"):
            return self.parameters.handle(name, fields, sender)
        if name == "FILE_TRANSFER_PROTOCOL":
            return self.storage.handle(bytes(fields["payload"]), sender)
        if name.startswith("MISSION_") and fields.get("mission_type", 0) in self.plans:
            return self.plans[fields.get("mission_type", 0)].handle(name, fields, sender, now)
        if name.startswith("SET_POSITION_TARGET") or name == "SET_ATTITUDE_TARGET":
            self.setpoints = [*self.setpoints[-40:], now]
            if self.mode == OFFBOARD:
                self._follow(name, fields)
        elif name == "TIMESYNC" and fields["tc1"] == 0:
            mine = int((now - self.boot) * 1e9)
            return [("TIMESYNC", {"tc1": mine, "ts1": fields["ts1"]})]
        return []

    def _follow(self, name: str, fields: dict[str, Any]) -> None:
        """Take a setpoint: a place, or a velocity."""
        self.demanded = None
        if name == "SET_POSITION_TARGET_GLOBAL_INT":
            self.target = (*self._local(fields["lat_int"] / 1e7, fields["lon_int"] / 1e7), fields["alt"])
        elif name == "SET_POSITION_TARGET_LOCAL_NED" and not fields["type_mask"] & 7:
            self.target = (fields["x"], fields["y"], -fields["z"])
        elif name == "SET_POSITION_TARGET_LOCAL_NED" and not fields["type_mask"] & 56:
            self.demanded = (fields["vx"], fields["vy"], -fields["vz"])

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
            arm, force = _rounded(params[0]), _rounded(params[1])
            if arm not in (0, 1) or (arm == 0 and flying and force != 21196):
                return DENIED
            if arm == 1 and self.fix < 3:
                return DENIED
            self.armed = arm == 1
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
            return int(params[1]) & 0xFF, int(params[2]) & 0xFF
        return {value: mode for mode, value in COPTER.items()}.get(int(params[1]), (0, 0))

    def _set_mode(self, mode: tuple[int, int], now: float) -> int:
        if mode == OFFBOARD and self.autopilot == "px4" and not self._fed(now):
            return DENIED
        if mode == MISSION and not self.plans[0].items:
            return DENIED
        if mode not in COPTER:
            return DENIED
        self.mode, self.demanded = mode, None
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
        before = (self.north, self.east, self.height)
        if self.armed:
            if self.battery_minutes:
                self.battery = max(0.0, self.battery - passed / 60 / self.battery_minutes * 100)
            if self.mode == MISSION:
                self._fly_mission(out)
            if self.demanded is not None:
                moved = zip(before, self.demanded, strict=True)
                north, east, height = (at + speed * passed * self.speed for at, speed in moved)
                self.north, self.east, self.height = north, east, max(height, 0.0)
            elif self.target is not None:
                self._fly_to(self.target, passed)
        elif self.battery_minutes:
            # Another battery is put in.
            self.battery = 100.0
        after = (self.north, self.east, self.height)
        if passed > 0:
            north, east, up = ((now - then) / passed for now, then in zip(after, before, strict=True))
            self.velocity = (north, east, -up)

    def _fly_to(self, target: tuple[float, float, float], passed: float) -> None:
        north, east, height = target
        climb = CLIMB_M_S * self.speed * passed
        way = math.hypot(north - self.north, east - self.east)
        part = min(1.0, SPEED_M_S * self.speed * passed / way) if way else 1.0
        self.north += (north - self.north) * part
        self.east += (east - self.east) * part
        self.height += max(-climb, min(climb, height - self.height))
        if self.mode == RETURN and way < 0.5:
            self.target = target = (0.0, 0.0, 0.0)
        if self.mode in (RETURN, LAND) and target[2] == 0.0 and self.height < 0.05:
            self.height, self.armed, self.target = 0.0, False, None
        elif self.mode == TAKEOFF and abs(self.height - height) < 0.2:
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
    def mission_state(self) -> int:
        """MISSION_STATE: none, not started, active, complete."""
        items = self.plans[0].items
        if self.mode == MISSION:
            return 3
        return 1 if not items else 5 if self.item >= len(items) else 2

    @property
    def landed(self) -> int:
        """MAV_LANDED_STATE."""
        if self.height <= 0.1:
            return 1
        return 3 if self.mode == TAKEOFF else 4 if self.mode == LAND else 2

    def telemetry(self, now: float, *, everything: bool = False) -> Out:
        """What is due, or one of everything."""
        return [item for name, rate, item in messages_of(self, now) if everything or self._due(name, rate, now)]

    def _due(self, name: str, rate: float, now: float) -> bool:
        # Vehicles do not send in step with each other; all of them at once would be a burst that no real fleet sends.
        first = self.boot + ((self.system - 1) * 0.618) % 1 / rate if rate > 0 else 0.0
        if rate <= 0 or now < self.next.get(name, first):
            return False
        self.next[name] = now + 1 / rate
        return True
