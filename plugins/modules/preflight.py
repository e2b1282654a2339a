#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Check that a host can take what is going to be installed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check that a host can take what is going to be installed on it
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Makes all its checks in one task and fails with every problem and its remedy at once. It changes nothing.
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
options:
  what:
    description: What is going to be installed, for the message.
    type: str
    required: true
  architectures:
    description: Supported architectures, by Debian's names. None given, none refused.
    type: list
    elements: str
    default: []
  distributions:
    description: Supported distributions, as C(ID VERSION_ID) of C(/etc/os-release). None given, none refused.
    type: list
    elements: str
    default: []
  memory_mib:
    description: The MiB of memory that the host must have.
    type: int
    default: 0
  ports:
    description: TCP ports that must be free, or listened on by the unit that is to have them.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      unit:
        description: Name of the unit, with its suffix.
        type: str
        required: true
  data:
    description: Folders of data, each with a file that names the site it belongs to.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The data. When it does not exist, nothing is checked.
        type: path
        required: true
      site_file:
        description: The file that names the data's site.
        type: path
        required: true
      site:
        description: What the file must say.
        type: str
        required: true
  free_mib:
    description: Path to the MiB that must be free there.
    type: dict
    default: {}
  time:
    description: The control machine's time in seconds since 1970, to check the clock.
    type: float
  max_clock_difference:
    description: How far the clock may be from O(time), in seconds.
    type: float
    default: 60
  names:
    description: Names that must resolve.
    type: list
    elements: str
    default: []
  endpoints:
    description: C(host:port) that must accept connections.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check the gateway
  wasmbed.edge.preflight:
    what: a gateway
    architectures: [amd64, arm64]
    free_mib:
      /var/lib: 512
    time: "{{ now(utc=true).timestamp() }}"
    endpoints: ["api.wasmbed.local:6443"]
"""

RETURN = r"""
problems:
  description: What is wrong, each with its remedy.
  returned: always
  type: list
  elements: str
  sample: []
foreign_data:
  description: Those of O(data) that belong to another site. The caller decides what becomes of them.
  returned: success
  type: list
  elements: str
  sample: []
cgroup_limits:
  description: Whether the host enforces limits such as C(MemoryMax=) of units. In a container they may have no effect.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils import preflight


def argument_spec() -> dict:
    strings = {"type": "list", "elements": "str", "default": []}
    return {
        "what": {"type": "str", "required": True},
        "architectures": strings,
        "distributions": strings,
        "memory_mib": {"type": "int", "default": 0},
        "ports": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "port": {"type": "int", "required": True},
                "unit": {"type": "str", "required": True},
            },
        },
        "data": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "path": {"type": "path", "required": True},
                "site_file": {"type": "path", "required": True},
                "site": {"type": "str", "required": True},
            },
        },
        "free_mib": {"type": "dict", "default": {}},
        "time": {"type": "float"},
        "max_clock_difference": {"type": "float", "default": 60},
        "names": strings,
        "endpoints": strings,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    problems = [
        *preflight.services_manager(),
        *preflight.architecture(params["architectures"]),
        *preflight.distribution(params["distributions"]),
        *preflight.memory(params["memory_mib"]),
        *preflight.ports(params["ports"]),
        *preflight.disk(params["free_mib"]),
        *preflight.clock(params["time"], params["max_clock_difference"]),
        *preflight.names(params["names"]),
        *preflight.endpoints(params["endpoints"]),
    ]
    if problems:
        message = f"This host cannot become {params['what']}:\n- " + "\n- ".join(problems)
        module.fail_json(msg=message, problems=problems)
    module.exit_json(
        changed=False,
        problems=[],
        foreign_data=preflight.foreign_data(params["data"]),
        cgroup_limits=preflight.enforces_limits(),
    )


if __name__ == "__main__":
    main()
