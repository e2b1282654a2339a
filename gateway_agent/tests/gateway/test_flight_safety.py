"""Flight safety with a simulated vehicle (ours, in its own process) that has no failsafe of its own where it counts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from flight_support import DEVICE, HOME, NAN, RIGHTS, rig, until
from wasmbed.bridges.mavlink import Geofence
from wasmbed.bridges.mavlink.offboard import Offboard
from wasmbed.gateway import px4_backend
from wasmbed.gateway.flight import Flight
from wasmbed.gateway.flight_config import FlightConfig
from wasmbed.gateway.flight_model import Claim, DeviceRecord, Gate, bind
from wasmbed.hostcalls import Ended, Status
from wasmbed.runtime import abi
from wasmbed.runtime.abi import OwnerLoss

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from flight_support import Application, Rig

pytestmark = pytest.mark.peers


def hold_within_s() -> float:
    """How long the vehicle may take from the loss of its owner to Hold, with everything on one machine."""
    return 5.0 * busy()


@pytest.fixture
def setpoints_live_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setpoint gets too old, so that a machine that stands still for half a second ends no flight by that."""
    monkeypatch.setitem(Offboard.__init__.__kwdefaults__, "proof_of_life_s", 600.0)
    monkeypatch.setattr(px4_backend, "PROOF_OF_LIFE_S", 600.0)


async def offboard(made: Rig, name: str = "pilot", rights: frozenset[str] = RIGHTS) -> tuple[Application, Callable]:  # type: ignore[type-arg]
    """An application that flies offboard a vehicle without a failsafe of its own, and what ends its renewing."""
    app = await made.application(name, rights)
    await made.airborne(app)
    await made.order("failsafe 0")
    renewing = await made.in_offboard(app)
    return app, renewing.cancel


async def holds(made: Rig, why: str) -> None:
    """The setpoints have stopped already, Hold comes within the bound, and both are told."""
    assert made.vehicle.offboard is None, "setpoints stop at once"
    assert await made.vehicle.until(lambda s: s.mode == "hold", hold_within_s())
    await until(lambda: "HoldConfirmed" in made.reasons)
    (told,) = [item for item in made.flight.incidents(DEVICE) if item.reason == "HoldCommanded"]
    assert why in told.message


async def fly_far(made: Rig, app: Application) -> None:
    """A mission of half a minute."""
    item = abi.WAYPOINT.pack(16, 3, 1, 0.0, 2.0, 0.0, NAN, HOME[0] + 0.03, HOME[1], 15.0)
    assert (await app.call("mission", 1, data=item))[0] == 0
    assert await app.command(176, 1.0, 4.0, 4.0) == 0
    assert await made.vehicle.until(lambda s: s.mode == "mission", 5.0)


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (Ended.TRAPPED, "its owner default/pilot failed"),
        (Ended.STOPPED, "its owner default/pilot was stopped"),
        (Ended.UPDATED, "its owner default/pilot was updated"),
        (Ended.LINK_LOST, "lost its runtime or the link to it"),
    ],
)
async def test_a_vehicle_whose_owner_ends_in_offboard_holds(why: Ended, words: str) -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        if why is Ended.TRAPPED:
            made.dispatcher.trapped(app.name)
            await until(lambda: made.vehicle.offboard is None, hold_within_s())
        elif why is Ended.LINK_LOST:
            made.dispatcher.lost(made.peer)
            await until(lambda: made.vehicle.offboard is None, hold_within_s())
        else:
            await made.dispatcher.close(app.name, why)
        await holds(made, words)
        assert made.flight.incidents(DEVICE)[-1].application == "default/pilot"
        assert len(made.backend.owners) == 0, "setpoints that come late do not make it the owner again"
        stop()


