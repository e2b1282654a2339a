#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read an artifact of an OCI registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_artifact_info
short_description: Read an artifact of an OCI registry
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Returns digest, config, layers and signatures of an artifact and the tags of its repository. The module itself is
    not fetched.
extends_documentation_fragment:
  - wasmbed.edge.registry
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
  - wasmbed.edge.attributes.registry_group
options:
  ref:
    description: Reference of an artifact, C(host/repository:tag) or C(host/repository@digest), or of a repository.
  signature_keys:
    description: Public keys, ECDSA P-256 in PEM, each a path where the module runs or the text itself.
    type: list
    elements: str
    default: []
seealso:
  - module: wasmbed.edge.wasm_artifact
"""

EXAMPLES = r"""
- name: Ask what a tag refers to
  wasmbed.edge.wasm_artifact_info:
    ref: registry.wasmbed.io/examples/hello:v1.0.0
    mirrors:
      registry.wasmbed.io: registry.wasmbed.local:5000
  register: hello

- name: Ask whether it is signed by a key
  wasmbed.edge.wasm_artifact_info:
    ref: registry.wasmbed.io/examples/hello:v1.0.0
    signature_keys: [/etc/wasmbed/publisher.pub]
  register: hello

- name: Say whether it is a Wasm artifact
  ansible.builtin.debug:
    msg: "{{ hello.exists and hello.is_wasm }}"
"""

RETURN = r"""
exists:
  description: Whether there is such a tag or digest; for a repository, whether it has tags.
  returned: success
  type: bool
  sample: true
is_wasm:
  description: Whether its config is C(application/vnd.wasm.config.v0+json) and its one layer C(application/wasm).
  returned: when it exists, for a tag or digest
  type: bool
  sample: true
digest:
  description: Digest of its manifest.
  returned: when it exists, for a tag or digest
  type: str
  sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
pinned_ref:
  description: Reference of exactly these bytes.
  returned: when it exists, for a tag or digest
  type: str
  sample: registry.wasmbed.io/examples/hello@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
config:
  description: Its config.
  returned: when it exists and is a Wasm artifact
  type: dict
  sample: {"architecture": "wasm", "os": "wasip1"}
layers:
  description: Descriptors of its layers.
  returned: when it exists, for a tag or digest
  type: list
  elements: dict
  sample: [{"mediaType": "application/wasm", "digest": "sha256:9f86d0", "size": 1204}]
annotations:
  description: Annotations of its manifest.
  returned: when it exists, for a tag or digest
  type: dict
  sample: {}
signed:
  description:
    - Whether it has a signature by one of O(signature_keys).
    - Without keys, whether it has a signature at all, by whomever.
  returned: when it exists, for a tag or digest
  type: bool
  sample: true
signed_by:
  description: Names of those of O(signature_keys) that it has a signature by, as gateways log them.
  returned: when it exists, for a tag or digest
  type: list
  elements: str
  sample: [4f1c0b3f0e6a9d2c]
tags:
  description: Tags of the repository but for those of signatures, at most a thousand.
  returned: success
  type: list
  elements: str
  sample: [v1.0.0]
"""

import json

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry, oci_signature
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import Reference, Registry, RegistryError


def read_keys(texts: list[str]) -> list:
    """Return the public keys. Raises SignatureError naming the one that is none."""
    keys = []
    for text in texts:
        try:
            if "BEGIN PUBLIC KEY" not in text:
                with open(text, "rb") as stream:
                    keys.append(oci_signature.load_public_key(stream.read(oci_signature.MAX_KEY_BYTES)))
            else:
                keys.append(oci_signature.load_public_key(text.encode()))
        except (OSError, oci_signature.SignatureError) as error:
            raise oci_signature.SignatureError(
                f"signature_keys {text.strip().splitlines()[0][:200]}: {error}"
            ) from error
    return keys


def describe_signatures(registry: Registry, digest: str, keys: list) -> dict:
    """Return by whom a digest is signed."""
    signatures = oci_signature.Signatures(registry, digest)
    signed_by = [oci_signature.key_name(key) for key in keys if signatures.by(key)]
    return {"signed": bool(signed_by if keys else signatures.all), "signed_by": signed_by}


def describe(reference: Reference, registry: Registry, name: str, keys: list) -> dict:
    """Return what is known of a tag or digest."""
    data = registry.manifest(name)
    if data is None:
        return {"exists": False}
    manifest = json.loads(data)
    layers = manifest.get("layers", [])
    config = manifest.get("config", {})
    types = config.get("mediaType"), *(layer.get("mediaType") for layer in layers)
    digest = oci_registry.sha256(data)
    result = {
        "exists": True,
        "is_wasm": types == (oci_registry.CONFIG_TYPE, oci_registry.LAYER_TYPE),
        "digest": digest,
        "pinned_ref": reference.pinned(digest),
        "layers": layers,
        "annotations": manifest.get("annotations", {}),
        **describe_signatures(registry, digest, keys),
    }
    if result["is_wasm"]:
        blob = registry.blob(config["digest"])
        if blob is None or oci_registry.sha256(blob) != config["digest"]:
            raise RegistryError(
                f"config {config['digest']} is missing or damaged in the registry; push the module again"
            )
        result["config"] = json.loads(blob)
    return result


def argument_spec() -> dict:
    return {
        **oci_registry.REGISTRY_ARGUMENTS,
        "signature_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_by={"password": ("username",)},
        supports_check_mode=True,
    )
    if oci_registry.ORAS_ERROR is not None:
        module.fail_json(msg=missing_required_lib(oci_registry.ORAS_REQUIREMENT), exception=oci_registry.ORAS_ERROR)
    if module.params["signature_keys"] and oci_signature.CRYPTOGRAPHY_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib(oci_signature.CRYPTOGRAPHY_REQUIREMENT), exception=oci_signature.CRYPTOGRAPHY_ERROR
        )
    try:
        keys = read_keys(module.params["signature_keys"])
        reference = Reference.parse(module.params["ref"])
        registry = Registry(reference, module.params, module.tmpdir)
        tags = registry.tags()
        name = reference.digest or reference.tag
        result = describe(reference, registry, name, keys) if name else {"exists": bool(tags)}
    except (RegistryError, oci_signature.SignatureError, ValueError) as error:
        module.fail_json(msg=f"artifact {module.params['ref']}: {error}")
    module.exit_json(changed=False, tags=tags, **result)


if __name__ == "__main__":
    main()
