"""wasmbed:px4 with a simulated vehicle (ours, in its own process): ownership, telemetry, orders, hostile arguments."""

from __future__ import annotations

import asyncio
import math
import struct

import pytest
from flight_support import DEVICE, HOME, NAN, RIGHTS, rig, until
from wasmbed.bridges.mavlink import Geofence
from wasmbed.gateway.flight_model import DeviceRecord
from wasmbed.gateway.vehicle_sensors import VehicleSensors
from wasmbed.hostcalls import Status
from wasmbed.runtime import abi
from wasmbed.runtime.abi import FlightMode, OwnerLoss, SensorKind, Telemetry

pytestmark = pytest.mark.peers


async def test_one_application_owns_the_vehicle_and_others_only_read() -> None:
    async with rig() as made:
        first, second = await made.application("first"), await made.application("second")
        assert (await first.call("acquire"))[0] == 0
        assert (await first.call("acquire"))[0] == 0, "twice is once"
        assert (await second.call("acquire"))[0] == Status.BUSY
        assert second.losses == [OwnerLoss.LOST]
        assert await second.command(400, 1.0) == Status.DENIED
        for op, arguments in (("offboard", (1,)), ("param_set", ("MIS_TAKEOFF_ALT", 3.0)), ("mission", (0,))):
            assert (await second.call(op, *arguments))[0] == Status.DENIED, op
        assert (await second.call("param_get", "MIS_TAKEOFF_ALT"))[0] == 0
        await first.call("release")
        assert (await second.call("acquire"))[0] == 0
        assert await second.command(400, 1.0) == 0
        assert made.vehicle.state.armed or await made.vehicle.until(lambda s: s.armed, 5.0)


async def test_telemetry_has_the_vehicles_values_at_the_interval_asked_for() -> None:
    async with rig("--rate", 40) as made:
        app = await made.application("reader", frozenset())
        for kind in Telemetry:
            app.send("subscribe", kind, 0)
        await until(lambda: all(app.telemetry(kind) for kind in Telemetry if kind is not Telemetry.LOCAL))
        status = app.telemetry(Telemetry.STATUS)[-1]
        assert status[1:7] == (0, 0, FlightMode.MANUAL, 0, 0, 1)
        assert status[7] == 1
        position = app.telemetry(Telemetry.POSITION)[-1]
        assert position[1:3] == pytest.approx(HOME[:2], abs=1e-6)
        assert position[3:5] == pytest.approx((488.0, 0.0), abs=0.01)
        attitude = app.telemetry(Telemetry.ATTITUDE)[-1]
        assert math.hypot(*attitude[1:5]) == pytest.approx(1.0, abs=1e-5)
        assert 2 * math.atan2(attitude[4], attitude[1]) == pytest.approx(0.3, abs=0.01)
        voltage, current, remaining, temperature = app.telemetry(Telemetry.BATTERY)[-1][1:]
        assert (voltage, current, remaining) == pytest.approx((16.0, 1.0, 0.9))
        assert math.isnan(temperature)
        assert app.telemetry(Telemetry.GPS)[-1][1:3] == (3, 12)
        assert app.telemetry(Telemetry.HOME)[-1][1:] == pytest.approx(HOME, abs=1e-5)
        assert app.telemetry(Telemetry.MISSION)[-1][1:3] == (0, 0)

        slow = await made.application("slow", frozenset())
        slow.send("subscribe", Telemetry.POSITION, 200)
        before = len(app.telemetry(Telemetry.POSITION))
        await until(lambda: len(slow.telemetry(Telemetry.POSITION)) >= 6)
        many = len(app.telemetry(Telemetry.POSITION)) - before
        assert many >= 2 * len(slow.telemetry(Telemetry.POSITION)), "one asked for fewer"


async def test_arming_is_told_at_once_to_who_asked_for_it_seldom() -> None:
    async with rig() as made:
        app = await made.application("watcher")
        app.send("subscribe", Telemetry.STATUS, 60_000)
        assert await app.command(400, 1.0) == 0
        await until(lambda: app.telemetry(Telemetry.STATUS)[-1][1] == 1, 3.0)


