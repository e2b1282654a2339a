"""Keys and signatures for tests, made with the collection's own code, and put into a registry as cosign does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry, oci_signature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.artifacts import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.artifacts import RegistryFixture


@dataclass(frozen=True)
class SigningKey:
    """A key pair as two files."""

    private: ec.EllipticCurvePrivateKey
    private_file: Path
    public_file: Path

    @property
    def name(self) -> str:
        return oci_signature.key_name(self.private.public_key())

    def sign(self, digest: str) -> oci_signature.Signature:
        return oci_signature.Signature.make("registry.wasmbed.io/any", digest, self.private)


def make_key(folder: Path, name: str) -> SigningKey:
    """Make a P-256 pair, folder/NAME.key and NAME.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return SigningKey(key, private, public)


def push_signatures(
    registry: RegistryFixture, repository: str, digest: str, *signatures: oci_signature.Signature
) -> None:
    """Make these the signatures of an image, whatever was there before."""
    config = b"{}"
    manifest = oci_registry.encode_json(
        {
            "schemaVersion": 2,
            "mediaType": oci_registry.MANIFEST_TYPE,
            "config": oci_registry.descriptor(oci_signature.CONFIG_TYPE, config),
            "layers": [signature.descriptor() for signature in signatures],
        }
    )
    push_raw(registry, repository, oci_signature.tag_of(digest), manifest, config, *(s.payload for s in signatures))


def push_raw(registry: RegistryFixture, repository: str, tag: str, manifest: bytes, *blobs: bytes) -> None:
    """Push blobs and a manifest byte for byte (OCI distribution specification v1.1, Push)."""
    base = f"https://{registry.address}/v2/{repository}"
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(registry.ca_file)
        session.auth = (registry.username, registry.password)
        for blob in blobs:
            begin = session.post(f"{base}/blobs/uploads/", timeout=10)
            begin.raise_for_status()
            location = requests.compat.urljoin(base, begin.headers["Location"])
            session.put(location, params={"digest": digest_of(blob)}, data=blob, timeout=30).raise_for_status()
        headers = {"Content-Type": json.loads(manifest)["mediaType"]}
        session.put(f"{base}/manifests/{tag}", data=manifest, headers=headers, timeout=10).raise_for_status()
