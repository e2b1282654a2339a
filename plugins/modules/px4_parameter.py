#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Bring parameters of an autopilot to their values."""

from __future__ import annotations

DOCUMENTATION = r"""
module: px4_parameter
short_description: Bring parameters of an autopilot to their values
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Reads the given parameters, writes those that differ, and reads each one back. A value that the autopilot refuses,
    or that its type cannot hold, is a failure that names the parameter.
  - Reboots the autopilot when a parameter that was changed asks for it, as the vehicle's own description of its
    parameters says, or as O(reboot_parameters) does; then the values are read again.
  - Nothing is written or rebooted while the vehicle is armed or in the air.
  - A run that was cut off is completed by the next one, with the reboot that was due.
extends_documentation_fragment:
  - wasmbed.edge.mavlink
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
  - wasmbed.edge.attributes.mavlink_group
options:
  values:
    description: Values by the name of the parameter.
    type: dict
    default: {}
  content:
    description:
      - Text of a parameter file, that of QGroundControl or one C(NAME value) a line, as the lookup
        P(ansible.builtin.file#lookup) gives it. What O(values) names counts before it.
    type: str
    default: ""
  reboot:
    description:
      - V(when_required) reboots after a change of a parameter that asks for it, V(always) after any change.
    type: str
    choices: [when_required, always, never]
    default: when_required
  reboot_parameters:
    description: Parameters that ask for a reboot, besides those of which the vehicle itself says so.
    type: list
    elements: str
    default: [SYS_AUTOSTART, SYS_AUTOCONFIG]
  reboot_due_dir:
    description:
      - Folder where the module runs, in which it is noted that a vehicle needs its reboot until it had it.
    type: path
    default: ~/.ansible/wasmbed-reboots
"""

EXAMPLES = r"""
- name: Have the drone return when its link is lost
  wasmbed.edge.px4_parameter:
    system_id: 1
    values:
      NAV_DLL_ACT: 2
      COM_DL_LOSS_T: 10

- name: Take the fleet's parameters from a file
  wasmbed.edge.px4_parameter:
    system_id: 1
    content: "{{ lookup('ansible.builtin.file', 'fleet.params') }}"
"""

RETURN = r"""
changed_parameters:
  description: What differed, by name.
  returned: success
  type: dict
  sample: {"COM_DL_LOSS_T": {"before": 5, "after": 10}}
rebooted:
  description: Whether the autopilot was rebooted (in check mode, whether it would be).
  returned: success
  type: bool
  sample: false
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
    """Read, write, reboot, and say what differed."""
    wanted = px4_vehicle.wanted_values(params["values"], params["content"], params["component_id"])
    present = await px4_vehicle.read_parameters(vehicle, wanted)
    differ = {name: value for name, value in wanted.items() if not px4_vehicle.equal(present[name], value)}
    changes = {name: {"before": present[name].value, "after": value} for name, value in differ.items()}
    due = px4_vehicle.RebootDue(params)
    asking, rebooting = set(), False
    if params["reboot"] != "never":
        if differ:
            asking = set(params["reboot_parameters"]) | (await px4_vehicle.needing_reboot(vehicle) or set())
        always = params["reboot"] == "always" and bool(differ)
        rebooting = always or bool(asking & differ.keys()) or bool(due.names())
    if (differ or rebooting) and not params["check_mode"]:
        px4_vehicle.on_ground(vehicle, "nothing is written")
        if rebooting:
            due.note(differ)
        for name, value in differ.items():
            px4_vehicle.on_ground(vehicle, f"{name} and what comes after it is not written")
            result = await vehicle.write_parameter(name, value)
            if not result.ok:
                raise px4_vehicle.VehicleError(str(result))
        if rebooting:
            await px4_vehicle.reboot(vehicle)
            due.done()
            after = await px4_vehicle.read_parameters(vehicle, wanted)
            lost = [name for name, value in wanted.items() if not px4_vehicle.equal(after[name], value)]
            if lost:
                raise px4_vehicle.VehicleError(f"lost by the reboot: {', '.join(sorted(lost))}")
    return {
        "changed": bool(differ) or rebooting,
        "changed_parameters": changes,
        "rebooted": rebooting,
        "diff": {
            "before": "".join(f"{name} {change['before']}\n" for name, change in sorted(changes.items())),
            "after": "".join(f"{name} {change['after']}\n" for name, change in sorted(changes.items())),
        },
    }


def main() -> None:
    module = px4_vehicle.new_module(
        values={"type": "dict", "default": {}},
        content={"type": "str", "default": ""},
        reboot={"type": "str", "choices": ["when_required", "always", "never"], "default": "when_required"},
        reboot_parameters={"type": "list", "elements": "str", "default": ["SYS_AUTOSTART", "SYS_AUTOCONFIG"]},
        reboot_due_dir={"type": "path", "default": "~/.ansible/wasmbed-reboots"},
    )
    module.params["check_mode"] = module.check_mode
    px4_vehicle.run(module, work)


if __name__ == "__main__":
    main()
