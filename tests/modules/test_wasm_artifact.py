"""wasm_artifact and wasm_artifact_info against a real registry, read back by what gateways pull with."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from wasmbed.oci import PublicKey, Reference, Verified, verify
from wasmbed.oci import Registry as GatewayRegistry

from tests.support.signing import make_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modules.conftest import Play
    from tests.support.registry import Registry

HEADER = b"\0asm\x01\0\0\0"


def module_bytes(mark: str) -> bytes:
    """A core module with one custom section that makes it differ from others."""
    name = mark.encode()
    return HEADER + bytes([0, len(name) + 1, len(name)]) + name


def task(ref: str, check: bool = False, **options: Any) -> dict[str, Any]:
    return {"wasmbed.edge.wasm_artifact": {"ref": ref, **options}, "check_mode": check}


def info(ref: str, **options: Any) -> dict[str, Any]:
    return {"wasmbed.edge.wasm_artifact_info": {"ref": ref, **options}}


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that is this test's alone."""
    return f"registry.wasmbed.io/tests/{request.node.name.replace('_', '-')[:60].strip('-')}"


@pytest.fixture
def wasm(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "module.wasm"
    path.write_bytes(module_bytes(request.node.name[:60]))
    return path


def test_a_gateway_pulls_what_was_pushed(registry_play: Play, registry: Registry, repository: str, wasm: Path) -> None:
    ref = f"{repository}:v1"
    check, real, again, found = registry_play.run(
        task(ref, check=True, src=str(wasm)), task(ref, src=str(wasm)), task(ref, src=str(wasm)), info(ref)
    )
    assert check["changed"] is real["changed"] is True
    assert check["digest"] == real["digest"]
    assert check["diff"] == real["diff"]
    assert real["diff"]["after"] == {"digest": real["digest"]}
    assert again["changed"] is False
    assert again["digest"] == real["digest"]
    assert real["pinned_ref"] == f"{repository}@{real['digest']}"
    assert real["size_bytes"] == wasm.stat().st_size
    assert found["is_wasm"]
    assert found["digest"] == real["digest"]
    assert found["tags"] == ["v1"]
    assert (found["config"]["architecture"], found["config"]["os"]) == ("wasm", "wasip1")
    assert found["config"]["layerDigests"] == [found["layers"][0]["digest"]]
    gateway = GatewayRegistry({"registry.wasmbed.io": registry.address}, registry.ca_file, registry.credentials_file)
    assert asyncio.run(gateway.resolve(Reference.parse(ref))) == real["digest"]
    pulled = asyncio.run(gateway.pull(Reference.parse(real["pinned_ref"]), limit_bytes=1 << 20))
    assert pulled == wasm.read_bytes()


def test_the_digest_depends_on_the_bytes_alone(registry_play: Play, repository: str, wasm: Path) -> None:
    encoded = base64.b64encode(wasm.read_bytes()).decode()
    first, second, noted, changed = registry_play.run(
        task(f"{repository}:v1", src=str(wasm)),
        task(f"{repository}-copy:other", content=encoded),
        task(f"{repository}:noted", src=str(wasm), annotations={"org.opencontainers.image.revision": "abc"}),
        task(f"{repository}:v1", content=base64.b64encode(module_bytes("other")).decode()),
    )
    assert first["digest"] == second["digest"]
    assert noted["digest"] != first["digest"]
    assert changed["changed"] is True
    assert changed["diff"]["before"] == {"digest": first["digest"]}
    assert changed["diff"]["after"] == {"digest": changed["digest"]}


def test_what_is_no_module_is_refused_before_the_registry_is_asked(play: Play, tmp_path: Path) -> None:
    def content(data: bytes) -> str:
        return base64.b64encode(data).decode()

    # A registry that does not exist: none of these gets that far.
    ref = "registry.invalid:5000/hello:v1"
    text, component, cut, large, missing, untagged, encoding = play.run(
        task(ref, content=content(b"#!/bin/sh\n")),
        task(ref, content=content(b"\0asm\x0d\0\x01\0")),
        task(ref, content=content(module_bytes("whole")[:-1])),
        task(ref, content=content(module_bytes("x" * 100)), max_bytes=64),
        task(ref, src=str(tmp_path / "none.wasm")),
        task("registry.invalid:5000/hello", content=content(HEADER)),
        task(ref, content="***"),
    )
    assert "magic bytes" in text["msg"]
    assert "component" in component["msg"]
    assert "beyond the end" in cut["msg"]
    assert "more than 64 bytes" in large["msg"]
    assert "none.wasm" in missing["msg"]
    assert "must have a tag" in untagged["msg"]
    assert "content" in encoding["msg"]


def test_a_registry_that_refuses_is_named_with_what_to_do(
    registry_play: Play, registry: Registry, repository: str, wasm: Path
) -> None:
    ref = f"{repository}:v1"
    wrong, untrusted, closed, stranger = registry_play.run(
        task(ref, src=str(wasm), password="not-the-right-one"),
        task(ref, src=str(wasm), ca_path="/etc/ssl/certs/ca-certificates.crt"),
        task(ref, src=str(wasm), mirrors={"registry.wasmbed.io": "127.0.0.1:1"}),
        task(ref, src=str(wasm), username=None, password=None),
    )
    assert "are username and password right" in wrong["msg"]
    assert "give ca_path" in untrusted["msg"]
    assert "127.0.0.1:1: cannot contact" in closed["msg"]
    assert "Connection refused" in closed["msg"]
    assert f"{registry.address} asks for credentials" in stranger["msg"]


def test_the_password_is_in_no_output(registry_play: Play, registry: Registry, repository: str, wasm: Path) -> None:
    registry_play.run(task(f"{repository}:v1", src=str(wasm)), arguments=("-vvv",))
    assert repository in registry_play.output
    assert registry.password not in registry_play.output


def test_absent_deletes_the_tag_but_no_other(registry_play: Play, repository: str, wasm: Path) -> None:
    one, two = f"{repository}:one", f"{repository}:two"
    registry_play.run(task(one, src=str(wasm)), task(two, src=str(wasm)))
    shared, moved, check, gone, again, left, nothing = registry_play.run(
        task(one, state="absent"),
        task(two, content=base64.b64encode(module_bytes("two")).decode()),
        task(one, state="absent", check=True),
        task(one, state="absent"),
        task(one, state="absent"),
        info(repository),
        info(one),
    )
    assert "is also tagged two" in shared["msg"]
    assert moved["changed"] is True
    assert check["changed"] is gone["changed"] is True
    assert check["diff"] == gone["diff"]
    assert again["changed"] is False
    assert left["tags"] == ["two"]
    assert nothing["exists"] is False


def test_a_signed_artifact_is_verified_by_a_gateway(
    registry_play: Play, registry: Registry, repository: str, wasm: Path, tmp_path: Path
) -> None:
    ref, first, second = f"{repository}:v1", make_key(tmp_path, "first"), make_key(tmp_path, "second")
    signed = {"src": str(wasm), "signing_key": str(first.private_file)}
    plain, unsigned, check, real, again, other, found = registry_play.run(
        task(ref, src=str(wasm)),
        info(ref),
        task(ref, check=True, **signed),
        task(ref, **signed),
        task(ref, **signed),
        task(ref, src=str(wasm), signing_key=str(second.private_file)),
        info(ref, signature_keys=[str(first.public_file), second.public_file.read_text()]),
    )
    assert "signed" not in plain
    assert (unsigned["signed"], unsigned["signed_by"]) == (False, [])
    assert check["changed"] is real["changed"] is other["changed"] is True
    assert check["diff"] == real["diff"]
    assert (real["diff"]["before"]["signed"], real["diff"]["after"]["signed"]) == (False, True)
    assert again["changed"] is False
    assert plain["digest"] == real["digest"] == other["digest"]
    assert (real["signed_by"], other["signed_by"]) == (first.name, second.name)
    assert (found["signed"], found["signed_by"]) == (True, [first.name, second.name])
    assert found["tags"] == ["v1"]
    gateway = GatewayRegistry({"registry.wasmbed.io": registry.address}, registry.ca_file, registry.credentials_file)
    signatures = asyncio.run(gateway.signatures(Reference.parse(real["pinned_ref"])))
    assert len(signatures) == 2
    for key in (first, second):
        verified = verify(real["digest"], signatures, [*PublicKey.all_from_pem(key.public_file.read_bytes())])
        assert isinstance(verified, Verified)
        assert verified.key == key.name


def test_a_first_publication_is_signed_and_the_last_tag_takes_the_signatures_along(
    registry_play: Play, registry: Registry, repository: str, wasm: Path, tmp_path: Path
) -> None:
    key = make_key(tmp_path, "publisher")
    options = {"src": str(wasm), "signing_key": str(key.private_file)}
    check, one, two, kept, left, gone, nothing = registry_play.run(
        task(f"{repository}:one", check=True, **options),
        task(f"{repository}:one", **options),
        task(f"{repository}:two", **options),
        task(f"{repository}:two", content=base64.b64encode(module_bytes("new")).decode()),
        info(f"{repository}:one", signature_keys=[str(key.public_file)]),
        task(f"{repository}:one", state="absent"),
        info(f"{repository}:sha256-{'0' * 64}.sig"),
    )
    assert check["diff"] == one["diff"]
    assert one["diff"] == {
        **one["diff"],
        "before": {"signed": False},
        "after": {"digest": one["digest"], "signed": True},
    }
    # The signatures are of the digest, so the second tag only had to be made.
    assert two["changed"] is kept["changed"] is gone["changed"] is True
    assert left["signed"] is True
    assert nothing["exists"] is False
    gateway = GatewayRegistry({"registry.wasmbed.io": registry.address}, registry.ca_file, registry.credentials_file)
    assert asyncio.run(gateway.signatures(Reference.parse(one["pinned_ref"]))) == []


def test_a_key_that_cannot_sign_is_refused_before_the_registry_is_asked(play: Play, tmp_path: Path, wasm: Path) -> None:
    key = make_key(tmp_path, "good")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
    )
    rsa_key = tmp_path / "rsa.key"
    rsa_key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    cosign = tmp_path / "cosign.key"
    cosign.write_text(
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJr\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    )

    def signing(path: Path, **options: Any) -> dict[str, Any]:
        return task("registry.invalid:5000/hello:v1", src=str(wasm), signing_key=str(path), **options)

    missing, public, locked, wrong, other, own, reached = play.run(
        signing(tmp_path / "none.key"),
        signing(key.public_file),
        signing(encrypted),
        signing(encrypted, signing_key_passphrase="incorrect donkey"),
        signing(rsa_key),
        signing(cosign),
        signing(encrypted, signing_key_passphrase="correct horse"),
    )
    assert "none.key: [Errno 2]" in missing["msg"]
    assert "it cannot be read; give an ECDSA P-256 private key" in public["msg"]
    assert "it is encrypted; give" in locked["msg"]
    assert "cannot be read with this passphrase" in wrong["msg"]
    assert "a key of another kind" in other["msg"]
    assert "cosign's own format, which is not read here" in own["msg"]
    assert "registry.invalid:5000: cannot contact" in reached["msg"]
    assert "donkey" not in play.output
    assert "correct horse" not in play.output
