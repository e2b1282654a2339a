#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Make, run and reset emulated microcontrollers of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_device
short_description: Make, run and reset emulated microcontrollers
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Gives a host emulated boards, each with a flash file of its own, a unit C(wasmbed-qemu@NAME) and a serial line that
    C(wasmbed-serial) serves by TCP, as slow as its baud rate.
  - A device's flash is made from a firmware image once, with a key pair of its own; a run with another image changes
    the firmware alone and keeps identity, generator state and modules. The private key never leaves the host.
  - All devices of a host are one task. The role P(wasmbed.edge.qemu_host#role) installs what this module needs.
requirements:
  - the role wasmbed.edge.qemu_host on the host
extends_documentation_fragment:
  - wasmbed.edge.attributes
options:
  devices:
    description:
      - The devices. With O(state=absent), O(state=stopped) and O(state=reset) their names are enough; with
        O(state=started) and O(state=restarted) too, for a device that the host has and that is to stay as it is.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The device's name; its EdgeDevice has the same.
        type: str
        required: true
      board:
        description: V(stm32) is an STM32F405 with 128 KiB of memory, V(hifive1) a FE310 with 16 KiB.
        type: str
        choices: [stm32, hifive1]
      firmware:
        description: The firmware image of the board, a file of the host.
        type: path
      gateway:
        description: Name of the gateway the device connects to.
        type: str
      gateway_key:
        description: The gateway's public link key, 32 bytes in base64.
        type: str
      address:
        description: Address of the host at which the line is served.
        type: str
        default: 127.0.0.1
      port:
        description: TCP port of the line.
        type: int
      baud:
        description: Speed of the line in bits a second.
        type: int
        default: 115200
      drop_per_million:
        description: Bytes of a million that get lost, for tests.
        type: int
        default: 0
      corrupt_per_million:
        description: Bytes of a million that are altered, for tests.
        type: int
        default: 0
      silence_reset_s:
        description:
          - Seconds without a byte from the device, 5 to 86400, after which its machine is reset; V(0) never does.
          - Time in which the host was suspended does not count; a machine that QEMU's monitor holds is left alone.
        type: int
        default: 120
      sensor_rate:
        description:
          - How often the simulated sensors (imu, barometer, gps, battery of a vehicle that flies circles) have samples,
            as a share of their own rates of 100, 25, 5 and 1 Hz; V(0) is never.
        type: float
        default: 0.1
  state:
    description:
      - V(present) makes devices and leaves machines as they are, but starts one anew that runs and gets another flash;
        V(started) also has them run now and after a reboot.
      - V(stopped) has them not run; V(restarted) starts the machine anew; V(reset) presses its reset button.
      - V(absent) removes devices with their keys.
    type: str
    choices: [present, started, stopped, restarted, reset, absent]
    default: started
  exclusive:
    description: Whether to remove devices of the host that are not listed. Not with V(stopped), V(reset) and V(absent).
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: V(restarted) and V(reset) do it each time.
"""

EXAMPLES = r"""
- name: Run two boards
  wasmbed.edge.qemu_device:
    devices:
      - name: mcu-1
        board: stm32
        firmware: /var/lib/wasmbed/bundle/firmware/stm32.flash
        gateway: gw1
        gateway_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
        address: 10.79.0.41
        port: 5501
      - name: riscv-1
        board: hifive1
        firmware: /var/lib/wasmbed/bundle/firmware/hifive1.flash
        gateway: gw1
        gateway_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
        address: 10.79.0.41
        port: 5502

- name: Switch a board off for a while
  wasmbed.edge.qemu_device:
    devices:
      - name: mcu-1
    state: stopped

- name: Switch it on again
  wasmbed.edge.qemu_device:
    devices:
      - name: mcu-1

- name: Press a reset button
  wasmbed.edge.qemu_device:
    devices:
      - name: mcu-1
    state: reset
"""

RETURN = r"""
changes:
  description: What was done, in its order.
  returned: success
  type: list
  elements: str
  sample: ["flash of mcu-1", "start mcu-1"]
devices:
  description:
    - The devices that were given with more than their names, with V(present), V(started) and V(restarted).
    - In check mode a new device has no key yet.
  returned: success
  type: list
  elements: dict
  sample:
    - name: mcu-1
      board: stm32
      port: 5501
      public_key: 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=
      firmware: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

import traceback

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils.qemu import (
    Devices,
    Paths,
    check,
    check_names,
    endpoints,
    listed,
)
from ansible_collections.wasmbed.edge.plugins.module_utils.services import Host, ServicesError

MAKING = ("present", "started", "restarted")
NEEDED = ("board", "firmware", "gateway", "gateway_key", "port")


def argument_spec() -> dict:
    device = {
        "name": {"type": "str", "required": True},
        "board": {"type": "str", "choices": ["stm32", "hifive1"]},
        "firmware": {"type": "path"},
        "gateway": {"type": "str"},
        "gateway_key": {"type": "str", "no_log": False},
        "address": {"type": "str", "default": "127.0.0.1"},
        "port": {"type": "int"},
        "baud": {"type": "int", "default": 115200},
        "drop_per_million": {"type": "int", "default": 0},
        "corrupt_per_million": {"type": "int", "default": 0},
        "silence_reset_s": {"type": "int", "default": 120},
        "sensor_rate": {"type": "float", "default": 0.1},
    }
    states = ["present", "started", "stopped", "restarted", "reset", "absent"]
    return {
        "devices": {"type": "list", "elements": "dict", "default": [], "options": device},
        "state": {"type": "str", "choices": states, "default": "started"},
        "exclusive": {"type": "bool", "default": False},
    }


def apply(module: AnsibleModule, host: Host) -> list[dict]:
    """Bring the devices to their state; return their rows."""
    params, paths = module.params, Paths()
    devices, state = params["devices"], params["state"]
    names = [device["name"] for device in devices]
    check_names(names)
    there = listed(paths)
    unknown = sorted(set(names) - set(there))
    worker = Devices(host, module.run_command, module.check_mode, paths)
    rows = []
    if state in MAKING:
        made = []
        for device in devices:
            missing = [key for key in NEEDED if device[key] is None]
            if missing == list(NEEDED) and device["name"] not in unknown and state != "present":
                continue
            if missing:
                raise ServicesError(f"device {device['name']}: give {', '.join(missing)}")
            made.append(device)
        removed = [name for name in there if params["exclusive"] and name not in names]
        kept = set(there) - set(removed) - {device["name"] for device in made}
        check(made, endpoints(sorted(kept), paths))
        rows = [worker.present(device) for device in made]
        for name in removed:
            worker.absent(name)
    elif unknown and state != "absent":
        raise ServicesError(f"no such device on this host: {', '.join(unknown)}; make it with state=present first")
    if state == "absent":
        for name in names:
            worker.absent(name)
    worker.reload_lines()
    if state != "absent":
        worker.run(names, state)
    return rows


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if module.params["exclusive"] and module.params["state"] not in MAKING:
        module.fail_json(
            msg=f"exclusive removes what is not listed and does not go with state={module.params['state']}"
        )
    host = Host(module.run_command, module.check_mode)
    try:
        rows = apply(module, host)
    except (ServicesError, OSError) as error:
        module.fail_json(msg=str(error), changes=host.changes, exception=traceback.format_exc())
    diff = [
        {"before_header": path, "after_header": path, "before": host.before[path], "after": host.after[path]}
        for path in host.after
    ]
    module.exit_json(changed=bool(host.changes), changes=host.changes, devices=rows, diff=diff)


if __name__ == "__main__":
    main()
