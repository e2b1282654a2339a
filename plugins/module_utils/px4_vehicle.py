# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""A vehicle for the modules that speak with an autopilot, by the bridge of the distribution wasmbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import stat
import tempfile
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

WASMBED_ERROR = None
try:
    from wasmbed.bridges.mavlink import Actions, Change, Endpoint, Fleet, Hub, MavlinkConfig, PlanItem
    from wasmbed.bridges.mavlink.component_info import MetadataError
    from wasmbed.bridges.mavlink.definitions import default_dialect
    from wasmbed.bridges.mavlink.mission_items import PlanType, parse_waypoints, same_plan, write_waypoints
    from wasmbed.bridges.mavlink.parameter_files import ParameterCache, parse_file
    from wasmbed.bridges.mavlink.parameter_values import FLOAT, single
except ImportError:
    WASMBED_ERROR = traceback.format_exc()

MAVLINK_ARGUMENTS = {
    "address": {"type": "str", "default": "tcp:127.0.0.1:5760"},
    "system_id": {"type": "int", "required": True},
    "component_id": {"type": "int", "default": 1},
    "own_system_id": {"type": "int", "default": 246},
    "signing_key_path": {"type": "path"},
    "timeout": {"type": "float", "default": 20.0},
}
REBOOT_S = 60.0
OWN_COMPONENT = 190


NOT_HEARD = "not_heard"
IN_FLIGHT = "in_flight"
REFUSED = "refused"


class VehicleError(Exception):
    """What keeps a vehicle from its state; the message says what to change, the cause what kind of thing it is."""

    def __init__(self, message: str, cause: str = REFUSED) -> None:
        super().__init__(message)
        self.cause = cause


def new_module(**spec) -> AnsibleModule:
    """Make a module with the options of a vehicle and further ones; it fails when the distribution is missing."""
    extra = {name: spec.pop(name) for name in ("mutually_exclusive", "required_one_of", "required_if") if name in spec}
    module = AnsibleModule(argument_spec={**MAVLINK_ARGUMENTS, **spec}, supports_check_mode=True, **extra)
    if WASMBED_ERROR is not None:
        module.fail_json(msg=missing_required_lib("wasmbed"), exception=WASMBED_ERROR)
    return module


def run(module: AnsibleModule, work) -> None:
    """Connect, do C(work(vehicle, params)), and end the module with what it returns."""
    try:
        result = asyncio.run(_run(module.params, work))
    except (VehicleError, ValueError, OSError) as error:
        module.fail_json(msg=str(error), cause=getattr(error, "cause", REFUSED))
    except BaseExceptionGroup as group:
        module.fail_json(msg="; ".join(str(error) for error in _leaves(group)), cause=REFUSED)
    module.exit_json(**result)


def _leaves(group) -> list:
    """Return the errors in a group of errors and groups."""
    return [
        leaf for error in group.exceptions for leaf in (_leaves(error) if hasattr(error, "exceptions") else [error])
    ]


async def _run(params: dict, work) -> dict:
    async with connected(params) as (vehicle, hub):
        # Not through the contexts: task groups would make a group of it.
        try:
            if not await vehicle.until(lambda state: state.connected, params["timeout"]):
                raise VehicleError(
                    f"no heartbeat of system {params['system_id']}, component {params['component_id']} came through "
                    f"{params['address']} within {params['timeout']:g} s ({_heard(hub)}); "
                    "look at the address, the endpoint and the ids"
                    + ("" if params["signing_key_path"] is None else ", and whether the vehicle has the same key"),
                    NOT_HEARD,
                )
            return await work(vehicle, params)
        except (VehicleError, ValueError, OSError) as error:
            failure = error
    raise failure


@contextlib.asynccontextmanager
async def connected(params: dict):
    """Give the vehicle, heard or not, and the hub. Raises ValueError for options that make no sense."""
    with _key_folder(params["signing_key_path"]) as folder:
        endpoint = Endpoint("module", params["address"], signing_key="module" if folder else "")
        config = MavlinkConfig((endpoint,), params["own_system_id"], OWN_COMPONENT, key_folder=folder)
        async with Hub(config).running() as hub, Fleet(hub.switch, config.system, config.component).running() as fleet:
            yield fleet.vehicle(params["system_id"], params["component_id"]), hub


def _heard(hub) -> str:
    """Say what there is instead of the vehicle: nobody at the address, or others behind it."""
    ports = hub.switch.ports
    if not ports:
        return "nobody is connected there"
    systems = [system for system in hub.switch.router.systems if system != hub.config.system]
    frames = sum(port.statistics.received_frames for port in ports)
    return f"{frames} frames came, of systems {', '.join(map(str, systems)) or 'none'}"