async def test_a_flight_by_commands_with_both_kinds_of_height() -> None:
    async with rig() as made:
        app = await made.application("pilot")
        await made.airborne(app)
        place = (HOME[0] + 0.0003, HOME[1])
        assert await app.command(192, -1.0, 1.0, 0.0, NAN, *place, 25.0, frame=3) == 0

        def there() -> bool:
            at = made.vehicle.state.position
            return at is not None and abs(at.latitude - place[0]) < 1e-5 and abs(at.height_m - 25.0) < 1.0

        await until(there, 20.0)
        status, detail = await app.call("command", data=abi.COMMAND.pack(9999, 0, *(0.0,) * 7))
        assert (status, detail) == (Status.DENIED, b""), "a command that nobody knows is dangerous"
        assert await app.command(20) == 0
        assert await made.vehicle.until(lambda s: not s.armed, 30.0)


async def test_a_refused_command_tells_the_vehicles_result() -> None:
    async with rig() as made:
        app = await made.application("pilot")
        data = abi.COMMAND.pack(22, 0, NAN, 0.0, 0.0, NAN, NAN, NAN, 500.0)
        status, detail = await app.call("command", data=data)
        assert status == Status.REJECTED
        assert abi.COMMAND_RESULT.unpack(detail) == (2, 0), "MAV_RESULT_DENIED: not armed"


async def test_a_mission_is_uploaded_and_cleared() -> None:
    async with rig() as made:
        app = await made.application("patrol")
        places = [(HOME[0] + 0.0001 * n, HOME[1]) for n in range(1, 4)]
        items = b"".join(abi.WAYPOINT.pack(16, 3, 1, 0.0, 2.0, 0.0, NAN, *place, 15.0) for place in places)
        assert (await app.call("mission", 3, data=items))[0] == 0
        shown = await made.vehicle.download()
        assert [item.place for item in shown.items] == [pytest.approx(place, abs=1e-7) for place in places]
        assert (await app.call("mission", 0))[0] == 0
        assert (await made.vehicle.download()).items == ()


async def test_parameters_are_read_and_written_with_the_right_alone() -> None:
    async with rig() as made:
        app = await made.application("tuner")
        status, detail = await app.call("param_get", "SYS_AUTOSTART")
        assert (status, abi.PARAMETER_RESULT.unpack(detail)) == (0, (1, 4001.0))
        status, detail = await app.call("param_get", "COM_OF_LOSS_T")
        assert (status, abi.PARAMETER_RESULT.unpack(detail)) == (0, (2, 1.0))
        assert (await app.call("param_get", "NO_SUCH"))[0] == Status.NOTFOUND
        assert (await app.call("param_set", "COM_OF_LOSS_T", 2.0))[0] == Status.DENIED
        app = await made.application("tuner", RIGHTS | {"parameters"})
        status, detail = await app.call("param_set", "COM_OF_LOSS_T", 2.5)
        assert (status, abi.PARAMETER_RESULT.unpack(detail)) == (0, (2, 2.5))
        assert (await app.call("param_set", "SYS_AUTOSTART", 1.5))[0] == Status.INVALID
        assert (await app.call("param_set", "COM_OBL_RC_ACT", 99.0))[0] == Status.REJECTED


async def test_a_right_that_is_withdrawn_ends_at_once() -> None:
    async with rig() as made:
        app = await made.application("pilot")
        assert await app.command(400, 1.0) == 0
        made.claims[app.application, DEVICE] = made.claims[app.application, DEVICE].__class__(app.application, DEVICE)
        made.flight.set_claims(dict(made.claims))
        assert await app.command(400, 0.0) == Status.DENIED


async def test_dangerous_commands_need_their_own_right() -> None:
    async with rig() as made:
        app = await made.application("pilot")
        await made.airborne(app)
        for command, *params in ((400, 0.0, 21196.0), (185, 1.0), (246, 1.0), (400, 0.0), (176, 1.0, 10.0)):
            assert await app.command(command, *params) == Status.DENIED, command
        # The vehicle rounds: these would disarm it in flight, or arm it by force.
        for params in ((0.3,), (0.3, 21196.3), (1.0, 21196.3), (NAN, 21196.0)):
            assert await app.command(400, *params) == Status.INVALID, params
        assert made.vehicle.state.armed
        app = await made.application("pilot", RIGHTS | {"dangerous"})
        assert await app.command(185, 1.0) == 0


