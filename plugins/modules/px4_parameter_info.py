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
  - All of them are kept on disk under the hash that PX4 gives for them (C(_HASH_CHECK)), and are not transferred again
    while the vehicle gives the same one. PX4 leaves volatile parameters out of it, so those may be older; name them.
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
  cache_dir:
    description: Folder where the module runs, in which all parameters of a vehicle are kept. Empty to keep nothing.
    type: path
    default: ~/.ansible/wasmbed-parameters
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
cached:
  description: Whether the vehicle's hash was that of the parameters on disk, so that none was transferred.
  returned: success
  type: bool
  sample: false
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import px4_vehicle


async def work(vehicle, params: dict) -> dict:
    """Read some, or all."""
    cached = False
    if params["names"]:
        found = await px4_vehicle.read_parameters(vehicle, params["names"])
    else:
        listed = await vehicle.list_parameters(cache=px4_vehicle.parameter_cache(params))
        if not listed.ok:
            raise px4_vehicle.VehicleError(f"the list of parameters is {listed.outcome}: {len(listed.parameters)} came")
        found, cached = listed.parameters, listed.cached
    return {"changed": False, "cached": cached, "parameters": {name: item.value for name, item in found.items()}}


def main() -> None:
    module = px4_vehicle.new_module(
        names={"type": "list", "elements": "str", "default": []},
        cache_dir={"type": "path", "default": "~/.ansible/wasmbed-parameters"},
    )
    px4_vehicle.run(module, work)


if __name__ == "__main__":
    main()
