#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read parameters of an autopilot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: px4_parameter_info
short_description: Read parameters of an autopilot
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Returns the given parameters of an autopilot, or all of them.
extends_documentation_fragment:
  - wasmbed.edge.mavlink
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
  - wasmbed.edge.attributes.mavlink_group
options:
  names:
    description: The parameters. Without it all of them are read.
    type: list
    elements: str
    default: []
seealso:
  - module: wasmbed.edge.px4_parameter
"""

EXAMPLES = r"""
- name: Read what the drone does when its link is lost
  wasmbed.edge.px4_parameter_info:
    system_id: 1
    names: [NAV_DLL_ACT]
  register: found
"""

RETURN = r"""
parameters:
  description: Values by name.
  returned: success
  type: dict
  sample: {"NAV_DLL_ACT": 2, "COM_DL_LOSS_T": 10.0}
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import px4_vehicle


async def work(vehicle, params: dict) -> dict:
    """Read some, or all."""
    if params["names"]:
        found = await px4_vehicle.read_parameters(vehicle, params["names"])
    else:
        listed = await vehicle.list_parameters()
        if not listed.ok:
            raise px4_vehicle.VehicleError(f"the list of parameters is {listed.outcome}: {len(listed.parameters)} came")
        found = listed.parameters
    return {"changed": False, "parameters": {name: item.value for name, item in found.items()}}


def main() -> None:
    px4_vehicle.run(px4_vehicle.new_module(names={"type": "list", "elements": "str", "default": []}), work)


if __name__ == "__main__":
    main()
