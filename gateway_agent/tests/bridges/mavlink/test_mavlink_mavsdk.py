"""An autopilot that is not ours: MAVSDK's server plugins in their own process."""

import asyncio
import contextlib
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import Gateway, Program, gateway, program, until
from pymavlink import mavutil
from wasmbed.bridges.mavlink import supplement
from wasmbed.bridges.mavlink.actions import Actions
from wasmbed.bridges.mavlink.codec import decode
from wasmbed.bridges.mavlink.commands import GIVE_UP_S, Command, Outcome
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.frames import Frame, FrameParser, make_frame
from wasmbed.bridges.mavlink.ftp_files import Entry
from wasmbed.bridges.mavlink.mission_items import PlanItem, same_plan
from wasmbed.bridges.mavlink.vehicle import Vehicle
from wasmbed.bridges.mavlink.vehicle_state import Landed

pytest.importorskip("mavsdk")
HOME = (47.397742, 8.545594)


@asynccontextmanager
async def autopilot(*options: object) -> AsyncIterator[tuple[Gateway, Vehicle, Actions, Program]]:
    async with (
        gateway() as made,
        program("mavsdk_autopilot.py", f"udpout://127.0.0.1:{made.port}", 3, *options) as peer,
    ):
        vehicle = made.fleet.vehicle(3)
        assert await vehicle.until(lambda s: s.connected and s.has_position, 30.0)
        assert await vehicle.until(lambda s: s.landed is Landed.ON_GROUND, 30.0)
        yield made, vehicle, Actions(vehicle), peer


async def test_actions() -> None:
    async with autopilot() as (_, vehicle, actions, peer):
        armed = await actions.arm()
        assert armed.ok, armed
        assert await peer.line(start="armed") == "armed 1"
        flown = await actions.take_off(10.0)
        assert flown.ok, flown
        assert await peer.line(start="takeoff") == "takeoff 1"
        assert not (await actions.disarm()).ok
        returning = await actions.return_home()
        assert not returning.ok or vehicle.state.mode == "return"
        assert (await actions.set_mode("return")).ok
        assert await peer.line(start="mode 5") == "mode 5"
        forced = await actions.disarm(force=True)
        assert forced.ok, forced
        assert await peer.line(start="armed") == "armed 0"


async def test_every_answer_is_that_of_a_direct_connection() -> None:
    """The same commands through the router and by plain pymavlink on a socket of its own; no answer is an answer."""
    commands = {
        "arm": (400, (1.0, 0.0)),
        "land": (21, (0.0, 0.0, 0.0, math.nan, math.nan, math.nan, math.nan)),
        "return": (20, ()),
        "mode land": (176, (1.0, 4.0, 6.0)),
        "airframe": (2520, ()),
        "request version": (512, (148.0,)),
    }

    def direct(connection: Any, number: int, params: tuple[float, ...]) -> int | None:
        beat(connection)
        connection.mav.command_long_send(3, 1, number, 0, *params, *(0.0,) * (7 - len(params)))
        # As long as our client waits, so that no answer is none and not a late one.
        end = time.monotonic() + GIVE_UP_S
        while time.monotonic() < end:
            beat(connection)
            found = connection.recv_match(type="COMMAND_ACK", blocking=True, timeout=0.5)
            if found is not None and found.command == number:
                return int(found.result)
        return None

    def beat(connection: Any) -> None:
        # MAVSDK answers nobody whose heartbeat it has not heard for three seconds.
        connection.mav.heartbeat_send(18, 8, 0, 0, 4)

    def known(connection: Any) -> bool:
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            beat(connection)
            connection.mav.command_long_send(3, 1, 512, 0, 148.0, *(0.0,) * 6)
            if connection.recv_match(type="AUTOPILOT_VERSION", blocking=True, timeout=1.0) is not None:
                break
        else:
            return False
        # Answers to the other ones of these questions are none to what is asked next.
        while connection.recv_match(type="COMMAND_ACK", blocking=True, timeout=1.0) is not None:
            beat(connection)
        return True

    connection = mavutil.mavlink_connection("udpin:127.0.0.1:0", source_system=245, source_component=191)
    port = connection.port.getsockname()[1]
    expected = {}
    async with program("mavsdk_autopilot.py", f"udpout://127.0.0.1:{port}", 3):
        await asyncio.to_thread(connection.wait_heartbeat)
        assert await asyncio.to_thread(known, connection)
        for name, (number, params) in commands.items():
            expected[name] = await asyncio.to_thread(direct, connection, number, params)
    connection.close()
    results = {None: Outcome.UNCONFIRMED, 0: Outcome.ACCEPTED, 1: Outcome.TEMPORARILY_REJECTED, 2: Outcome.DENIED}
    results |= {3: Outcome.UNSUPPORTED, 4: Outcome.FAILED}
    async with autopilot() as (_, vehicle, _, _):
        for name, (number, params) in commands.items():
            result = await vehicle.command(Command(number, params))
            assert result.outcome is results[expected[name]], name