async def test_a_second_order_for_offboard_does_not_hide_that_the_owner_flies() -> None:
    """The second one is refused while the first is under way; the owner's update then left the vehicle in offboard."""
    async with rig() as made:
        app = await made.application("pilot")
        await made.airborne(app)
        await made.order("failsafe 0")

        async def again() -> None:
            await until(lambda: made.vehicle.offboard is not None)
            assert (await app.call("offboard", 1))[0] == Status.REJECTED

        second = asyncio.ensure_future(again())
        stop = (await made.in_offboard(app)).cancel
        await second
        await made.dispatcher.close(app.name, Ended.UPDATED)
        await holds(made, "was updated")
        stop()


async def test_an_owner_that_is_lost_while_the_mode_is_entered_does_not_leave_it_entered() -> None:
    async with rig() as made:
        app = await made.application("pilot")
        await made.airborne(app)
        await made.order("failsafe 0")
        entering = asyncio.ensure_future(made.in_offboard(app))
        await until(lambda: made.vehicle.offboard is not None and made.vehicle.offboard.phase != "priming", 10.0)
        await made.dispatcher.close(app.name, Ended.STOPPED)
        await until(lambda: "HoldConfirmed" in made.reasons, 2 * hold_within_s())
        # An order for offboard may be sent again for 1.5 s.
        assert await made.modes(3) == {"hold"}
        entering.cancel()


async def test_a_link_that_is_back_tells_what_was_lost_with_it() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        made.dispatcher.lost(made.peer)
        await until(lambda: len(made.backend.owners) == 0)
        assert app.losses == [], "there is no way to tell it"
        app = await made.application("pilot")
        await until(lambda: app.losses == [OwnerLoss.LOST])
        assert await app.command(20) == Status.DENIED
        assert (await app.call("acquire"))[0] == 0
        assert await app.command(20) == 0
        stop()


async def test_an_owner_that_ends_while_a_mission_flies_leaves_it_but_one_that_is_removed_does_not() -> None:
    async with rig() as made:
        for why, mode in ((Ended.TRAPPED, "mission"), (Ended.STOPPED, "hold")):
            app = await made.application("patrol")
            assert (await app.call("acquire"))[0] == 0
            if not made.vehicle.state.in_air:
                await made.airborne(app)
            await fly_far(made, app)
            if why is Ended.TRAPPED:
                made.dispatcher.trapped(app.name)
                await until(lambda: len(made.backend.owners) == 0)
                assert await made.modes(2) == {"mission"}
            else:
                await made.dispatcher.close(app.name, why)
            assert await made.vehicle.until(lambda s, mode=mode: s.mode == mode, hold_within_s())
        await until(lambda: made.reasons == ["HoldCommanded", "HoldConfirmed"])


async def test_hold_is_asked_for_again_until_the_vehicle_shows_it() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        await made.order("deaf 600")
        await made.dispatcher.close(app.name, Ended.TRAPPED)
        assert await made.modes(3) == {"offboard"}
        await made.order("deaf 0")
        await until(lambda: made.vehicle.state.mode == "hold", 2 * hold_within_s())
        await until(lambda: "HoldConfirmed" in made.reasons)
        stop()


async def test_a_vehicle_that_does_not_hold_is_told_of() -> None:
    async with rig(hold_s=2.0) as made:
        app, stop = await offboard(made)
        await made.order("deaf 600")
        await made.dispatcher.close(app.name, Ended.TRAPPED)
        await until(lambda: "HoldFailed" in made.reasons, 15.0)
        assert made.flight.holds["failed"] == 1
        stop()


async def test_an_owner_that_stops_renewing_loses_the_flight_but_not_the_vehicle() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        stop()
        await until(lambda: made.vehicle.offboard is None, 5.0)
        await holds(made, "no setpoint came for 0.5 s")
        assert app.losses == []
        assert await app.command(20) == 0


async def test_a_pilot_who_takes_over_is_left_in_control() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        assert made.simulator is not None
        made.simulator.tell("mode 3.0")
        assert await made.vehicle.until(lambda s: s.mode == "position", 5.0)
        await until(lambda: made.vehicle.offboard is None)
        await made.dispatcher.close(app.name, Ended.TRAPPED)
        assert (await made.modes(3), made.reasons) == ({"position"}, [])
        stop()


