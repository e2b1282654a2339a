"""Signatures of images as cosign stores them: ECDSA P-256 over simple signing payloads (cosign SIGNATURE_SPEC).

They lie in the image's repository under the tag `sha256-<hex>.sig`, a layer for each payload with the signature as its
annotation. What is read here comes from a registry that nobody trusts; whoever verifies has the keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAYLOAD_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION: Final = "dev.cosignproject.cosign/signature"
SIGNATURE_KIND: Final = "cosign container image signature"

MAX_KEYS: Final = 32
MAX_KEY_BYTES: Final = 64 * 1024
# Of more signatures the last ones count: they are added at the end.
MAX_SIGNATURES: Final = 64
MAX_PAYLOAD_BYTES: Final = 16 * 1024
# A DER signature of P-256 has at most 72 bytes.
_MAX_SIGNATURE_TEXT: Final = 256
_PEM: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
_WANTED: Final = "give ECDSA P-256 public keys in PEM (BEGIN PUBLIC KEY), as cosign.pub"


class KeyFileError(ValueError):
    """What is given as a public key is none that can be used; the message says what is wanted."""


@dataclass(frozen=True)
class PublicKey:
    """A P-256 key; `name` is the sha256 of its SubjectPublicKeyInfo, shortened."""

    key: ec.EllipticCurvePublicKey
    name: str

    @classmethod
    def all_from_pem(cls, data: bytes) -> tuple[PublicKey, ...]:
        """Read a PEM file of one or more keys (`cosign.pub`, `openssl ec -pubout`); raises KeyFileError."""
        if len(data) > MAX_KEY_BYTES:
            raise KeyFileError(f"it is larger than {MAX_KEY_BYTES} bytes; {_WANTED}")
        if b"PRIVATE KEY" in data:
            raise KeyFileError(f"it has a private key, which belongs to who signs; {_WANTED}")
        blocks = _PEM.findall(data)
        if not blocks:
            raise KeyFileError(f"it has no key; {_WANTED}")
        return tuple(cls._of(block) for block in blocks)

    @classmethod
    def _of(cls, block: bytes) -> PublicKey:
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"it is not readable; {_WANTED}") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyFileError(f"it is of another kind; {_WANTED}")
        encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(key, hashlib.sha256(encoded).hexdigest()[:16])


@dataclass(frozen=True)
class Signature:
    """A payload and its signature (DER), as read; nothing is verified yet."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Layer:
    """Where a payload is: digest and size (bytes) of its blob, and the signature over it."""

    digest: str
    size: int
    signature: bytes


@dataclass(frozen=True)
class Verified:
    """The signature that holds and the name of the key it is by."""

    signature: Signature
    key: str


def signature_tag(digest: str) -> str:
    """The tag under which the signatures of the image `digest` are."""
    return f"{digest.replace(':', '-')}.sig"


def signature_layers(manifest: bytes) -> list[Layer]:
    """The signatures that a manifest names, at most the last MAX_SIGNATURES; whatever makes no sense is left out."""
    try:
        document = json.loads(manifest)
    except (ValueError, RecursionError):
        return []
    layers = document.get("layers") if isinstance(document, dict) else None
    found = (_layer(layer) for layer in (layers if isinstance(layers, list) else [])[-MAX_SIGNATURES:])
    return [layer for layer in found if layer is not None]


def _layer(descriptor: Any) -> Layer | None:
    if not isinstance(descriptor, dict) or descriptor.get("mediaType") != PAYLOAD_TYPE:
        return None
    digest, size, annotations = descriptor.get("digest"), descriptor.get("size"), descriptor.get("annotations")
    text = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(digest, str) or type(size) is not int or not 0 <= size <= MAX_PAYLOAD_BYTES:
        return None
    if not isinstance(text, str) or len(text) > _MAX_SIGNATURE_TEXT:
        return None
    try:
        return Layer(digest, size, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None


def verify(digest: str, signatures: Iterable[Signature], keys: Sequence[PublicKey]) -> Verified | str:
    """The first signature by one of `keys` that is about the image `digest`; else why there is none."""
    count = foreign = 0
    for signature in signatures:
        count += 1
        key = next((key for key in keys if _holds(signature, key)), None)
        if key is None:
            continue
        if signed_digest(signature.payload) == digest:
            return Verified(signature, key.name)
        foreign += 1
    if not count:
        return "it has no signature"
    if foreign:
        return f"its signature by a known key is for another image ({foreign} of {count})"
    return f"none of its {count} signatures is by one of the {len(keys)} keys of this gateway"


def _holds(signature: Signature, key: PublicKey) -> bool:
    try:
        key.key.verify(signature.signature, signature.payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def signed_digest(payload: bytes) -> str | None:
    """The digest that a simple signing payload is about; None when it is no payload of cosign."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    critical = document.get("critical") if isinstance(document, dict) else None
    if not isinstance(critical, dict) or critical.get("type") != SIGNATURE_KIND:
        return None
    image = critical.get("image")
    if not isinstance(image, dict):
        return None
    # The specification of containers/image writes it in lower case; cosign's own has examples with a capital letter.
    values = [value for name, value in image.items() if name.lower() == "docker-manifest-digest"]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None