async def test_parameters() -> None:
    async with autopilot() as (_, vehicle, _, _):
        found = await vehicle.list_parameters()
        assert found.ok
        assert found.parameters["CAL_MAG0_ID"].value == -5_000_000
        assert found.parameters["TEST_07"].value == 1.75
        assert (await vehicle.write_parameter("CAL_MAG0_ID", -4_200_000)).ok
        assert (await vehicle.write_parameter("TEST_07", 0.1)).ok
        shown = (await vehicle.read_parameter("CAL_MAG0_ID")).parameter
        assert shown is not None
        assert shown.value == -4_200_000


@pytest.mark.parametrize("count", [1, 2, 60])
async def test_missions_go_up_and_come_back(count: int) -> None:
    async with autopilot() as (_, vehicle, _, peer):
        items = [
            PlanItem.position(16, HOME[0] + n / 1e4, HOME[1], 10.0 + n, param1=float(n), param4=0.0)
            for n in range(count)
        ]
        uploaded = await vehicle.upload(items)
        assert uploaded.ok, uploaded
        assert await peer.line(start="mission") == f"mission {count}"
        found = await vehicle.download()
        assert found.ok
        assert same_plan(found.items, items) is None


def sample(kind: str, array: int, at: int) -> Any:
    def one(number: int) -> Any:
        return 0.5 * number if kind in ("float", "double") else number

    if kind == "char":
        return "text"
    return [one(at + number) for number in range(array)] if array else one(at)


async def test_frames_of_mavsdk_are_ours_byte_by_byte() -> None:
    """Every message of the supplement, and of the set the bridge converts, as MAVSDK's own XML makes it."""
    dialect = default_dialect()
    names = [name for _, name, _ in supplement.MESSAGES] + list(supplement.EXTENSIONS)
    names += [
        "ATTITUDE",
        "GLOBAL_POSITION_INT",
        "BATTERY_STATUS",
        "ODOMETRY",
        "HIGHRES_IMU",
        "COMMAND_LONG",
        "COMMAND_INT",
    ]
    names += ["HOME_POSITION", "SERVO_OUTPUT_RAW", "GPS_RAW_INT", "LOCAL_POSITION_NED", "ATTITUDE_QUATERNION"]
    left_out = {"AVAILABLE_MODES", "WIFI_CONFIG_AP", "SERIAL_CONTROL"}
    targets = {"target_system": 245, "target_component": 191}
    compared = set()
    async with autopilot() as (made, _, _, peer):
        got: dict[str, Frame] = {}

        def take(frame: Frame) -> None:
            if frame.definition is not None and frame.system == 3:
                got[frame.definition.name] = frame

        made.fleet.port.on_frame = take
        for name in names:
            if name in left_out:
                continue
            definition = dialect[name]
            values = {item.name: sample(item.type, item.array, at + 1) for at, item in enumerate(definition.fields)}
            # MAVSDK sends only to systems that it has heard.
            values.update({name: number for name, number in targets.items() if name in values})
            got.pop(name, None)
            # It may not have heard us yet, and then it does not send what is for us.
            for _ in range(4):
                peer.tell(f"send {name} {json.dumps(values)}")
                with contextlib.suppress(TimeoutError):
                    await until(lambda name=name: got.get(name), 0.6)  # type: ignore[misc]
                    break
            frame = got.get(name)
            if frame is None:
                continue
            ours = make_frame(
                definition, decode(definition, frame.payload), system=3, component=1, sequence=frame.sequence
            )
            assert ours == frame.raw, name
            (parsed,) = FrameParser().feed(frame.raw)
            assert parsed.definition is definition
            compared.add(name)
    # What is left is what MAVSDK's own telemetry or its library does not send by this plugin.
    assert len(compared) >= 30, sorted(set(names) - compared)
    assert {"COMMAND_CANCEL", "EVENT", "REQUEST_EVENT", "COMPONENT_METADATA", "TIMESYNC"} <= compared


async def test_component_metadata_is_found_and_read_over_ftp() -> None:
    async with autopilot() as (_, vehicle, _, _):
        found = await vehicle.metadata()
        assert {"general", "parameter"} <= set(found)
        assert [entry["name"] for entry in found["parameter"]["parameters"]] == [f"TEST_{n:02d}" for n in range(20)]
        missing = await vehicle.read_file("/no/such/file")
        assert not missing.ok
        assert missing.reason


async def test_files_of_mavsdk_are_listed_read_and_written(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(5000)
    (tmp_path / "there.bin").write_bytes(data)
    (tmp_path / "folder").mkdir()
    async with autopilot(tmp_path) as (_, vehicle, _, _):
        assert (await vehicle.read_file("there.bin")).data == data
        written = await vehicle.write_file("new.bin", data[::-1])
        assert written.ok, written
        assert (tmp_path / "new.bin").read_bytes() == data[::-1]
        listed = await vehicle.list_files("/")
        assert listed.ok, listed
        assert {Entry("there.bin", 5000), Entry("new.bin", 5000), Entry("folder")} <= set(listed.entries or ())
        again = await vehicle.write_file("there.bin", b"short")
        assert again.ok, again
        assert (tmp_path / "there.bin").read_bytes() == b"short"