async def test_what_is_outside_of_the_geofence_is_refused() -> None:
    fence = Geofence(centre=HOME[:2], radius_m=100.0, max_height_m=50.0)
    async with rig(geofence=fence) as made:
        app = await made.application("pilot")
        await made.airborne(app)
        assert await app.command(192, -1.0, 1.0, 0.0, NAN, HOME[0] + 0.01, HOME[1], 510.0) == Status.REJECTED
        assert await app.command(192, -1.0, 1.0, 0.0, NAN, HOME[0], HOME[1], 80.0, frame=3) == Status.REJECTED
        far = abi.WAYPOINT.pack(16, 3, 1, 0.0, 0.0, 0.0, NAN, HOME[0] + 0.01, HOME[1], 15.0)
        assert (await app.call("mission", 1, data=far))[0] == Status.REJECTED


async def test_an_autopilot_is_the_sensors_of_its_device() -> None:
    async with rig() as made:
        sensors = VehicleSensors(made.flight)
        assert sensors.reading(DEVICE, SensorKind.GPS) is None, "nothing was asked for before"
        sensors.connect(made.fleet)
        await until(lambda: sensors.reading(DEVICE, SensorKind.GPS))
        place = sensors.reading(DEVICE, SensorKind.GPS)
        assert place is not None
        assert place.values == pytest.approx(HOME, abs=1e-5)
        await until(lambda: sensors.reading(DEVICE, SensorKind.BATTERY))
        battery = sensors.reading(DEVICE, SensorKind.BATTERY)
        assert battery is not None
        assert battery.values == pytest.approx((16.0, 1.0, 90.0))
        assert sensors.reading(DEVICE, SensorKind.IMU) is None, "this one sends none"
        assert sensors.reading("default/other", SensorKind.GPS) is None


