#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Publish a WebAssembly module in an OCI registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_artifact
short_description: Publish a WebAssembly module in an OCI registry
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Pushes a module as a Wasm artifact in the layout of the CNCF, with the config C(application/vnd.wasm.config.v0+json)
    and one layer C(application/wasm).
  - The artifact has no time in it, so the same bytes have the same digest wherever and whenever they are pushed.
  - Always speaks TLS.
extends_documentation_fragment:
  - wasmbed.edge.registry
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.registry_group
options:
  state:
    description:
      - V(present) makes the tag refer to these bytes.
      - V(absent) deletes the tag. A registry that only deletes by digest is asked so if no other tag has the digest.
    type: str
    choices: [present, absent]
    default: present
  src:
    description: The module, a C(.wasm) file, where the module runs.
    type: path
  content:
    description: The module in base64.
    type: str
  max_bytes:
    description: A larger module is refused. The default is what gateways accept by default.
    type: int
    default: 8388608
  annotations:
    description: Annotations of the manifest. They are part of the digest.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The digest before and after.
  idempotent:
    support: full
seealso:
  - module: wasmbed.edge.wasm_artifact_info
  - module: wasmbed.edge.wasm_application
"""

EXAMPLES = r"""
- name: Publish the example
  wasmbed.edge.wasm_artifact:
    src: build/bundle/modules/hello.wasm
    ref: registry.wasmbed.io/examples/hello:v1.0.0
    mirrors:
      registry.wasmbed.io: registry.wasmbed.local:5000
    username: publisher
    password: "{{ registry_password }}"
    ca_path: build/site/pki/site-ca.crt
  register: pushed

- name: Remove a tag
  wasmbed.edge.wasm_artifact:
    ref: registry.wasmbed.io/examples/hello:v0.9.0
    state: absent
"""

RETURN = r"""
digest:
  description: Digest of the artifact's manifest.
  returned: success, with O(state=present)
  type: str
  sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
pinned_ref:
  description: Reference of exactly these bytes, as O(ref) names the registry.
  returned: success, with O(state=present)
  type: str
  sample: registry.wasmbed.io/examples/hello@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
registry:
  description: The registry that was really used.
  returned: success
  type: str
  sample: registry.wasmbed.local:5000
size_bytes:
  description: Size of the module.
  returned: success, with O(state=present)
  type: int
  sample: 1204
"""

import base64
import binascii

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry, wasm_binary
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import Artifact, Reference, Registry


def argument_spec() -> dict:
    return {
        **oci_registry.REGISTRY_ARGUMENTS,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "src": {"type": "path"},
        "content": {"type": "str"},
        "max_bytes": {"type": "int", "default": 8388608},
        "annotations": {"type": "dict", "default": {}},
    }


def read_module(params: dict) -> bytes:
    """Return the module's bytes, checked. Raises WasmError naming their source."""
    limit = params["max_bytes"]
    name = params["src"] or "content"
    try:
        if params["src"]:
            with open(params["src"], "rb") as stream:
                data = stream.read(limit + 1)
        else:
            data = base64.b64decode(params["content"], validate=True)
        wasm_binary.check(data, limit)
    except (OSError, binascii.Error, wasm_binary.WasmError) as error:
        raise wasm_binary.WasmError(f"{name}: {error}") from error
    return data


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("src", "content")],
        required_if=[("state", "present", ("src", "content"), True)],
        required_by={"password": ("username",)},
        supports_check_mode=True,
    )
    if oci_registry.ORAS_ERROR is not None:
        module.fail_json(msg=missing_required_lib(oci_registry.ORAS_REQUIREMENT), exception=oci_registry.ORAS_ERROR)
    params = module.params
    present = params["state"] == "present"
    result: dict = {}
    artifact = None
    try:
        reference = Reference.parse(params["ref"])
        if not reference.tag or reference.digest:
            module.fail_json(msg=f"ref {params['ref']} must have a tag and no digest, for example host/repository:v1")
        if present:
            annotations = {str(name): str(value) for name, value in params["annotations"].items()}
            artifact = Artifact.of(read_module(params), annotations)
            result.update(
                digest=artifact.digest, pinned_ref=reference.pinned(artifact.digest), size_bytes=len(artifact.layer)
            )
        registry = Registry(reference, params, module.tmpdir)
        manifest = registry.manifest(reference.tag)
        before = "" if manifest is None else oci_registry.sha256(manifest)
        after = artifact.digest if artifact else ""
        if before != after and not module.check_mode:
            if artifact:
                registry.push(artifact, reference.tag)
            else:
                registry.delete(reference.tag, before)
    except (oci_registry.RegistryError, wasm_binary.WasmError) as error:
        module.fail_json(msg=f"artifact {params['ref']}: {error}")
    result.update(changed=before != after, registry=registry.address)
    if module._diff and before != after:
        headers = {"before_header": params["ref"], "after_header": params["ref"]}
        result["diff"] = {
            **headers,
            "before": {"digest": before} if before else {},
            "after": {"digest": after} if after else {},
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
