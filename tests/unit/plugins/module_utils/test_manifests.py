# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Manifests that users wrote."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import manifests
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import WASM_APPLICATION, KubeError

MANIFEST = {
    "apiVersion": "wasmbed.io/v1",
    "kind": "WasmApplication",
    "metadata": {"name": "a"},
    "spec": {"wasmImage": "r.example/a:t"},
}


def test_only_what_a_user_writes_is_applied():
    metadata = {"name": "a", "uid": "u", "resourceVersion": "1", "managedFields": [], "labels": {}, "annotations": None}
    item = manifests.desired(WASM_APPLICATION, {**MANIFEST, "metadata": metadata, "status": {"phase": "Running"}}, "n")
    assert item == {"metadata": {"name": "a", "namespace": "n"}, "spec": MANIFEST["spec"]}


def test_the_namespace_of_the_manifest_goes_first():
    item = manifests.desired(WASM_APPLICATION, {**MANIFEST, "metadata": {"name": "a", "namespace": "own"}}, "n")
    assert item["metadata"]["namespace"] == "own"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ([], "a list, not a mapping"),
        ({}, "None None, not wasmbed.io/v1 WasmApplication"),
        ({**MANIFEST, "kind": "EdgeDevice"}, "EdgeDevice"),
        ({**MANIFEST, "metadata": None}, "metadata.name"),
        ({**MANIFEST, "metadata": {}}, "metadata.name"),
    ],
)
def test_a_wrong_frame_is_named(manifest, words):
    with pytest.raises(KubeError, match=words):
        manifests.desired(WASM_APPLICATION, manifest, "n")


@pytest.mark.parametrize(
    ("text", "words"), [("", "0 documents"), ("a: 1\n---\nb: 2\n", "2 documents"), ("{", "cannot be read as YAML")]
)
def test_a_file_must_have_one_document(tmp_path, text, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(KubeError, match=words):
        manifests.load(str(path))


def test_a_missing_or_huge_file_is_named(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(KubeError, match=r"a\.yaml"):
        manifests.load(str(path))
    path.write_bytes(b" " * (manifests.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(KubeError, match="is over"):
        manifests.load(str(path))
