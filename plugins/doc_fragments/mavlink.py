# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Documentation of the options in module_utils.px4_vehicle.MAVLINK_ARGUMENTS."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that speak with an autopilot."""

    DOCUMENTATION = r"""
options:
  address:
    description:
      - Where the vehicle is heard. An endpoint of a gateway, best one that listens on its loopback address, when the
        module runs there; or the vehicle itself. C(tcp:HOST:PORT), C(udpout:HOST:PORT), C(udpin:HOST:PORT) or
        C(serial:DEVICE:BAUD).
    type: str
    default: tcp:127.0.0.1:5760
  system_id:
    description: MAVLink system id of the vehicle.
    type: int
    required: true
  component_id:
    description: MAVLink component id of its autopilot.
    type: int
    default: 1
  own_system_id:
    description: MAVLink system id of this ground station. It must be unique in the network.
    type: int
    default: 246
  signing_key_path:
    description:
      - File with the vehicle's signing key where the module runs, 64 hexadecimal digits with mode 0600, such as the
        role P(wasmbed.edge.mavlink#role) writes. What is sent is signed with it then, and what is not signed with it
        is refused.
    type: path
  timeout:
    description: Seconds in which the vehicle must be heard.
    type: float
    default: 20.0
requirements:
  - The Python distribution wasmbed where the module runs. A gateway has it in C(/opt/wasmbed/venv), whose Python is
    given as C(ansible_python_interpreter).
"""
