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
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.full
options:
  path:
    description: Folder of the bundle.
    type: path
    required: true
  state:
    description:
      - V(present) makes the folder equal to O(files), removing what is not listed, and writes the manifest last.
      - V(verified) changes nothing, and fails naming each file that is changed, missing or not in the manifest.
      - V(compared) changes nothing, and tells which files of O(manifest) a host lacks. A host that has this manifest
        and files that differ from it is refused, naming them.
      - V(received) takes the files that were copied to a host as its bundle. Files that O(manifest) does not list are
        removed, and O(manifest) is written last.
    type: str
    choices: [present, verified, compared, received]
    default: present
  manifest:
    description: The manifest of the bundle that a host shall have, for V(compared) and V(received).
    type: dict
  stamp:
    description:
      - A file in which a host remembers what it has verified, so that only files touched since then are read again.
    type: path
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

- name: Ask which files a host lacks
  wasmbed.edge.bundle_manifest:
    path: /var/lib/wasmbed/bundle
    state: compared
    manifest: "{{ lookup('ansible.builtin.file', 'build/bundle/manifest.json') | from_json }}"
    stamp: /var/lib/wasmbed/bundle.stamp

- name: Refuse a bundle that was changed
  wasmbed.edge.bundle_manifest:
    path: build/bundle
    state: verified
"""

RETURN = r"""
wanted:
  description: Files that the host lacks, or has in another version.
  returned: with state V(compared)
  type: list
  elements: str
  sample: [bin/etcd]
current:
  description: Whether the host has the bundle of O(manifest).
  returned: with state V(compared)
  type: bool
  sample: true
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


def argument_spec() -> dict:
    return {
        "path": {"type": "path", "required": True},
        "state": {
            "type": "str",
            "choices": ["present", "verified", "compared", "received"],
            "default": "present",
        },
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
        "manifest": {"type": "dict"},
        "stamp": {"type": "path"},
    }


def present(module: AnsibleModule, path: str) -> dict:
    """Make the bundle; return what the module reports."""
    wanted, difference, manifest = bundle.plan(path, module.params["files"], module.params["metadata"])
    try:
        before = bundle.read_manifest(path)
    except bundle.BundleError:
        before = {}
    changed = bool(difference) or before != manifest
    changes = difference.changed + difference.missing
    if changed and not module.check_mode:
        bundle.write(path, wanted, difference, manifest)
    diff = {
        "before": {p: before.get("files", {}).get(p, "") for p in changes + difference.unlisted},
        "after": {p: manifest["files"][p] for p in changes},
    }
    return {"changed": changed, "diff": diff, "manifest": manifest}


def verified(module: AnsibleModule, path: str) -> dict:
    """Check the bundle against its own manifest; fail naming what differs."""
    manifest = bundle.read_manifest(path)
    refuse(module, path, bundle.verify(path), "do not use it, make or copy it again")
    return {"changed": False, "manifest": manifest}


def compared(module: AnsibleModule, path: str) -> dict:
    """Compare a host's bundle with the manifest given; fail when it pretends to be that one."""
    manifest = module.params["manifest"]
    stamp = bundle.Stamp(module.params["stamp"])
    try:
        current = bundle.read_manifest(path) == manifest
    except bundle.BundleError:
        current = False
    difference = bundle.compare(path, manifest["files"], stamp)
    if current:
        remedy = f"do not use it; remove {path}/{bundle.MANIFEST} on this host to have these files copied again"
        refuse(module, path, difference, remedy)
    if not module.check_mode:
        stamp.save()
    return {
        "changed": False,
        "manifest": manifest,
        "wanted": difference.changed + difference.missing,
        "current": current,
    }


def received(module: AnsibleModule, path: str) -> dict:
    """Take copied files as the host's bundle."""
    manifest = module.params["manifest"]
    if module.check_mode:
        return {"changed": True, "manifest": manifest}
    changed = bundle.receive(path, manifest, bundle.Stamp(module.params["stamp"]))
    return {"changed": changed, "manifest": manifest}


def refuse(module: AnsibleModule, path: str, difference: bundle.Difference, remedy: str) -> None:
    problems = difference.sentences()
    if problems:
        module.fail_json(msg=f"bundle {path}: {'; '.join(problems[:5])}; {remedy}", problems=problems)


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "compared", ("manifest",)), ("state", "received", ("manifest",))],
        supports_check_mode=True,
    )
    states = {"present": present, "verified": verified, "compared": compared, "received": received}
    try:
        result = states[module.params["state"]](module, module.params["path"])
    except (bundle.BundleError, OSError) as error:
        module.fail_json(msg=str(error))
    manifest = result.pop("manifest")
    header = {key: value for key, value in manifest.items() if key != "files"}
    module.exit_json(**result, manifest=header, files=len(manifest["files"]))


if __name__ == "__main__":
    main()
