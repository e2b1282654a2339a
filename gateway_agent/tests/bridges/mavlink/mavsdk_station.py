"""A ground station made of MAVSDK's client, in a process of its own.

    python mavsdk_station.py udpout://127.0.0.1:14550 SYSTEM

Prints `ready` when it knows the vehicle. Lines on standard input name what to do; the answer is one line of JSON.
"""

import json
import math
import sys
import time
from typing import Any

from mavsdk.component_type import ComponentType
from mavsdk.mavsdk import Configuration, Mavsdk
from mavsdk.plugins.action.action import Action
from mavsdk.plugins.mission_raw.mission_raw import MissionItem, MissionRaw
from mavsdk.plugins.param.param import Param
from mavsdk.plugins.telemetry.telemetry import Telemetry


def do(word: str, rest: str, action: Any, param: Any, mission: Any, telemetry: Any) -> Any:
    """One order."""
    if word == "position":
        # NaN until the first telemetry has come, which on a busy machine is after the first answers.
        end = time.monotonic() + 20.0
        while not math.isfinite((found := telemetry.position()).latitude_deg) and time.monotonic() < end:
            time.sleep(0.05)
        return [round(found.latitude_deg, 6), round(found.longitude_deg, 6), bool(telemetry.armed())]
    if word == "get":
        return param.get_param_int(rest)
    if word == "all":
        found = param.get_all_params()
        return [len(found.int_params), len(found.float_params)]
    if word == "upload":
        mission.upload_mission([item(number, int(rest)) for number in range(int(rest))])
        return int(rest)
    if word == "download":
        return [[found.seq, found.command, found.x, found.y, found.z] for found in mission.download_mission()]
    return getattr(action, word)()


def item(number: int, count: int) -> Any:
    """A waypoint."""
    return MissionItem(
        number, 3, 16, int(number == 0), 1, 0.0, 0.0, 0.0, 0.0, 473977420 + number, 85455940, 10.0 + count, 0
    )


def main() -> None:
    configuration = Configuration.create_with_component_type(ComponentType.GROUND_STATION)
    sdk = Mavsdk(configuration)
    sdk.add_any_connection(sys.argv[1])
    wanted = int(sys.argv[2])
    system = None
    end = time.monotonic() + 20.0
    while system is None and time.monotonic() < end:
        sdk.first_autopilot(1.0)
        system = next((found for found in sdk.get_systems() if found.get_system_id() == wanted), None)
    if system is None:
        sys.exit("no vehicle")
    plugins = Action(system), Param(system), MissionRaw(system), Telemetry(system)
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        try:
            answer = do(word, rest, *plugins)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print("answer", json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
