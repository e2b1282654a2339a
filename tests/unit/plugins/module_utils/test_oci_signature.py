# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Signatures: what is stored, what is found, and registries that have something else there."""

from __future__ import annotations

import json

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry, oci_signature
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import RegistryError
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_signature import Signature, Signatures
from cryptography.hazmat.primitives.asymmetric import ec

DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"
KEY = ec.generate_private_key(ec.SECP256R1())
SECOND = ec.generate_private_key(ec.SECP256R1())


class Store:
    """Manifests and blobs of one repository, as the class Registry gives them."""

    def __init__(self):
        self.manifests, self.blobs = {}, {}

    def manifest(self, name):
        return self.manifests.get(name)

    def blob(self, digest):
        return self.blobs.get(digest)

    def push_manifest(self, manifest, blobs, tag):
        self.blobs.update({oci_registry.sha256(data): data for dummy, data in blobs})
        self.manifests[tag] = manifest


def sign(key=KEY, digest=DIGEST):
    return Signature.make("r.example/app", digest, key)


def test_signatures_add_up_and_are_told_apart():
    store = Store()
    assert not Signatures(store, DIGEST).by(KEY.public_key())
    Signatures(store, DIGEST).add(sign())
    Signatures(store, DIGEST).add(sign(SECOND))
    found = Signatures(store, DIGEST)
    assert found.by(KEY.public_key())
    assert found.by(SECOND.public_key())
    assert not found.by(ec.generate_private_key(ec.SECP256R1()).public_key())
    manifest = json.loads(store.manifests[oci_signature.tag_of(DIGEST)])
    assert [layer["mediaType"] for layer in manifest["layers"]] == [oci_signature.PAYLOAD_TYPE] * 2
    config = json.loads(store.blobs[manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


def test_what_is_signed_says_the_digest_and_the_kind():
    payload = json.loads(sign().payload)
    assert payload["critical"]["image"] == {"docker-manifest-digest": DIGEST}
    assert payload["critical"]["type"] == "cosign container image signature"


def test_a_signature_of_another_digest_does_not_count():
    store = Store()
    Signatures(store, DIGEST).add(sign(digest=OTHER))
    assert not Signatures(store, DIGEST).by(KEY.public_key())


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b'{"layers": 7}', b'{"layers": [null, {}, {"digest": 3}]}', b"[" * 50_000, b"\xff"]
)
def test_a_manifest_that_makes_no_sense_has_no_signatures(manifest):
    store = Store()
    store.manifests[oci_signature.tag_of(DIGEST)] = manifest
    assert Signatures(store, DIGEST).all == []


def test_layers_of_others_are_kept_and_never_read():
    store = Store()
    Signatures(store, DIGEST).add(sign())
    tag = oci_signature.tag_of(DIGEST)
    manifest = json.loads(store.manifests[tag])
    strange = {"mediaType": "application/x", "digest": OTHER, "size": 1 << 40}
    large = {**manifest["layers"][0], "size": 1 << 40}
    manifest["layers"] = [strange, large, *manifest["layers"]]
    store.manifests[tag] = json.dumps(manifest).encode()
    Signatures(store, DIGEST).add(sign(SECOND))
    assert json.loads(store.manifests[tag])["layers"][:2] == [strange, large]
    assert len(Signatures(store, DIGEST).all) == 2


def test_more_signatures_than_gateways_look_at_are_refused_with_the_tag():
    store = Store()
    for signature in [sign()] * oci_signature.MAX_SIGNATURES:
        Signatures(store, DIGEST).add(signature)
    with pytest.raises(RegistryError, match=r"has 64 signatures already; delete the tag sha256-(ab){32}\.sig"):
        Signatures(store, DIGEST).add(sign(SECOND))
