#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read WasmApplications."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_application_info
short_description: Read WasmApplications
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Returns the WasmApplications that all given filters choose, with their status, ordered by namespace and name.
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
  - module: wasmbed.edge.wasm_application
"""

EXAMPLES = r"""
- name: Read one application
  wasmbed.edge.wasm_application_info:
    name: hello
    namespace: default
  register: hello

- name: Show where it stands
  ansible.builtin.debug:
    msg: "{{ hello.applications | map(attribute='status.phase') }}"
"""

RETURN = r"""
applications:
  description: The objects, without C(metadata.managedFields). An empty list when none match.
  returned: success
  type: list
  elements: dict
  sample:
    - apiVersion: wasmbed.io/v1
      kind: WasmApplication
      metadata: {"name": "hello", "namespace": "default"}
      spec: {"wasmImage": "registry.wasmbed.io/examples/hello:v1.0.0", "targetDevices": [{"deviceType": "drone"}]}
      status: {"phase": "Running", "counts": {"selected": 1, "running": 1, "failed": 0, "pending": 0}}
"""

from ansible_collections.wasmbed.edge.plugins.module_utils import kube_info
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import WASM_APPLICATION


def main() -> None:
    kube_info.run(WASM_APPLICATION, "applications")


if __name__ == "__main__":
    main()
