#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read a plan of an autopilot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: px4_mission_info
short_description: Read the mission, the geofence or the rally points of an autopilot
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Returns the items of a plan that is on the vehicle.
extends_documentation_fragment:
  - wasmbed.edge.mavlink
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
  - wasmbed.edge.attributes.mavlink_group
options:
  plan:
    description: Which plan.
    type: str
    choices: [mission, fence, rally]
    default: mission
seealso:
  - module: wasmbed.edge.px4_mission
"""

EXAMPLES = r"""
- name: Read the drone's mission
  wasmbed.edge.px4_mission_info:
    system_id: 1
  register: found
"""

RETURN = r"""
plan_items:
  description: The items in their order; C(frame) is the MAV_FRAME, 3 above home.
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
content:
  description: The same as the text of a file C(QGC WPL 110).
  returned: success
  type: str
  sample: "QGC WPL 110\n"
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import px4_vehicle


async def work(vehicle, params: dict) -> dict:
    """Download the plan."""
    found = await vehicle.download(px4_vehicle.plan_type(params["plan"]))
    if not found.ok:
        raise px4_vehicle.VehicleError(f"the plan cannot be read: {found}")
    return {"changed": False, "plan_items": px4_vehicle.shown(found.items), "content": px4_vehicle.as_text(found.items)}


def main() -> None:
    plan = {"type": "str", "choices": ["mission", "fence", "rally"], "default": "mission"}
    px4_vehicle.run(px4_vehicle.new_module(plan=plan), work)


if __name__ == "__main__":
    main()
