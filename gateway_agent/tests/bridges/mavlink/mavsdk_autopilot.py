"""An autopilot made of MAVSDK's server plugins, in a process of its own: nothing of it is ours but these calls.

    python mavsdk_autopilot.py udpout://127.0.0.1:14550 SYSTEM [FOLDER]

It arms, disarms, changes modes, takes off and lands as commanded, has parameters and a mission, and prints what it was
told (`armed 1`, `mission 3`, ...). With a folder its files are served. Lines on standard input:
`send MESSAGE_NAME JSON` sends any message.
"""

import importlib
import json
import queue
import sys
import threading
import time
import types
from typing import Any

import mavsdk.plugins
from mavsdk.component_type import ComponentType
from mavsdk.mavsdk import Configuration, Mavsdk
from mavsdk.plugins.action_server import action_server
from mavsdk.plugins.ftp_server.ftp_server import FtpServer
from mavsdk.plugins.mavlink_direct_server import mavlink_direct_server
from mavsdk.plugins.mission_raw_server.mission_raw_server import MissionRawServer
from mavsdk.plugins.param_server.param_server import ParamServer
from mavsdk.plugins.telemetry_server import telemetry_server as telemetry


def load_metadata_server() -> Any:
    """The plugin's module without its package, whose import fails in MAVSDK 4.1.0."""
    name = "mavsdk.plugins.component_metadata_server"
    package = types.ModuleType(name)
    package.__path__ = [f"{path}/component_metadata_server" for path in mavsdk.plugins.__path__]
    sys.modules[name] = package
    return importlib.import_module(f"{name}.component_metadata_server")


METADATA = {"version": 1, "parameters": [{"name": f"TEST_{number:02d}", "type": "Float"} for number in range(20)]}


def position(height_m: float) -> tuple[Any, Any, Any]:
    """Position, velocity and heading at a height."""
    return (
        telemetry.Position(47.397742, 8.545594, 488.0 + height_m, height_m),
        telemetry.VelocityNed(0.0, 0.0, 0.0),
        telemetry.Heading(0.0),
    )


def main() -> None:  # noqa: PLR0912, PLR0915 - one loop of orders
    address, system = sys.argv[1], int(sys.argv[2])
    configuration = Configuration.create_with_component_type(ComponentType.AUTOPILOT)
    configuration.system_id = system
    configuration.component_id = 1
    sdk = Mavsdk(configuration)
    sdk.add_any_connection(address)
    component = sdk.server_component_by_type(ComponentType.AUTOPILOT)
    actions = action_server.ActionServer(component)
    parameters = ParamServer(component)
    missions = MissionRawServer(component)
    senses = telemetry.TelemetryServer(component)
    direct = mavlink_direct_server.MavlinkDirectServer(component)
    component_metadata_server = load_metadata_server()
    metadata = component_metadata_server.ComponentMetadataServer(component)
    kind = component_metadata_server.MetadataType.PARAMETER
    metadata.set_metadata([component_metadata_server.Metadata(kind, json.dumps(METADATA))])
    if len(sys.argv) > 3:
        FtpServer(component).set_root_dir(sys.argv[3])
    orders: queue.Queue[tuple[str, Any]] = queue.Queue()
    for name, value in (("SYS_AUTOSTART", 4001), ("CAL_MAG0_ID", -5_000_000)):
        parameters.provide_param_int(name, value)
    for number in range(20):
        parameters.provide_param_float(f"TEST_{number:02d}", number / 4)
    actions.set_armable(True, True)
    actions.set_disarmable(True, True)
    actions.set_allow_takeoff(True)
    actions.set_allowable_flight_modes(action_server.AllowableFlightModes(True, True, True, True, True, True, True))
    actions.subscribe_arm_disarm(lambda _, order, __: orders.put(("armed", bool(order.arm))))
    actions.subscribe_flight_mode_change(lambda _, mode, __: orders.put(("mode", mode)))
    actions.subscribe_takeoff(lambda *_: orders.put(("takeoff", True)))
    actions.subscribe_land(lambda *_: orders.put(("land", True)))
    missions.subscribe_incoming_mission(lambda _, plan, __: orders.put(("mission", len(plan.mission_items))))
    missions.subscribe_clear_all(lambda *_: orders.put(("cleared", 1)))
    threading.Thread(target=read, args=(orders,), daemon=True).start()
    print("ready", flush=True)
    height, landed, published = 0.0, telemetry.LandedState.ON_GROUND, 0.0
    armed, mode = False, None
    while True:
        try:
            what, value = orders.get(timeout=0.05)
        except queue.Empty:
            what, value = "", None
        if what == "armed":
            # MAVSDK reports the state that is set as an order again.
            if value == armed:
                continue
            armed = value
            actions.set_armed_state(value)
        elif what == "takeoff":
            height, landed = 10.0, telemetry.LandedState.IN_AIR
            actions.set_flight_mode(action_server.FlightMode.TAKEOFF)
        elif what == "land":
            height, landed = 0.0, telemetry.LandedState.ON_GROUND
            actions.set_flight_mode(action_server.FlightMode.LAND)
        elif what == "mode":
            if value == mode:
                continue
            mode = value
            actions.set_flight_mode(value)
        elif what == "send":
            name, fields = value
            direct.send_message(mavlink_direct_server.MavlinkMessage(name, system, 1, 0, 0, fields))
        elif what == "end":
            return
        if what:
            print(what, value if what == "send" else int(value), flush=True)
        if time.monotonic() - published > 0.1:
            published = time.monotonic()
            senses.publish_position(*position(height))
            senses.publish_home(telemetry.Position(47.397742, 8.545594, 488.0, 0.0))
            senses.publish_extended_sys_state(telemetry.VtolState.UNDEFINED, landed)
            fix = telemetry.RawGps(
                latitude_deg=47.397742, longitude_deg=8.545594, absolute_altitude_m=488.0 + height, hdop=1.0, vdop=1.0
            )
            senses.publish_raw_gps(fix, telemetry.GpsInfo(12, telemetry.FixType.FIX_3D))


def read(orders: "queue.Queue[tuple[str, Any]]") -> None:
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "send":
            name, _, fields = rest.partition(" ")
            orders.put(("send", (name, fields)))
    orders.put(("end", 0))


if __name__ == "__main__":
    main()
