#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Keep a Python environment that is made of a bundle's wheels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_environment
short_description: Keep a Python environment made of a bundle's wheels
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Builds a virtual environment from the wheels of a bundle on the host, offline, each wheel checked against its hash.
  - The environment is built in a folder of its own beside the old one, tried, and then O(path), a link, is moved to it
    in one step. Older ones are removed.
requirements:
  - a bundle on the host
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
options:
  path:
    description: The link. Environments are folders beside it with its name and a key.
    type: path
    default: /opt/wasmbed/venv
  bundle:
    description: The bundle on the host.
    type: path
    default: /var/lib/wasmbed/bundle
  python:
    description: The Python that the environment stands on.
    type: path
    default: /usr/bin/python3.11
  requirements:
    description: The requirements file in the bundle, with hashes. The wheels are beside it.
    type: str
    default: wheels/requirements.txt
  verify:
    description: Commands of the environment that must succeed before it is switched to.
    type: list
    elements: list
    default: [[wasmbed-agent, --version]]
"""

EXAMPLES = r"""
- name: Make the services' Python environment
  wasmbed.edge.python_environment:
    path: /opt/wasmbed/venv
"""

RETURN = r"""
folder:
  description: The environment that O(path) leads to, or would lead to.
  returned: when the bundle is on the host
  type: str
  sample: /opt/wasmbed/venv-9f86d081884c7d65
removed:
  description: Environments that were removed.
  returned: when the bundle is on the host
  type: list
  elements: str
  sample: []
verified:
  description: What the commands of O(verify) said.
  returned: when an environment was built
  type: list
  elements: str
  sample: ["wasmbed-agent 0.1.0"]
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils.python_environment import (
    Environment,
    PythonEnvironmentError,
)


def argument_spec() -> dict:
    return {
        "path": {"type": "path", "default": "/opt/wasmbed/venv"},
        "bundle": {"type": "path", "default": "/var/lib/wasmbed/bundle"},
        "python": {"type": "path", "default": "/usr/bin/python3.11"},
        "requirements": {"type": "str", "default": "wheels/requirements.txt"},
        "verify": {"type": "list", "elements": "list", "default": [["wasmbed-agent", "--version"]]},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    environment = Environment(params["path"], params["bundle"], params["python"], params["requirements"])
    before = environment.current()
    if module.check_mode and not os.path.isfile(environment.requirements):
        # A task before this one would have brought the bundle.
        module.exit_json(changed=True, diff={"before": {"folder": before}, "after": {"folder": "of the bundle"}})
    if problems := environment.problems():
        module.fail_json(msg="This host cannot have the Python environment:\n- " + "\n- ".join(problems))
    try:
        key = environment.key()
        folder = environment.folder(key)
        others = environment.others(folder)
        result = {
            "changed": before != folder or bool(others),
            "folder": folder,
            "removed": others,
            "diff": {"before": {"folder": before, "others": others}, "after": {"folder": folder, "others": []}},
        }
        if not module.check_mode:
            if before != folder:
                result["verified"] = environment.build(folder, module.run_command, params["verify"])
                environment.switch(folder, key)
            for other in others:
                shutil.rmtree(other)
    except (PythonEnvironmentError, OSError) as error:
        module.fail_json(msg=f"{error}; the services go on with {before or 'no environment'}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
