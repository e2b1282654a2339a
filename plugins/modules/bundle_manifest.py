#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Make a bundle's folder and manifest, or check them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_manifest
short_description: Make a bundle with the sha256 of every file, or check one
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - A bundle is one folder with everything a site installs. Its C(manifest.json) has the sha256 of every file.
options:
  path:
    description: Folder of the bundle.
    type: path
    required: true
  state:
    description:
      - V(present) makes the folder equal to O(files), removing what is not listed, and writes the manifest last.
      - V(verified) changes nothing, and fails naming each file that is changed, missing or not in the manifest.
    type: str
    choices: [present, verified]
    default: present
  files:
    description: Files and folders to put into the bundle.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: A file, or a folder whose files are all taken.
        type: path
        required: true
      dest:
        description: Path in the bundle.
        type: str
        required: true
  metadata:
    description: Further keys of the manifest, such as versions.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode).
    support: full
  idempotent:
    description: Running the module twice gives the same result.
    support: full
"""

EXAMPLES = r"""
- name: Make a bundle
  wasmbed.edge.bundle_manifest:
    path: build/bundle
    files:
      - src: /var/cache/wasmbed/kubernetes/bin
        dest: bin
    metadata:
      kubernetes_version: v1.37.2

- name: Refuse a bundle that was changed
  wasmbed.edge.bundle_manifest:
    path: build/bundle
    state: verified
"""

RETURN = r"""
manifest:
  description: The manifest without its files.
  returned: success
  type: dict
  sample: {"version": 1, "kubernetes_version": "v1.37.2"}
files:
  description: Number of files.
  returned: success
  type: int
  sample: 117
problems:
  description: One sentence for each file that does not match the manifest.
  returned: failure
  type: list
  elements: str
  sample: ["bin/etcd: its sha256 is not the manifest's"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils import bundle


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "src": {"type": "path", "required": True},
                    "dest": {"type": "str", "required": True},
                },
            },
            "metadata": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    changed = False
    diff = {}
    try:
        if module.params["state"] == "verified":
            manifest = bundle.read_manifest(path)
            problems = bundle.verify(path).sentences()
            if problems:
                message = f"bundle {path}: {'; '.join(problems[:5])}; do not use it, make or copy it again"
                module.fail_json(msg=message, problems=problems)
        else:
            wanted, difference, manifest = bundle.plan(path, module.params["files"], module.params["metadata"])
            try:
                before = bundle.read_manifest(path)
            except bundle.BundleError:
                before = {}
            changed = bool(difference) or before != manifest
            changes = difference.changed + difference.missing
            diff = {
                "before": {p: before.get("files", {}).get(p, "") for p in changes + difference.unlisted},
                "after": {p: manifest["files"][p] for p in changes},
            }
            if changed and not module.check_mode:
                bundle.write(path, wanted, difference, manifest)
    except (bundle.BundleError, OSError) as error:
        module.fail_json(msg=str(error))
    header = {key: value for key, value in manifest.items() if key != "files"}
    module.exit_json(changed=changed, diff=diff, manifest=header, files=len(manifest["files"]))


if __name__ == "__main__":
    main()
