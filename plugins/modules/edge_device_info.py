#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read EdgeDevices."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_device_info
short_description: Read EdgeDevices
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Returns the EdgeDevices that all given filters choose, with their status, ordered by namespace and name.
  - They are read in pages of 500.
extends_documentation_fragment:
  - wasmbed.edge.kube
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
  - wasmbed.edge.attributes.edge_group
options:
  name:
    description: Only those of this name.
    type: str
  namespace:
    description: Only those of this namespace. Without it those of all namespaces.
    type: str
  label_selector:
    description: Only those whose labels match, in the notation of C(kubectl -l).
    type: str
seealso:
  - module: wasmbed.edge.edge_device
"""

EXAMPLES = r"""
- name: Read the quadcopters
  wasmbed.edge.edge_device_info:
    namespace: default
    label_selector: drone-type=quadcopter
  register: quadcopters

- name: Name those that are not connected
  ansible.builtin.debug:
    msg: "{{ quadcopters.devices | rejectattr('status.phase', 'eq', 'Connected') | map(attribute='metadata.name') }}"
"""

RETURN = r"""
devices:
  description: The objects, without C(metadata.managedFields). An empty list when none match.
  returned: success
  type: list
  elements: dict
  sample:
    - apiVersion: wasmbed.io/v1
      kind: EdgeDevice
      metadata: {"name": "drone-alpha-001", "namespace": "default", "labels": {"drone-type": "quadcopter"}}
      spec: {"deviceType": "drone"}
      status: {"phase": "Connected", "gateway": "gw1", "deviceClass": "gateway"}
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import kube_info
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import EDGE_DEVICE


def main() -> None:
    kube_info.run(EDGE_DEVICE, "devices")


if __name__ == "__main__":
    main()