@contextlib.contextmanager
def _key_folder(path: str | None):
    """Give a folder with a copy of the key alone: the times beside a gateway's keys are its agent's to write."""
    if path is None:
        yield None
        return
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise VehicleError(f"{path}: others can read it (mode {mode:04o}); set it to 0600")
        key = file.read(4096)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wasmbed-key-"))
    try:
        copy = folder / "module.key"
        copy.touch(mode=0o600)
        copy.write_bytes(key)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_name(address: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", address)


def parameter_cache(params: dict):
    """Return the cache of an address's vehicles, or None without a folder. Raises OSError when it cannot be made."""
    if not params["cache_dir"]:
        return None
    folder = pathlib.Path(params["cache_dir"]) / _file_name(params["address"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ParameterCache(folder)


class RebootDue:
    """The note that a vehicle still needs its reboot. It outlives a run that was cut off before it."""

    def __init__(self, params: dict) -> None:
        name = _file_name(params["address"])
        ids = f"{params['system_id']}-{params['component_id']}"
        self._path = pathlib.Path(params["reboot_due_dir"]) / f"{name}-{ids}.json"

    def names(self) -> list[str]:
        """Return the parameters that were written and still ask for a reboot."""
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(65536))
        except FileNotFoundError:
            return []
        except ValueError:
            # Half a note is a note: a reboot too many on the ground does no harm.
            return ["(not known)"]
        return [str(name) for name in found] if isinstance(found, list) else ["(not known)"]

    def note(self, names) -> None:
        """Note it, on disk before anything is written to the vehicle."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(sorted({*self.names(), *names}), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    def done(self) -> None:
        """Take the note away."""
        self._path.unlink(missing_ok=True)


def on_ground(vehicle, what: str) -> None:
    """Raise VehicleError unless the vehicle is disarmed and not in the air."""
    state = vehicle.state
    if state.armed or state.in_air:
        raise VehicleError(
            f"the vehicle is {'in the air' if state.in_air else 'armed'}, so {what}; land and disarm it", IN_FLIGHT
        )


async def reboot(vehicle) -> None:
    """Reboot the autopilot and wait until it is heard again."""
    on_ground(vehicle, "it is not rebooted")
    again = asyncio.Event()

    def changed(change, _state) -> None:
        if change in (Change.REBOOTED, Change.CONNECTED):
            again.set()

    vehicle.on_change.append(changed)
    try:
        result = await Actions(vehicle).reboot()
        if not result.ok:
            raise VehicleError(f"the autopilot was not rebooted: {result.reason}")
        async with asyncio.timeout(REBOOT_S):
            await again.wait()
    except TimeoutError:
        raise VehicleError(f"the autopilot was not heard again within {REBOOT_S:g} s after its reboot") from None
    finally:
        vehicle.on_change.remove(changed)
    if not await vehicle.until(lambda state: state.connected, REBOOT_S):
        raise VehicleError("the autopilot is not heard any more after its reboot")


def wanted_values(values: dict, text: str, component: int) -> dict:
    """Return parameters by name, of a file's text and of values, which count where both have one."""
    found = {item.name: item.value for item in parse_file(text) if item.component in (None, component)}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise VehicleError(f"parameter {name}: {value!r} is not a number")
        try:
            number = float(value)
        except ValueError:
            raise VehicleError(f"parameter {name}: {value!r} is not a number") from None
        found[name] = int(number) if number.is_integer() else number
    return found


def equal(present, wanted) -> bool:
    """Whether a parameter has a value, as far as its type can hold it."""
    if present.type == FLOAT:
        return single(float(present.value)) == single(float(wanted))
    return present.value == wanted


async def read_parameters(vehicle, names) -> dict:
    """Read parameters by name. Raises VehicleError that names those the vehicle does not have."""
    found, missing = {}, []
    for name in names:
        result = await vehicle.read_parameter(name)
        if result.parameter is None:
            missing.append(str(result))
        else:
            found[name] = result.parameter
    if missing:
        raise VehicleError("; ".join(missing))
    return found


async def needing_reboot(vehicle) -> set | None:
    """Return the names of parameters that need a reboot, as the vehicle says; None when it does not say."""
    try:
        metadata = await vehicle.metadata()
    except MetadataError:
        return None
    entries = metadata.get("parameter", {}).get("parameters")
    if not isinstance(entries, list):
        return None
    return {entry.get("name") for entry in entries if isinstance(entry, dict) and entry.get("rebootRequired") is True}


def plan_items(params: dict) -> list:
    """Return the items of a plan, from a file's text or from the option C(items). Raises VehicleError."""
    if params.get("content") is not None:
        return parse_waypoints(params["content"])
    return [_item(number, item) for number, item in enumerate(params["items"] or [])]


def _item(number: int, item: dict):
    try:
        command = item["command"]
        code = int(command) if command.isdigit() else default_dialect().value(f"MAV_CMD_{command.upper()}")
    except (KeyError, ValueError):
        raise VehicleError(f"item {number}: MAVLink has no command {item['command']!r}") from None
    named = {f"param{at}": value for at, value in enumerate(item["params"] or [], 1)}
    if len(named) > 4:
        raise VehicleError(f"item {number}: params are the first four; latitude, longitude and altitude are the others")
    place = [item["latitude"], item["longitude"]]
    try:
        if place == [None, None]:
            return PlanItem(code, z=item["altitude"] or 0.0, autocontinue=item["autocontinue"], **named)
        if None in place or item["altitude"] is None:
            raise VehicleError(f"item {number}: a place is latitude, longitude and altitude")
        frame = 3 if item["above"] == "home" else 0
        more = {**named, "autocontinue": item["autocontinue"]}
        return PlanItem.position(code, *place, item["altitude"], frame=frame, **more)
    except ValueError as error:
        raise VehicleError(f"item {number}: {error}") from error


def plan_type(name: str):
    """Return the PlanType of a name."""
    return PlanType[name.upper()]


def shown(items) -> list:
    """Return items as the modules return them."""
    found = []
    for item in items:
        x, y = item.place
        params = [item.param1, item.param2, item.param3, item.param4]
        entry = {
            "command": default_dialect().entry("MAV_CMD", item.command).removeprefix("MAV_CMD_").lower(),
            "frame": item.frame,
            "params": [None if math.isnan(value) else value for value in params],
            "autocontinue": item.autocontinue,
        }
        if item.frame != 2:
            entry.update(latitude=x, longitude=y, altitude=item.z)
        found.append(entry)
    return found


def same_items(left, right) -> bool:
    """Whether two plans are the same on a vehicle."""
    return same_plan(left, right) is None


def as_text(items) -> str:
    """Return a plan as the text of a C(QGC WPL 110) file."""
    return write_waypoints(items)
