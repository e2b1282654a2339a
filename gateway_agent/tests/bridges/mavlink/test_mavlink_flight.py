"""Flights of the simulated vehicle (ours, in its own process) through hub, router and vehicle facade."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from peers import Gateway, Program, gateway, simulator, until
from wasmbed.bridges.mavlink.actions import Actions
from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.ground import distance
from wasmbed.bridges.mavlink.mission_items import PlanItem, PlanType, same_plan
from wasmbed.bridges.mavlink.offboard import LocalSetpoint
from wasmbed.bridges.mavlink.parameter_files import ParameterCache
from wasmbed.bridges.mavlink.parameters import HASH_CHECK
from wasmbed.bridges.mavlink.vehicle import Vehicle
from wasmbed.bridges.mavlink.vehicle_state import Change, Landed

HOME = (47.397742, 8.545594)


@asynccontextmanager
async def flying(autopilot: str = "px4") -> AsyncIterator[tuple[Gateway, Vehicle, Actions, Program]]:
    async with (
        gateway() as made,
        simulator("--port", made.port, "--autopilot", autopilot, "--speed", 10) as program,
    ):
        vehicle = made.fleet.vehicle(1)
        assert await vehicle.until(lambda s: s.connected and s.has_position, 10.0)
        assert await vehicle.until(lambda s: s.landed is Landed.ON_GROUND and s.home is not None, 10.0)
        yield made, vehicle, Actions(vehicle), program


async def airborne(actions: Actions) -> None:
    for result in (await actions.arm(), await actions.take_off(10.0)):
        assert result.ok, result
    state = actions.vehicle
    assert await state.until(lambda s: s.position is not None and s.position.height_m > 9.0, 10.0)
    assert await state.until(lambda s: s.landed is Landed.IN_AIR, 10.0)


@pytest.mark.parametrize("autopilot", ["px4", "ardupilot"])
async def test_a_flight_from_arming_to_landing(autopilot: str) -> None:
    async with flying(autopilot) as (_, vehicle, actions, _):
        changes: list[Change] = []
        vehicle.on_change.append(lambda change, _: changes.append(change))
        await airborne(actions)
        refused = await actions.disarm()
        assert (refused.ok, refused.reason[:28]) == (False, "the vehicle is in the air (o")
        result = await actions.goto(HOME[0] + 0.0005, HOME[1], 20.0)
        assert result.ok, result

        def arrived() -> bool:
            place = vehicle.state.position
            assert place is not None
            return distance(place.latitude, place.longitude, HOME[0] + 0.0005, HOME[1]) < 1 and place.height_m > 19.5

        await until(arrived)
        for step in (actions.hold, actions.return_home):
            result = await step()
            assert result.ok, result
        assert await vehicle.until(lambda s: not s.armed and s.landed is Landed.ON_GROUND, 20.0)
        assert {Change.ARMED, Change.DISARMED, Change.MODE, Change.LANDED} <= set(changes)
        assert (await actions.land()).reason == "the vehicle is on the ground"


async def test_preconditions_refuse_before_anything_is_sent() -> None:
    async with flying() as (_, vehicle, actions, simulator):
        for result in (
            await actions.take_off(10.0),
            await actions.take_off(500.0),
            await actions.goto(HOME[0], HOME[1], 10.0),
            await actions.return_home(),
            await actions.hold(),
            await actions.set_mode("warp"),
            await actions.start_mission(),
            await actions.fly_offboard(LocalSetpoint(position=(0.0, 0.0, -5.0))),
        ):
            assert not result.ok
            assert result.reason
        simulator.tell("fix 0")
        assert await vehicle.until(lambda s: not s.has_position, 5.0)
        refused = await actions.arm()
        assert "denied" in str(refused)
        assert "Preflight Fail: no GPS fix" in str(refused)
        assert "wait for a 3-D fix" in (await actions.take_off(10.0)).reason


async def test_a_far_place_is_refused() -> None:
    async with flying() as (_, _, actions, _):
        await airborne(actions)
        assert "more than the allowed" in (await actions.goto(48.0, 8.5, 10.0)).reason


async def test_going_somewhere_has_not_worked_because_the_vehicle_already_was_in_that_mode() -> None:
    """It holds and hears no commands: the mode that a go-to would show is there before."""
    async with flying() as (_, vehicle, actions, simulator):
        await airborne(actions)
        assert await vehicle.until(lambda s: s.mode == "hold", 10.0)
        simulator.tell("deaf 60")
        # Orders are carried out in their turn: when the battery is shown, the one before is done.
        simulator.tell("battery 61")
        assert await vehicle.until(lambda s: s.battery_percent == 61, 10.0)
        result = await actions.goto(HOME[0] + 0.0005, HOME[1], 20.0)
        assert not result.ok
        assert "was not answered" in result.reason
        place = vehicle.state.position
        assert place is not None
        assert (await actions.goto(place.latitude, place.longitude, place.height_m)).ok, "it is there"


async def test_a_mission_is_uploaded_flown_and_followed() -> None:
    async with flying() as (_, vehicle, actions, _):
        places = [(HOME[0] + 0.0003, HOME[1]), (HOME[0] + 0.0003, HOME[1] + 0.0003), (HOME[0], HOME[1] + 0.0003)]
        items = [PlanItem.position(22, *HOME, 10.0)]
        items += [PlanItem.position(16, *place, 15.0) for place in places]
        items.append(PlanItem(20))
        uploaded = await vehicle.upload(items)
        assert uploaded.ok, uploaded
        for plan in (PlanType.FENCE, PlanType.RALLY):
            assert (await vehicle.upload([PlanItem.position(5001 if plan == 1 else 5100, *HOME, 0.0)], plan)).ok
        assert (await actions.arm()).ok
        assert (await actions.start_mission()).ok
        await until(lambda: vehicle.progress.reached >= {0, 1, 2, 3}, 20.0)
        assert await vehicle.until(lambda s: not s.armed and s.mode == "return", 20.0)
        assert vehicle.progress.total == 5
        assert len((await vehicle.download()).items) == 5
        assert (await vehicle.clear()).ok
        assert (await vehicle.download()).items == ()


async def test_offboard_flies_while_the_application_lives() -> None:
    async with flying() as (_, vehicle, actions, _):
        await airborne(actions)
        setpoint = LocalSetpoint(position=(20.0, 0.0, -12.0))
        started = await actions.fly_offboard(setpoint)
        assert started.ok, started

        def at_setpoint() -> bool:
            assert actions.renew(setpoint)
            place = vehicle.state.position
            return place is not None and distance(place.latitude, place.longitude, *HOME) > 19.0

        await until(at_setpoint)
        assert vehicle.state.mode == "offboard"
        # The application stops renewing: the stream ends and the vehicle's own failsafe takes over.
        assert await vehicle.until(lambda s: s.mode == "hold", 5.0)
        assert not actions.renew(setpoint)
        await until(lambda: any(text.text == "Offboard control lost" for text in vehicle.texts))


async def test_offboard_ends_when_the_pilot_takes_over() -> None:
    async with flying() as (_, vehicle, actions, simulator):
        await airborne(actions)
        setpoint = LocalSetpoint(velocity=(1.0, 0.0, 0.0))
        assert (await actions.fly_offboard(setpoint)).ok
        assert actions.renew(setpoint)
        simulator.tell("mode 4.3")

        def taken() -> bool:
            return not actions.renew(setpoint)

        await until(taken, 5.0)
        assert vehicle.state.mode == "hold"


@pytest.mark.parametrize("autopilot", ["px4", "ardupilot"])
async def test_parameters_are_listed_written_and_read(autopilot: str) -> None:
    async with flying(autopilot) as (_, vehicle, _, _):
        found = await vehicle.list_parameters()
        assert found.ok
        assert len(found.parameters) == 65
        assert found.parameters["CAL_MAG0_ID"].value == (-5_000_000 if autopilot == "px4" else -5_000)
        before = await vehicle.parameter_hash()
        for name, value in (("SYS_AUTOSTART", 4010), ("COM_OF_LOSS_T", 2.5), ("CAL_MAG0_ID", -4_200_000)):
            assert (await vehicle.write_parameter(name, value)).ok
            shown = (await vehicle.read_parameter(name)).parameter
            assert shown is not None
            assert shown.value == value
        assert (before is None) == (autopilot == "ardupilot")
        assert before is None or await vehicle.parameter_hash() != before
        with pytest.raises(ValueError, match="whole number"):
            await vehicle.write_parameter("SYS_AUTOSTART", 1.5)


@pytest.mark.parametrize("autopilot", ["px4", "ardupilot"])
async def test_parameters_whose_hash_is_the_same_are_not_transferred_again(autopilot: str, tmp_path: Path) -> None:
    async with flying(autopilot) as (made, vehicle, _, _):
        cache, came = ParameterCache(tmp_path), [0]

        def count(item: Message) -> None:
            came[0] += item["param_id"] != HASH_CHECK

        made.fleet.watch("PARAM_VALUE", count)
        first = await vehicle.list_parameters(cache=cache)
        assert first.ok
        assert came[0] >= len(first.parameters)
        came[0] = 0
        again = await vehicle.list_parameters(cache=cache)
        assert again.parameters == first.parameters
        if autopilot == "ardupilot":
            # It gives no hash: nothing is kept, and every list is a transfer.
            assert not again.cached
            assert not cache.holds("vehicle-1-1")
            return
        assert (again.cached, again.hash, came[0]) == (True, first.hash, 0)
        assert (await vehicle.write_parameter("COM_OF_LOSS_T", 2.75)).ok
        came[0] = 0
        changed = await vehicle.list_parameters(cache=cache)
        assert not changed.cached
        assert came[0] >= len(changed.parameters)
        assert changed.parameters["COM_OF_LOSS_T"].value == 2.75
        assert (await vehicle.list_parameters(cache=cache)).cached


async def test_an_ardupilot_that_answers_no_write_is_read_back() -> None:
    async with flying("ardupilot") as (_, vehicle, _, simulator):
        # Orders are carried out in their turn: when the battery is shown, the one before is done.
        for order in ("silent 1", "battery 60"):
            simulator.tell(order)
        assert await vehicle.until(lambda s: s.battery_percent == 60, 10.0)
        assert (await vehicle.write_parameter("SYS_AUTOSTART", 77)).ok


async def test_rates_requests_and_time() -> None:
    async with flying() as (made, vehicle, _, _):
        assert (await vehicle.set_rate("ATTITUDE", 50.0)).ok
        assert not (await vehicle.set_rate("SCALED_IMU", 50.0)).ok
        assert (await vehicle.request("AUTOPILOT_VERSION")).ok
        assert await vehicle.until(lambda s: s.capabilities is not None, 5.0)
        await until(lambda: vehicle.timesync.offset is not None)
        assert vehicle.timesync.offset is not None
        assert vehicle.timesync.offset.round_trip_ns < 500_000_000
        seen: list[str] = []
        stop = made.fleet.watch("ATTITUDE", lambda item: seen.append(item.name))
        await until(lambda: len(seen) >= 3)
        stop()


async def test_a_reboot_and_a_lost_vehicle_are_noticed() -> None:
    async with flying() as (made, vehicle, actions, simulator):
        changes: list[Change] = []
        vehicle.on_change.append(lambda change, _: changes.append(change))
        up_ms = [0]
        made.fleet.watch("SYSTEM_TIME", lambda item: up_ms.append(item["time_boot_ms"]))
        # A clock that goes back by 3 s or less is no reboot.
        await until(lambda: up_ms[-1] > 3500)
        assert (await actions.reboot()).ok
        await until(lambda: Change.REBOOTED in changes)
        simulator.process.kill()
        await until(lambda: Change.LOST in changes)
        result = await actions.arm()
        assert "no heartbeat" in result.reason


async def test_a_cancelled_upload_is_cancelled_at_the_vehicle() -> None:
    async with flying() as (made, vehicle, _, _):
        underway = asyncio.Event()
        stop = made.fleet.watch("MISSION_REQUEST_INT", lambda item: underway.set() if item["seq"] == 10 else None)
        items = [PlanItem.position(16, *HOME, 10.0) for _ in range(5000)]
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(vehicle.upload(items))
            async with asyncio.timeout(5.0):
                await underway.wait()
            task.cancel()
        assert task.cancelled()
        stop()
        assert (await vehicle.download()).items == ()


async def test_a_reboot_in_the_middle_of_an_upload_leaves_a_whole_plan() -> None:
    """It ends, says what came of it, and the plan on the vehicle is the one before or the new one, never a part."""
    async with flying() as (made, vehicle, _, simulator):
        changes: list[Change] = []
        vehicle.on_change.append(lambda change, _: changes.append(change))
        up_ms, underway = [0], asyncio.Event()
        made.fleet.watch("SYSTEM_TIME", lambda item: up_ms.append(item["time_boot_ms"]))
        before = [PlanItem.position(16, *HOME, height) for height in (10.0, 20.0)]
        assert (await vehicle.upload(before)).ok
        # A clock that goes back by 3 s or less is no reboot.
        await until(lambda: up_ms[-1] > 3500)
        stop = made.fleet.watch("MISSION_REQUEST_INT", lambda item: underway.set() if item["seq"] == 10 else None)
        after = [PlanItem.position(16, *HOME, 30.0) for _ in range(3000)]
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(vehicle.upload(after))
            async with asyncio.timeout(5.0):
                await underway.wait()
            stop()
            simulator.tell("reboot")
            async with asyncio.timeout(60.0):
                result = await task
        await until(lambda: Change.REBOOTED in changes)
        found = (await vehicle.download()).items
        assert same_plan(found, after if result.ok else before) is None, result
        assert (await vehicle.upload(after[:5])).ok, "and it can be done again"
