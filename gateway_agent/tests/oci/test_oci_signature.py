"""Signatures in the layout of cosign: what holds, what does not, and registries that lie about them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hostile_server import Server, body, endless, serving
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.oci import ImageError, KeyFileError, PublicKey, Reference, Signature, Verified, verify
from wasmbed.oci.signature import ANNOTATION, PAYLOAD_TYPE, signature_layers, signature_tag, signed_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
PRIVATE = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]


def pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


KEYS = PublicKey.all_from_pem(b"keys of the site\n" + b"\n".join(pem(key) for key in PRIVATE))


def payload(digest: str = DIGEST, kind: str = "cosign container image signature", **image: str) -> bytes:
    image = image or {"docker-manifest-digest": digest}
    return json.dumps({"critical": {"identity": {}, "image": image, "type": kind}, "optional": None}).encode()


def sign(data: bytes, by: int = 0) -> Signature:
    return Signature(data, PRIVATE[by].sign(data, ec.ECDSA(hashes.SHA256())))


def test_a_signature_by_any_of_the_keys_holds() -> None:
    found = verify(DIGEST, [sign(payload(OTHER), 2), sign(payload(), 1)], KEYS[:2])
    assert isinstance(found, Verified)
    assert found.key == KEYS[1].name


@pytest.mark.parametrize(
    ("signatures", "why"),
    [
        ([], "it has no signature"),
        ([sign(payload(), 2)], "none of its 1 signatures is by one of the 2 keys of this gateway"),
        ([sign(payload(OTHER))], "its signature by a known key is for another image (1 of 1)"),
        ([sign(payload(), 2), sign(payload(OTHER))], "its signature by a known key is for another image (1 of 2)"),
        ([sign(payload(kind="atomic container signature"))], "is for another image"),
        ([sign(b"\xff" * 40)], "is for another image"),
        ([sign(b"[" * 10_000)], "is for another image"),
        (
            [sign(payload(x="1", **{"docker-manifest-digest": DIGEST, "Docker-Manifest-Digest": OTHER}))],
            "another image",
        ),
        ([Signature(payload(), b"")], "none of its 1 signatures"),
        ([Signature(payload(), b"\x30" * 72)], "none of its 1 signatures"),
        ([Signature(payload(OTHER), sign(payload()).signature)], "none of its 1 signatures"),
    ],
)
def test_what_does_not_hold_is_told_why(signatures: list[Signature], why: str) -> None:
    found = verify(DIGEST, signatures, KEYS[:2])
    assert isinstance(found, str)
    assert why in found


def test_the_digest_of_a_payload_is_found_as_both_specifications_write_it() -> None:
    assert signed_digest(payload()) == DIGEST
    assert signed_digest(payload(**{"Docker-manifest-digest": DIGEST})) == DIGEST


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it has no key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not readable"),
        (b"x" * 100_000, "larger than"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "of another kind"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "of another kind"),
        (
            PRIVATE[0].private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "a private key",
        ),
    ],
)
def test_a_key_that_is_none_is_refused_with_what_is_wanted(data: bytes, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as refusal:
        PublicKey.all_from_pem(pem(PRIVATE[0]) + data if data else data)
    assert "ECDSA P-256 public keys in PEM" in str(refusal.value)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(signature: Signature, **changes: Any) -> dict[str, Any]:
    return {
        "mediaType": PAYLOAD_TYPE,
        "digest": digest_of(signature.payload),
        "size": len(signature.payload),
        "annotations": {ANNOTATION: base64.b64encode(signature.signature).decode()},
        **changes,
    }


def manifest(*layers: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": layers}).encode()


GOOD = sign(payload())


def test_layers_that_make_no_sense_are_left_out() -> None:
    bad = [
        None,
        7,
        layer(GOOD, mediaType="application/wasm"),
        layer(GOOD, size=-1),
        layer(GOOD, size=True),
        layer(GOOD, size=1 << 40),
        layer(GOOD, digest=None),
        layer(GOOD, annotations=None),
        layer(GOOD, annotations={ANNOTATION: "***"}),
        layer(GOOD, annotations={ANNOTATION: "A" * 100_000}),
    ]
    assert [found.signature for found in signature_layers(manifest(*bad, layer(GOOD)))] == [GOOD.signature]
    assert len(signature_layers(manifest(*[layer(GOOD)] * 1000))) == 64
    for garbage in (b"", b"[]", b"{}", b'{"layers": 5}', b"[" * 100_000, b"\xff\xfe"):
        assert signature_layers(garbage) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_manifest_and_payload_are_read(value: Any) -> None:
    data = json.dumps({"layers": value, "critical": value}).encode()
    assert signature_layers(data) == []
    assert signed_digest(data) is None


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


REFERENCE = Reference.parse(f"r.io/app:v1@{DIGEST}")


async def test_signatures_are_found_by_the_tag_of_the_digest(server: Server) -> None:
    server.answers = {
        "manifests": body(manifest(layer(sign(payload(OTHER), 1)), layer(GOOD))),
        "blobs": body(payload()),
    }
    # The first layer's payload is not the one that the registry sends.
    assert await server.registry().signatures(REFERENCE) == [GOOD]
    assert server.requests[0][0] == f"/v2/app/manifests/sha256-{'ab' * 32}.sig"
    assert signature_tag(DIGEST) == f"sha256-{'ab' * 32}.sig"


async def test_no_signature_is_no_error(server: Server) -> None:
    assert await server.registry().signatures(REFERENCE) == []


@pytest.mark.parametrize("blob", [body(b"another"), endless, body(b"", 404)])
async def test_a_payload_that_is_not_what_was_announced_is_left_out(server: Server, blob: Any) -> None:
    server.answers = {"manifests": body(manifest(layer(GOOD))), "blobs": blob}
    assert await server.registry().signatures(REFERENCE) == []


async def test_a_registry_cannot_make_a_gateway_read_much(server: Server) -> None:
    layers = [layer(sign(payload(OTHER)), digest=f"sha256:{number:064x}", size=16384) for number in range(500)]
    server.answers = {"manifests": body(manifest(*layers)), "blobs": endless}
    began = time.process_time()
    assert await server.registry().signatures(REFERENCE) == []
    assert len(server.requests) == 65
    assert time.process_time() - began < 10


async def test_a_manifest_without_end_is_an_error_that_names_the_image(server: Server) -> None:
    server.answers = {"manifests": endless}
    with pytest.raises(ImageError, match=r"r\.io/app:v1"):
        await server.registry().signatures(REFERENCE)


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_refusal_is_an_error_and_not_a_missing_signature(server: Server, status: int) -> None:
    server.answers = {"manifests": body(b"{}", status)}
    with pytest.raises(ImageError):
        await server.registry().signatures(REFERENCE)


async def test_a_stalling_registry_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasmbed.oci.registry.RESOLVE_TIMEOUT_S", 0.5)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    server.answers = {"manifests": lambda _: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)}
    try:
        with pytest.raises(ImageError, match="took too long"):
            await server.registry().signatures(REFERENCE)
    finally:
        release.set()