HOSTILE = [
    ("command", (), b""),
    ("command", (), bytes(47)),
    ("command", (), bytes(49)),
    ("command", (), abi.COMMAND.pack(192, 0, -1.0, 1.0, 0.0, NAN, 91.0, 0.0, 500.0)),
    ("command", (), abi.COMMAND.pack(192, 0, math.inf, 1.0, 0.0, NAN, 47.0, 8.0, 500.0)),
    ("command", (), abi.COMMAND.pack(192, 7, -1.0, 1.0, 0.0, NAN, 47.0, 8.0, 500.0)),
    ("command", (), abi.COMMAND.pack(176, 0, 1.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ("command", (), abi.COMMAND.pack(176, 0, 1.0, NAN, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ("command", (), abi.COMMAND.pack(22, 0, 0.0, 0.0, 0.0, 0.0, 1e308, 1e308, 0.0)),
    ("setpoint", (), b"\1"),
    ("setpoint", (), abi.SETPOINT.pack(0, *(0.0,) * 8, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(1, *(NAN,) * 8, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(2, *(math.inf,) * 8, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(1, 0.0, 0.0, -5.0, NAN, NAN, NAN, math.inf, NAN, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(1, 1e30, 0.0, -5.0, NAN, NAN, NAN, NAN, NAN, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(3, *(0.0,) * 8, 91.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(3, 0.0, 0.0, NAN, *(0.0,) * 5, 47.0, 8.0)),
    ("setpoint", (), abi.SETPOINT.pack(4, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ("setpoint", (), abi.SETPOINT.pack(4, 1.0, 0.0, 0.0, 0.0, 7.5, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ("offboard", (), b""),
    ("offboard", (2,), b""),
    ("offboard", (True,), b""),
    ("subscribe", (0, 100), b""),
    ("subscribe", (9, 100), b""),
    ("subscribe", (1, -2), b""),
    ("subscribe", (1, 86_400_001), b""),
    ("subscribe", (1,), b""),
    ("watch", ("1",), b""),
    ("param_get", ("",), b""),
    ("param_get", ("X" * 17,), b""),
    ("param_get", ("NUL\0",), b""),
    ("param_get", ("ÄÖÜ",), b""),
    ("param_get", (b"SYS_AUTOSTART",), b""),
    ("param_set", ("SYS_AUTOSTART",), b""),
    ("param_set", ("SYS_AUTOSTART", NAN), b""),
    ("param_set", ("SYS_AUTOSTART", math.inf), b""),
    ("param_set", ("SYS_AUTOSTART", 2.0**40), b""),
    ("mission", (1,), b""),
    ("mission", (257,), bytes(257 * 48)),
    ("mission", (-1,), b""),
    ("mission", (2,), bytes(48)),
    ("mission", (1,), abi.WAYPOINT.pack(16, 3, 1, 0.0, 0.0, 0.0, NAN, 91.0, 0.0, 15.0)),
    ("mission", (1,), abi.WAYPOINT.pack(16, 3, 1, 0.0, 0.0, 0.0, NAN, 47.0, 8.0, NAN)),
    ("mission", (1,), abi.WAYPOINT.pack(16, 1, 1, 0.0, 0.0, 0.0, NAN, 47.0, 8.0, 15.0)),
    ("mission", (1,), abi.WAYPOINT.pack(16, 2, 1, 0.0, 0.0, 0.0, NAN, 1e300, 8.0, 15.0)),
    ("no_such_op", (), b""),
]


async def test_hostile_arguments_are_invalid_and_nothing_is_sent() -> None:
    async with rig() as made:
        app = await made.application("hostile", RIGHTS | {"parameters", "dangerous"})
        before = made.vehicle.state.mode
        for op, arguments, data in HOSTILE:
            status, detail = await app.call(op, *arguments, data=data)
            assert (status, detail) == (Status.INVALID, b""), (op, arguments, data)
        assert (made.vehicle.state.mode, made.vehicle.state.armed, made.vehicle.offboard) == (before, False, None)
        assert await app.command(400, 1.0) == 0, "it is not punished"


async def test_a_stream_of_orders_is_held_to_its_rate() -> None:
    async with rig() as made:
        app = await made.application("stormy")
        data = abi.COMMAND.pack(512, 0, 148.0, *(0.0,) * 6)
        for number in range(1, 61):
            app.send("command", data=data, token=1000 + number)
        await until(lambda: len(made.peer.of("stormy", abi.EventType.RESULT)) == 60, 60.0)
        results = [struct.unpack_from("<i", event.data)[0] for event in made.peer.of("stormy", abi.EventType.RESULT)]
        assert results.count(Status.RATE) >= 30


async def test_without_a_vehicle_everything_is_unavailable() -> None:
    async with rig(heard=False) as made:
        app = await made.application("lonely")
        for op, arguments in (("acquire", ()), ("subscribe", (1, 0)), ("param_get", ("A",)), ("offboard", (1,))):
            assert (await app.call(op, *arguments))[0] == Status.UNAVAILABLE
        assert all("px4" not in provision.available for provision in made.peer.provisions)


async def test_an_application_reaches_no_vehicle_that_belongs_to_another_device() -> None:
    async with rig() as made:
        made.flight.set_devices({DEVICE: DeviceRecord(system_id=1), "default/beta": DeviceRecord()})
        thief = await made.application("thief", device="default/beta", system_id=1)
        assert await thief.command(400, 1.0) == Status.UNAVAILABLE
        made.flight.set_devices({DEVICE: DeviceRecord(), "default/beta": DeviceRecord()})
        assert await thief.command(400, 1.0) == 0, "where no device states it, the application's is the default"


async def test_what_is_available_follows_the_vehicle() -> None:
    async with rig() as made:
        await made.application("watcher")
        await until(lambda: made.peer.provisions and "px4" in made.peer.provisions[-1].available)
        assert made.simulator is not None
        made.simulator.process.kill()
        await until(lambda: "px4" not in made.peer.provisions[-1].available, 15.0)
        await asyncio.sleep(0)
