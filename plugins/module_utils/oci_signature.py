# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Signatures of artifacts as cosign stores them: ECDSA P-256 over simple signing payloads (cosign SIGNATURE_SPEC).

They lie in the artifact's repository under the tag C(sha256-<hex>.sig), one manifest with a layer for each payload and
the signature as an annotation of the layer.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import traceback

from ansible_collections.wasmbed.edge.plugins.module_utils import oci_registry
from ansible_collections.wasmbed.edge.plugins.module_utils.oci_registry import RegistryError, sha256

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    CRYPTOGRAPHY_ERROR = None
except ImportError:
    CRYPTOGRAPHY_ERROR = traceback.format_exc()

CRYPTOGRAPHY_REQUIREMENT = "cryptography >= 38"
PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
KIND = "cosign container image signature"
# What gateways look at.
MAX_SIGNATURES = 64
MAX_PAYLOAD_BYTES = 16 * 1024
MAX_KEY_BYTES = 16 * 1024
WANTED_KEY = "give an ECDSA P-256 private key in PEM (openssl ecparam -name prime256v1 -genkey -noout)"


class SignatureError(Exception):
    """A key cannot be used; the message says what is wanted and never what is in it."""


def tag_of(digest: str) -> str:
    """Return the tag under which the signatures of a digest are."""
    return f"{digest.replace(':', '-')}.sig"


def load_private_key(data: bytes, passphrase: str | None):
    """Return a private key that can sign. Raises SignatureError."""
    if b"ENCRYPTED SIGSTORE PRIVATE KEY" in data or b"ENCRYPTED COSIGN PRIVATE KEY" in data:
        raise SignatureError(
            f"it is encrypted in cosign's own format, which is not read here; {WANTED_KEY}, and for cosign itself "
            "import the same key (cosign import-key-pair --key)"
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError:
        wanted = (
            "it is not encrypted; leave signing_key_passphrase out"
            if passphrase
            else "it is encrypted; give signing_key_passphrase"
        )
        raise SignatureError(wanted) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(
            f"it cannot be read{' with this passphrase' if passphrase else ''}; {WANTED_KEY}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError(f"it is a key of another kind; {WANTED_KEY}")
    return key


def load_public_key(data: bytes):
    """Return a public key to verify with. Raises SignatureError."""
    wanted = "give an ECDSA P-256 public key in PEM, as cosign.pub"
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"it cannot be read; {wanted}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError(f"it is a key of another kind; {wanted}")
    return key


def key_name(key) -> str:
    """Return the name of a public key as gateways log it: its sha256, shortened."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()[:16]


def payload_of(image: str, digest: str) -> bytes:
    """Return what is signed (containers/image, "containers-signature"): the digest; the name of the image is a hint."""
    return oci_registry.encode_json(
        {
            "critical": {
                "identity": {"docker-reference": image},
                "image": {"docker-manifest-digest": digest},
                "type": KIND,
            },
            "optional": None,
        }
    )


@dataclasses.dataclass(frozen=True)
class Signature:
    """A payload and the signature over it (DER)."""

    payload: bytes
    signature: bytes

    @classmethod
    def make(cls, image: str, digest: str, key) -> Signature:
        """Sign a digest."""
        payload = payload_of(image, digest)
        return cls(payload, key.sign(payload, ec.ECDSA(hashes.SHA256())))

    def is_of(self, digest: str, key) -> bool:
        """Tell whether this is a signature of the digest by a public key."""
        try:
            key.verify(self.signature, self.payload, ec.ECDSA(hashes.SHA256()))
            critical = json.loads(self.payload)["critical"]
            return critical["type"] == KIND and critical["image"]["docker-manifest-digest"] == digest
        except (InvalidSignature, ValueError, KeyError, TypeError, RecursionError):
            return False

    def descriptor(self) -> dict:
        """Return the layer of the signature."""
        return {
            **oci_registry.descriptor(PAYLOAD_TYPE, self.payload),
            "annotations": {ANNOTATION: base64.b64encode(self.signature).decode()},
        }


class Signatures:
    """The signatures of one artifact, as they are in its registry. What makes no sense there is kept as it is."""

    def __init__(self, registry, digest: str) -> None:
        """Read them. Raises RegistryError."""
        self._registry = registry
        self.digest = digest
        self.tag = tag_of(digest)
        manifest = registry.manifest(self.tag)
        self.manifest_digest = "" if manifest is None else sha256(manifest)
        self._layers = _layers(manifest)
        payloads: dict = {}
        self.all = []
        for layer in self._layers[-MAX_SIGNATURES:]:
            signature = _signature(registry, layer, payloads)
            if signature is not None:
                self.all.append(signature)

    def by(self, key) -> bool:
        """Tell whether one of them is by a public key."""
        return any(signature.is_of(self.digest, key) for signature in self.all)

    def add(self, signature: Signature) -> None:
        """Store one more, after those that are there. Raises RegistryError."""
        if len(self._layers) >= MAX_SIGNATURES:
            raise RegistryError(
                f"{self.digest} has {len(self._layers)} signatures already; delete the tag {self.tag}, then sign again"
            )
        layers = [*self._layers, signature.descriptor()]
        config = oci_registry.encode_json(
            {
                "architecture": "",
                "os": "",
                "config": {},
                "created": "0001-01-01T00:00:00Z",
                "history": [{"created": "0001-01-01T00:00:00Z"} for dummy in layers],
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            }
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci_registry.MANIFEST_TYPE,
            "config": oci_registry.descriptor(CONFIG_TYPE, config),
            "layers": layers,
        }
        blobs = ((PAYLOAD_TYPE, signature.payload), (CONFIG_TYPE, config))
        self._registry.push_manifest(oci_registry.encode_json(manifest), blobs, self.tag)


def _layers(manifest: bytes | None) -> list[dict]:
    if manifest is None:
        return []
    try:
        layers = json.loads(manifest)["layers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(layers, list):
        return []
    return [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("digest"), str)]


def _signature(registry, layer: dict, payloads: dict) -> Signature | None:
    size = layer.get("size")
    if layer.get("mediaType") != PAYLOAD_TYPE or not isinstance(size, int) or size > MAX_PAYLOAD_BYTES:
        return None
    try:
        signature = base64.b64decode(layer["annotations"][ANNOTATION], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    digest = layer["digest"]
    if digest not in payloads:
        payloads[digest] = registry.blob(digest)
    payload = payloads[digest]
    if payload is None or sha256(payload) != digest:
        return None
    return Signature(payload, signature)
