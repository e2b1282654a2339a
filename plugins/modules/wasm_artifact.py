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
  - Signs it, when O(signing_key) is given, as C(cosign sign --key) does (ECDSA P-256), so that gateways whose policy
    asks for a signature run it.
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
        With the last tag the signatures go too.
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
  signing_key:
    description:
      - A private key where the module runs, ECDSA P-256 in PEM. An artifact that has a signature by it is not signed
        again; signatures by other keys are kept. Needs cryptography >= 38.
      - A key in cosign's own encrypted format (C(cosign generate-key-pair)) is not read. Make one with
        C(openssl ecparam -name prime256v1 -genkey -noout), which C(cosign import-key-pair) takes too.
    type: path
  signing_key_passphrase:
    description: Passphrase of O(signing_key), if it is encrypted (PKCS#8).
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The digest and whether it is signed by O(signing_key), before and after.
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

- name: Publish and sign
  wasmbed.edge.wasm_artifact:
    src: build/bundle/modules/hello.wasm
    ref: registry.wasmbed.io/examples/hello:v1.0.0
    username: publisher
    password: "{{ registry_password }}"
    signing_key: /etc/wasmbed/publisher.key
    signing_key_passphrase: "{{ publisher_passphrase }}"

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
signed:
  description: Whether it has a signature by O(signing_key).
  returned: success, with O(signing_key)
  type: bool
  sample: true
signed_by:
  description: Name of the key as gateways log it, the begin of the sha256 of the public key.
  returned: success, with O(signing_key)
  type: str
  sample: 4f1c0b3f0e6a9d2c
size_bytes:
  description: Size of the module.
  returned: success, with O(state=present)
  type: int
  sample: 1204
"""

import base64
import binascii

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry, oci_signature, wasm_binary
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import Artifact, Reference, Registry


def argument_spec() -> dict:
    return {
        **oci_registry.REGISTRY_ARGUMENTS,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "src": {"type": "path"},
        "content": {"type": "str"},
        "max_bytes": {"type": "int", "default": 8388608},
        "annotations": {"type": "dict", "default": {}},
        "signing_key": {"type": "path", "no_log": False},
        "signing_key_passphrase": {"type": "str", "no_log": True},
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


def read_key(params: dict):
    """Return the private key, or nothing when none is given. Raises SignatureError naming the file."""
    path = params["signing_key"]
    if not path:
        return None
    try:
        with open(path, "rb") as stream:
            data = stream.read(oci_signature.MAX_KEY_BYTES)
        return oci_signature.load_private_key(data, params["signing_key_passphrase"])
    except (OSError, oci_signature.SignatureError) as error:
        raise oci_signature.SignatureError(f"signing_key {path}: {error}") from error


class Publication:
    """One tag of a registry and what is to be done with it."""

    def __init__(self, reference: Reference, registry: Registry) -> None:
        self._reference = reference
        self._registry = registry
        manifest = registry.manifest(reference.tag)
        self.before = "" if manifest is None else oci_registry.sha256(manifest)

    def present(self, artifact: Artifact, key, check_mode: bool) -> tuple[dict, dict]:
        """Make the tag refer to the artifact, signed by the key if there is one; return the state before and after."""
        before = {"digest": self.before} if self.before else {}
        after = {"digest": artifact.digest}
        if self.before != artifact.digest and not check_mode:
            self._registry.push(artifact, self._reference.tag)
        if key is None:
            return before, after
        # The signatures of bytes that another tag has are there already.
        signatures = oci_signature.Signatures(self._registry, artifact.digest)
        signed = signatures.by(key.public_key())
        if not signed and not check_mode:
            image = f"{self._reference.registry}/{self._reference.repository}"
            signatures.add(oci_signature.Signature.make(image, artifact.digest, key))
        return {**before, "signed": signed and self.before == artifact.digest}, {**after, "signed": True}

    def absent(self, check_mode: bool) -> tuple[dict, dict]:
        """Delete the tag, and the signatures with the last one; return the state before and after."""
        if not self.before:
            return {}, {}
        if not check_mode:
            self._registry.delete(self._reference.tag, self.before)
            tag = oci_signature.tag_of(self.before)
            manifest = self._registry.manifest(tag)
            if manifest is not None and not self._registry.is_tagged(self.before):
                self._registry.delete(tag, oci_registry.sha256(manifest))
        return {"digest": self.before}, {}


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("src", "content")],
        required_if=[("state", "present", ("src", "content"), True)],
        required_by={"password": ("username",), "signing_key_passphrase": ("signing_key",)},
        supports_check_mode=True,
    )
    if oci_registry.ORAS_ERROR is not None:
        module.fail_json(msg=missing_required_lib(oci_registry.ORAS_REQUIREMENT), exception=oci_registry.ORAS_ERROR)
    params = module.params
    if params["signing_key"] and oci_signature.CRYPTOGRAPHY_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib(oci_signature.CRYPTOGRAPHY_REQUIREMENT), exception=oci_signature.CRYPTOGRAPHY_ERROR
        )
    result: dict = {}
    try:
        reference = Reference.parse(params["ref"])
        if not reference.tag or reference.digest:
            module.fail_json(msg=f"ref {params['ref']} must have a tag and no digest, for example host/repository:v1")
        if params["state"] == "present":
            key = read_key(params)
            annotations = {str(name): str(value) for name, value in params["annotations"].items()}
            artifact = Artifact.of(read_module(params), annotations)
            result.update(
                digest=artifact.digest, pinned_ref=reference.pinned(artifact.digest), size_bytes=len(artifact.layer)
            )
            if key is not None:
                result.update(signed=True, signed_by=oci_signature.key_name(key.public_key()))
            registry = Registry(reference, params, module.tmpdir)
            before, after = Publication(reference, registry).present(artifact, key, module.check_mode)
        else:
            registry = Registry(reference, params, module.tmpdir)
            before, after = Publication(reference, registry).absent(module.check_mode)
    except (oci_registry.RegistryError, oci_signature.SignatureError, wasm_binary.WasmError) as error:
        module.fail_json(msg=f"artifact {params['ref']}: {error}")
    result.update(changed=before != after, registry=registry.address)
    if module._diff and before != after:
        headers = {"before_header": params["ref"], "after_header": params["ref"]}
        result["diff"] = {**headers, "before": before, "after": after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
