"""Pushing artifacts, good and bad ones, to the registry of the tests (OCI distribution specification v1.1, Push)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol

import requests

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"


class RegistryFixture(Protocol):
    """The part of the fixture `registry` that pushing needs."""

    address: str
    ca_file: Path
    username: str
    password: str


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def manifest_of(layers: list[bytes], *, config_type: str = CONFIG, layer_type: str = LAYER) -> dict[str, Any]:
    """A manifest with an empty JSON config and `layers`."""

    def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config_type, b"{}"),
        "layers": [descriptor(layer_type, data) for data in layers],
    }


def push(
    registry: RegistryFixture, repository: str, tag: str, module: bytes, *, manifest: dict[str, Any] | None = None
) -> str:
    """Push `module` as a WebAssembly artifact (or under `manifest`); the digest of its manifest."""
    manifest = manifest or manifest_of([module])
    base = f"https://{registry.address}/v2/{repository}"
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(registry.ca_file)
        session.auth = (registry.username, registry.password)
        for data in (b"{}", module):
            begin = session.post(f"{base}/blobs/uploads/", timeout=10)
            begin.raise_for_status()
            location = requests.compat.urljoin(base, begin.headers["Location"])
            session.put(location, params={"digest": digest_of(data)}, data=data, timeout=30).raise_for_status()
        body = json.dumps(manifest).encode()
        answer = session.put(
            f"{base}/manifests/{tag}", data=body, headers={"Content-Type": manifest["mediaType"]}, timeout=10
        )
        answer.raise_for_status()
    return digest_of(body)
