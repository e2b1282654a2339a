#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Bring a plan of an autopilot to its state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: px4_mission
short_description: Bring the mission, the geofence or the rally points of an autopilot to their state
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Reads the plan of the vehicle, uploads the given one when it differs, and reads it back. A plan is on the vehicle as
    a whole, or the module fails.
  - A plan is not replaced while the vehicle is armed or in the air, unless O(in_flight) is set.
extends_documentation_fragment:
  - wasmbed.edge.mavlink
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
  - wasmbed.edge.attributes.mavlink_group
options:
  state:
    description: V(present) has the plan there, V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  plan:
    description: Which plan.
    type: str
    choices: [mission, fence, rally]
    default: mission
  items:
    description: The items, in their order.
    type: list
    elements: dict
    suboptions:
      command:
        description: Name of the MAV_CMD without its prefix, for example V(nav_waypoint), or its number.
        type: str
        required: true
      latitude:
        description: Degrees (WGS 84). Left out with O(items[].longitude) for a command without a place.
        type: float
      longitude:
        description: Degrees (WGS 84).
        type: float
      altitude:
        description: Metres above what O(items[].above) says.
        type: float
      above:
        description: What the altitude is above.
        type: str
        choices: [home, sea_level]
        default: home
      params:
        description: The command's first four parameters. Those left out are 0, and the fourth the vehicle's default.
        type: list
        elements: float
      autocontinue:
        description: Whether the vehicle goes on to the next item by itself.
        type: bool
        default: true
  content:
    description: The plan as the text of a file C(QGC WPL 110), in place of O(items).
    type: str
  in_flight:
    description: Whether a plan is replaced while the vehicle is armed or in the air.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Give the drone its patrol
  wasmbed.edge.px4_mission:
    system_id: 1
    items:
      - {command: nav_takeoff, latitude: 47.397742, longitude: 8.545594, altitude: 15}
      - {command: nav_waypoint, latitude: 47.3980, longitude: 8.5456, altitude: 20}
      - {command: nav_return_to_launch}

- name: Take the geofence away
  wasmbed.edge.px4_mission:
    system_id: 1
    plan: fence
    state: absent
"""

RETURN = r"""
plan_items:
  description: The plan that is on the vehicle (in check mode, that would be).
  returned: success
  type: list
  elements: dict
  sample:
    - command: nav_waypoint
      frame: 3
      latitude: 47.398
      longitude: 8.5456
      altitude: 20.0
      params: [0.0, 0.0, 0.0, null]
      autocontinue: true
cause:
  description:
    - What kind of failure it is, V(not_heard) when no heartbeat came, V(in_flight) when the vehicle is armed or in the
      air, else V(refused).
  returned: failure
  type: str
  sample: not_heard
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import px4_vehicle


async def work(vehicle, params: dict) -> dict:
    """Compare, and upload or clear."""
    plan = px4_vehicle.plan_type(params["plan"])
    wanted = px4_vehicle.plan_items(params) if params["state"] == "present" else []
    present = await vehicle.download(plan)
    if not present.ok:
        raise px4_vehicle.VehicleError(f"the plan cannot be read: {present}")
    differs = not px4_vehicle.same_items(present.items, wanted)
    if differs and not params["check_mode"]:
        if not params["in_flight"]:
            px4_vehicle.on_ground(vehicle, f"its {params['plan']} is not replaced (see in_flight)")
        result = await (vehicle.upload(wanted, plan) if wanted else vehicle.clear(plan))
        if not result.ok:
            raise px4_vehicle.VehicleError(f"the plan is not on the vehicle: {result}")
    return {
        "changed": differs,
        "plan_items": px4_vehicle.shown(wanted),
        "diff": {"before": px4_vehicle.as_text(present.items), "after": px4_vehicle.as_text(wanted)},
    }


def main() -> None:
    item = {
        "command": {"type": "str", "required": True},
        "latitude": {"type": "float"},
        "longitude": {"type": "float"},
        "altitude": {"type": "float"},
        "above": {"type": "str", "choices": ["home", "sea_level"], "default": "home"},
        "params": {"type": "list", "elements": "float"},
        "autocontinue": {"type": "bool", "default": True},
    }
    module = px4_vehicle.new_module(
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        plan={"type": "str", "choices": ["mission", "fence", "rally"], "default": "mission"},
        items={"type": "list", "elements": "dict", "options": item},
        content={"type": "str"},
        in_flight={"type": "bool", "default": False},
        mutually_exclusive=[("items", "content")],
        required_if=[("state", "present", ("items", "content"), True)],
    )
    module.params["check_mode"] = module.check_mode
    px4_vehicle.run(module, work)


if __name__ == "__main__":
    main()