async def test_a_setpoint_outside_of_the_geofence_ends_the_ownership(setpoints_live_long: None) -> None:
    fence = Geofence(centre=HOME[:2], radius_m=100.0, max_height_m=50.0)
    heights = (NAN, NAN, -12.0, *(NAN,) * 5)
    inside, outside = (abi.SETPOINT.pack(3, *heights, HOME[0] + north, HOME[1]) for north in (0.0, 0.01))
    async with rig(geofence=fence) as made:
        app = await made.application("pilot")
        await made.airborne(app)
        await made.order("failsafe 0")
        assert (await app.call("setpoint", data=outside))[0] == Status.REJECTED
        assert (await app.call("offboard", 1))[0] == Status.INVALID, "it was not taken"
        assert app.losses == []
        assert (await app.call("setpoint", data=inside))[0] == 0
        assert (await app.call("offboard", 1))[0] == 0
        assert (await app.call("setpoint", data=outside))[0] == Status.REJECTED
        assert app.losses == [OwnerLoss.GUARD]
        await holds(made, "is outside of the geofence")
        assert (await app.call("setpoint", data=inside))[0] == Status.DENIED
        assert len(made.backend.owners) == 0, "what it sends before it knows does not make it the owner again"
        assert (await app.call("acquire"))[0] == 0


async def test_offboard_ends_in_order_with_hold() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        assert (await app.call("offboard", 0))[0] == 0
        assert made.vehicle.state.mode == "hold"
        assert made.reasons == []
        stop()


async def test_the_kill_switch_takes_the_vehicle_and_has_it_hold() -> None:
    async with rig() as made:
        app, stop = await offboard(made)
        began = time.monotonic()
        made.flight.set_devices({DEVICE: DeviceRecord(suspended=True, system_id=1)})
        assert made.flight.gates[DEVICE] == Gate(True, "is in the air")
        await holds(made, "the device is suspended")
        assert time.monotonic() - began < 2 * hold_within_s()
        assert app.losses == [OwnerLoss.SUSPENDED]
        assert made.reasons[0] == "Suspended"
        assert await app.command(400, 1.0) == Status.UNAVAILABLE
        made.flight.set_devices({DEVICE: DeviceRecord(system_id=1)})
        assert (await app.call("acquire"))[0] == 0
        stop()


async def test_the_kill_switch_stops_a_mission_too_and_leaves_a_vehicle_on_the_ground_alone() -> None:
    async with rig() as made:
        made.flight.set_devices({DEVICE: DeviceRecord(suspended=True, system_id=1)})
        assert (await made.modes(2), made.reasons) == ({"manual"}, ["Suspended"])
        made.flight.set_devices({DEVICE: DeviceRecord(system_id=1)})
        app = await made.application("pilot")
        await made.airborne(app)
        await fly_far(made, app)
        made.flight.set_devices({DEVICE: DeviceRecord(suspended=True, system_id=1)})
        assert await made.vehicle.until(lambda s: s.mode == "hold", hold_within_s())


async def test_a_vehicle_that_is_lost_in_flight_keeps_its_gate_closed_for_a_stated_time() -> None:
    async with rig(lost_in_flight_s=12.0) as made:
        app, stop = await offboard(made)
        assert made.flight.gates[DEVICE].flying == "is in the air"
        assert made.simulator is not None
        made.simulator.process.kill()
        await until(lambda: made.flight.gates[DEVICE].flying == "was lost in flight", 15.0)
        assert app.losses == [OwnerLoss.LOST]
        assert made.flight.vehicles[DEVICE].mode == "lost"
        assert made.flight.vehicles[DEVICE].in_air
        saved = made.flight.to_saved()
        again = Flight(made.flight.config)
        again.restore(saved)
        again.set_devices({DEVICE: DeviceRecord(system_id=1)})
        assert again.gates[DEVICE].flying == "was lost in flight", "an agent that is started again knows"
        await until(lambda: DEVICE not in made.flight.gates, 20.0)
        stop()


