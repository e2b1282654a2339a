#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Bring the users, folders, files and systemd units of a host's services to their state, in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: Bring a host's services to their state in one task
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Installs packages, makes system users, folders and files, and enables and starts systemd units.
  - A unit is restarted when a file it watches changed after it began to start. A run that was cut off between writing a
    file and restarting its unit therefore loses no restart, as handlers would.
  - One task instead of one per file, because a host-task costs more than the work it does.
requirements:
  - systemd on the host
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
options:
  packages:
    description:
      - Debian packages to install from O(packages_source) alone. What is installed is left as it is.
      - A package does not start O(units) by itself; they start when their files are there.
    type: list
    elements: str
    default: []
  packages_source:
    description:
      - The apt source of the bundle. The role P(wasmbed.edge.bundle_host#role) writes it.
      - Empty for all sources that the host knows.
    type: path
    default: /etc/apt/sources.list.d/wasmbed.sources
  users:
    description: System users, each with a group of its own name and no shell.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: User name.
        type: str
        required: true
      home:
        description: Home folder; it is not made.
        type: path
        default: /nonexistent
      groups:
        description: Further groups; they must exist when the user is made.
        type: list
        elements: str
        default: []
  directories:
    description: Folders.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      mode:
        description: Its mode.
        type: str
        default: "0755"
      owner:
        description: Its user.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
  files:
    description: Files, from a text or from another file of the host.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: Its text. With O(files[].src) or O(files[].secret) it is left out.
        type: str
      src:
        description: A file of the host to copy.
        type: path
      secret:
        description: Name of its text in O(secrets). Neither diff nor log shows it.
        type: str
      mode:
        description: Its mode.
        type: str
        default: "0644"
      owner:
        description: Its user.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
  secrets:
    description:
      - Texts of secret files by a name. O(files[].content) would be written to the host's log as a module argument;
        this is not.
    type: dict
    default: {}
  units:
    description: Units to enable and start, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Unit name with its suffix.
        type: str
        required: true
      watches:
        description: Files, with wildcards, whose change restarts the unit.
        type: list
        elements: path
        default: []
"""

EXAMPLES = r"""
- name: Run the registry
  wasmbed.edge.services:
    packages: [docker-registry]
    directories:
      - path: /var/lib/registry
        mode: "0750"
    files:
      - path: /etc/docker/registry/config.yml
        content: "{{ lookup('ansible.builtin.template', 'config.yml.j2') }}"
      - path: /etc/docker/registry/htpasswd
        secret: htpasswd
        mode: "0600"
        owner: docker-registry
    secrets:
      htpasswd: "{{ __registry_htpasswd }}"
    units:
      - name: docker-registry.service
        watches: [/etc/docker/registry/config.yml]
"""

RETURN = r"""
changes:
  description: What was done, in its order.
  returned: success
  type: list
  elements: str
  sample: ["/etc/docker/registry/config.yml", "restart docker-registry.service"]
"""

import traceback

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils.services import Attributes, Host, ServicesError


def argument_spec() -> dict:
    def elements(**options: dict) -> dict:
        return {"type": "list", "elements": "dict", "default": [], "options": options}

    name = {"type": "str", "required": True}
    path = {"type": "path", "required": True}

    def attributes(mode: str) -> dict:
        return {
            "mode": {"type": "str", "default": mode},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
        }

    return {
        "packages": {"type": "list", "elements": "str", "default": []},
        "packages_source": {"type": "path", "default": "/etc/apt/sources.list.d/wasmbed.sources"},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "users": elements(
            name=name,
            home={"type": "path", "default": "/nonexistent"},
            groups={"type": "list", "elements": "str", "default": []},
        ),
        "directories": elements(path=path, **attributes("0755")),
        "files": elements(
            path=path,
            content={"type": "str"},
            src={"type": "path"},
            secret={"type": "str", "no_log": False},
            **attributes("0644"),
        ),
        "units": elements(name=name, watches={"type": "list", "elements": "path", "default": []}),
    }


def attributes_of(entry: dict) -> Attributes:
    return Attributes(int(entry["mode"], 8), entry["owner"], entry["group"])


def text_of(entry: dict, secrets: dict) -> str:
    """Return the text a file shall have; a secret one is never empty, so that no service starts without it."""
    if not entry["secret"]:
        return entry["content"] or ""
    text = secrets.get(entry["secret"])
    if not text:
        raise ServicesError(f"{entry['path']}: there is no text {entry['secret']!r} under secrets; give it one")
    return text


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    host = Host(module.run_command, module.check_mode)
    try:
        host.packages(params["packages"], params["packages_source"], [unit["name"] for unit in params["units"]])
        host.users(params["users"])
        host.directories([(entry["path"], attributes_of(entry)) for entry in params["directories"]])
        for entry in params["files"]:
            if entry["src"]:
                host.copy(entry["src"], entry["path"], attributes_of(entry))
            else:
                host.file(entry["path"], attributes_of(entry), text_of(entry, params["secrets"]), bool(entry["secret"]))
        host.units(params["units"])
    except (ServicesError, OSError) as error:
        module.fail_json(msg=str(error), changes=host.changes, exception=traceback.format_exc())
    diff = [
        {"before_header": path, "after_header": path, "before": host.before[path], "after": host.after[path]}
        for path in host.after
    ]
    module.exit_json(changed=bool(host.changes), changes=host.changes, diff=diff)


if __name__ == "__main__":
    main()
