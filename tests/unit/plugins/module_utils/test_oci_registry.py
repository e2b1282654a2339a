# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""References, and an artifact's bytes."""

from __future__ import annotations

import json

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import Artifact, Reference

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.wasmbed.io/examples/hello:v1.0.0", ("registry.wasmbed.io", "examples/hello", "v1.0.0", "")),
        ("127.0.0.1:5000/hello:v1", ("127.0.0.1:5000", "hello", "v1", "")),
        ("localhost/a", ("localhost", "a", "", "")),
        ("host:5000/a/b/c:t", ("host:5000", "a/b/c", "t", "")),
        ("[::1]:5000/a:t", ("[::1]:5000", "a", "t", "")),
        (f"r.example/a:t@{DIGEST}", ("r.example", "a", "t", DIGEST)),
        (f"r.example/a@{DIGEST}", ("r.example", "a", "", DIGEST)),
    ],
)
def test_references_are_taken_apart(text, parts):
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "examples/hello:v1",
        "https://r.example/a:t",
        "r.example/A:t",
        "r.example/a:",
        "r.example/a:t@sha256:0",
    ],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(oci_registry.RegistryError, match="host/repository:tag"):
        Reference.parse(text)


def test_a_pinned_reference_names_the_registry_as_it_was_given():
    assert Reference.parse("r.example/a:t").pinned(DIGEST) == f"r.example/a@{DIGEST}"


def test_an_artifact_follows_the_layout():
    artifact = Artifact.of(b"module", {})
    manifest = json.loads(artifact.manifest)
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": oci_registry.sha256(artifact.config),
            "size": len(artifact.config),
        },
        "layers": [{"mediaType": "application/wasm", "digest": oci_registry.sha256(b"module"), "size": 6}],
    }
    assert json.loads(artifact.config) == {
        "architecture": "wasm",
        "created": "1970-01-01T00:00:00Z",
        "layerDigests": [oci_registry.sha256(b"module")],
        "os": "wasip1",
    }


def test_the_digest_of_an_artifact_is_pinned():
    # It must not change with a release: every site would deploy anew.
    assert (
        Artifact.of(b"module", {}).digest == "sha256:cca3bc0e072dacafea3674bcc4ed08feee0b156f850e8767f8128f86bd2b4970"
    )
    assert Artifact.of(b"module", {"a": "b"}).digest != Artifact.of(b"module", {}).digest