async def test_gates_and_vehicles_follow_a_flight() -> None:
    async with rig() as made:
        told: list[set[str]] = []
        made.flight.on_told.append(told.append)
        assert DEVICE not in made.flight.gates
        shown = made.flight.vehicles[DEVICE]
        assert (shown.armed, shown.in_air, shown.mode, shown.battery, shown.fix) == (False, False, "manual", 90, "3D")
        assert made.simulator is not None
        for percent, battery in ((89, 90), (88, 90), (87, 85), (91, 85), (92, 90), (43, 40)):
            made.simulator.tell(f"battery {percent}")
            await until(lambda percent=percent: made.vehicle.state.battery_percent == percent)
            await until(lambda battery=battery: made.flight.vehicles[DEVICE].battery == battery)
        app = await made.application("pilot")
        assert await app.command(400, 1.0) == 0
        assert await made.vehicle.until(lambda s: s.armed, 5.0)
        assert made.flight.gates[DEVICE] == Gate(flying="is armed")
        await made.airborne(app)
        assert made.flight.gates[DEVICE] == Gate(flying="is in the air")
        before = len(told)
        await made.modes(3)
        assert len(told) == before, "nothing is told while nothing changes"
        assert await app.command(20) == 0
        await until(lambda: DEVICE not in made.flight.gates, 30.0)


async def test_a_vehicle_that_was_not_heard_yet_may_be_flying_for_a_moment() -> None:
    async with rig(heard=False) as made:
        await until(lambda: made.flight.gates.get(DEVICE) == Gate(flying="was not heard yet"))
        await until(lambda: DEVICE not in made.flight.gates, 10.0)


async def test_the_end_of_the_agent_leaves_no_vehicle_in_offboard() -> None:
    async with rig() as made:
        _, stop = await offboard(made)
        looking = next(task for task in asyncio.all_tasks() if "Flight.run" in str(task.get_coro()))
        looking.cancel()
        assert await made.vehicle.until(lambda s: s.mode == "hold", hold_within_s())
        stop()


def test_a_device_that_was_suspended_before_is_not_suspended_anew() -> None:
    flight = Flight(FlightConfig())
    flight.set_devices({DEVICE: DeviceRecord(suspended=True)})
    assert [item.reason for item in flight.incidents(DEVICE)] == ["Suspended"]
    again = Flight(FlightConfig())
    again.restore(flight.to_saved())
    again.set_devices({DEVICE: DeviceRecord(suspended=True)})
    assert [item.reason for item in again.incidents(DEVICE)] == ["Suspended"]
    assert again.gates[DEVICE].suspended


@pytest.mark.parametrize(
    "saved", [None, [], {"flying": 5}, {"flying": [[1]], "incidents": {"d": [1, {}]}}, {"suspended": "x"}]
)
def test_damaged_saved_state_is_nothing(saved: object) -> None:
    flight = Flight(FlightConfig())
    flight.restore(saved)
    flight.set_devices({DEVICE: DeviceRecord(system_id=1)})
    assert (flight.gates, flight.incidents(DEVICE), flight.incidents("d")) == ({}, (), ())


def test_a_vehicle_is_its_devices_own_else_what_an_application_names() -> None:
    claims = [Claim("n/a", "n/x", system_id=9), Claim("n/b", "n/x", system_id=7), Claim("n/c", "n/y", component_id=3)]
    assert bind({}, claims) == {"n/x": (7, 1)}
    devices = {"n/x": DeviceRecord(system_id=2), "n/y": DeviceRecord(system_id=7)}
    assert bind(devices, claims) == {"n/x": (2, 1), "n/y": (7, 3)}
    assert bind({"n/y": DeviceRecord(system_id=7)}, claims) == {"n/x": (9, 1), "n/y": (7, 3)}, "7 is another device's"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hold_s": 0.0}, "hold_s"),
        ({"lost_in_flight_s": 1.0}, "lost_in_flight_s"),
        ({"geofences": {0: None}}, "1 to 255"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlightConfig(**values)  # type: ignore[arg-type]
