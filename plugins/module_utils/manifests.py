# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Read a manifest that a user wrote, into the object to apply."""

from __future__ import annotations

import copy
import os

from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import Kind, KubeError
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_objects import SERVER_METADATA, label_values, prune

try:
    import yaml
except ImportError:
    # Comes with the kubernetes package, whose absence is reported.
    yaml = None

MAX_MANIFEST_BYTES = 1024 * 1024


def load(path: str) -> dict:
    """Return the one manifest of a YAML file. Raises KubeError naming the file."""
    try:
        if os.path.getsize(path) > MAX_MANIFEST_BYTES:
            raise KubeError(f"{path} is over {MAX_MANIFEST_BYTES} bytes; is it the manifest?")
        with open(path, encoding="utf-8") as stream:
            documents = [document for document in yaml.safe_load_all(stream) if document is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KubeError(f"{path} cannot be read as YAML: {error}") from error
    if len(documents) != 1:
        raise KubeError(f"{path} has {len(documents)} documents; give a file with one application")
    return documents[0]


def desired(kind: Kind, manifest: object, namespace: str) -> dict:
    """Check a manifest's frame and return the object to apply: no status, nothing that a server filled in.

    namespace: for a manifest that names none. The fields of the spec are the server's to check.
    """
    if not isinstance(manifest, dict):
        raise KubeError(f"the manifest is a {type(manifest).__name__}, not a mapping")
    found = manifest.get("apiVersion"), manifest.get("kind")
    if found != (kind.api_version, kind.kind):
        raise KubeError(f"the manifest is {found[0]} {found[1]}, not {kind.api_version} {kind.kind}")
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise KubeError("the manifest has no metadata.name; give it one")
    metadata = {name: copy.deepcopy(value) for name, value in metadata.items() if name not in SERVER_METADATA}
    metadata["namespace"] = metadata.get("namespace") or namespace
    for field in ("labels", "annotations"):
        if not metadata.get(field):
            metadata.pop(field, None)
    body = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return {"metadata": metadata, **prune(body)}


def from_options(kind: Kind, params: dict) -> dict:
    """Return the manifest that module options name, labels, annotations and spec describe."""
    metadata = {"name": params["name"]}
    for field in ("labels", "annotations"):
        if params[field]:
            metadata[field] = label_values(params[field])
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
        "spec": prune(params["spec"] or {}),
    }
