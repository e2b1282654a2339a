#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Boot and remove systemd-nspawn hosts with overlays of one base image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_hosts
short_description: Boot and remove systemd-nspawn hosts on a bridge of their own
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Makes hosts with a real systemd and sshd out of one read-only base image, each with an overlay of its own, on a
    bridge that leads nowhere else. The machine's own first process need not be systemd.
  - A host that is up is left alone, whatever its options say; remove it first to have it made anew.
requirements:
  - systemd-nspawn, iproute2 and overlayfs on the machine
  - root
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
options:
  directory:
    description: Where the hosts live. The module owns its folder C(hosts).
    type: path
    required: true
  state:
    description: V(present) boots what is not up and removes hosts that are no longer listed; V(absent) removes all.
    type: str
    choices: [present, absent]
    default: present
  bridge:
    description: Name of the bridge.
    type: str
    required: true
  bridge_address:
    description: The machine's address on the bridge, with prefix length.
    type: str
    required: true
  base:
    description: The base image, a folder. Needed to boot a host.
    type: path
  hosts:
    description: The hosts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Host name.
        type: str
        required: true
      address:
        description: Address on the bridge, without prefix length.
        type: str
        required: true
      files:
        description: Path on the host to a dictionary with C(content) and C(mode). Not shown in any output.
        type: dict
        default: {}
  binds:
    description: Folders of the machine that the hosts see read-only.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Folder on the machine.
        type: path
        required: true
      target:
        description: Where the hosts see it.
        type: path
        required: true
"""

EXAMPLES = r"""
- name: Boot two hosts
  wasmbed.edge.nspawn_hosts:
    directory: build/lab
    base: /var/cache/wasmbed/base
    bridge: wb0
    bridge_address: 10.79.0.1/24
    hosts:
      - name: cp1
        address: 10.79.0.11
      - name: gw1
        address: 10.79.0.21
"""

RETURN = r"""
booted:
  description: Hosts that were booted.
  returned: success
  type: list
  elements: str
  sample: [cp1]
removed:
  description: Hosts that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils.nspawn import Bridge, Host, Lab, LabError


def argument_spec() -> dict:
    return {
        "directory": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "bridge": {"type": "str", "required": True},
        "bridge_address": {"type": "str", "required": True},
        "base": {"type": "path"},
        "hosts": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str", "required": True},
                "files": {"type": "dict", "default": {}, "no_log": True},
            },
        },
        "binds": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "source": {"type": "path", "required": True},
                "target": {"type": "path", "required": True},
            },
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    lab = Lab(os.path.abspath(params["directory"]), Bridge(params["bridge"], params["bridge_address"]))
    present = params["state"] == "present"
    wanted = {entry["name"]: entry for entry in params["hosts"]} if present else {}
    exists = lab.names()
    booted = [name for name in wanted if lab.pid(name) is None]
    removed = [name for name in exists if name not in wanted]
    bridge_changes = lab.bridge_is_up() is not present
    result = {
        "changed": bool(booted or removed or bridge_changes),
        "booted": booted,
        "removed": removed,
        "diff": {
            "before": {"hosts": [name for name in exists if lab.pid(name)], "bridge": lab.bridge_is_up()},
            "after": {"hosts": sorted(wanted), "bridge": present},
        },
    }
    if module.check_mode:
        module.exit_json(**result)
    try:
        for name in removed:
            lab.remove(name)
        if present and bridge_changes:
            lab.make_bridge()
        for name in booted:
            if not params["base"] or not os.path.isdir(params["base"]):
                raise LabError(f"base image {params['base']!r} is no folder; make it first (role wasmbed.edge.lab)")
            host = Host(name, wanted[name]["address"])
            lab.start(host, params["base"], params["binds"], wanted[name]["files"])
        for name in booted:
            lab.wait(Host(name, wanted[name]["address"]))
        if not present and bridge_changes:
            lab.remove_bridge()
    except (LabError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
