"""Against a real registry with TLS and a password."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from wasmbed.oci import ImageError, Reference, Registry

from tests.support.artifacts import manifest_of, push

pytestmark = pytest.mark.cluster

MODULE = b"\0asm\1\0\0\0"


def client(registry: Any, **changes: Any) -> Registry:
    options = {"ca_file": registry.ca_file, "credentials_file": registry.credentials_file, **changes}
    return Registry({"registry.wasmbed.io": registry.address}, **options)


async def test_a_tag_is_resolved_and_its_digest_pulled(registry: Any) -> None:
    digest = push(registry, "oci/good", "v1", MODULE)
    reference = Reference.parse("registry.wasmbed.io/oci/good:v1")
    assert await client(registry).resolve(reference) == digest
    assert await client(registry).resolve(reference.with_digest(digest)) == digest
    assert await client(registry).pull(reference.with_digest(digest), limit_bytes=8) == MODULE


async def test_a_digest_goes_on_after_its_tag_moved(registry: Any) -> None:
    first = push(registry, "oci/moved", "v1", MODULE)
    push(registry, "oci/moved", "v1", MODULE + b"\0\5\4name")
    reference = Reference.parse("registry.wasmbed.io/oci/moved:v1")
    assert await client(registry).resolve(reference) != first
    assert await client(registry).pull(reference.with_digest(first), limit_bytes=100) == MODULE


@pytest.mark.parametrize("suffix", ["oci/none:v1", "oci/none@sha256:" + "0" * 64])
async def test_what_is_not_there_is_told_with_the_mirror_and_the_remedy(registry: Any, suffix: str) -> None:
    reference = Reference.parse(f"registry.wasmbed.io/{suffix}")
    with pytest.raises(ImageError) as caught:
        await client(registry).resolve(reference)
    assert str(caught.value) == f"{reference}: not found (via {registry.address}); push it or correct spec.wasmImage"


async def test_an_artifact_over_the_limit_is_refused(registry: Any) -> None:
    digest = push(registry, "oci/large", "v1", MODULE + b"\0" * 4096)
    with pytest.raises(ImageError, match="has 4104 bytes, more than the 4096 allowed"):
        await client(registry).pull(Reference.parse(f"registry.wasmbed.io/oci/large@{digest}"), limit_bytes=4096)


async def test_a_container_image_is_refused_by_its_config(registry: Any) -> None:
    manifest = manifest_of([MODULE], config_type="application/vnd.oci.image.config.v1+json")
    push(registry, "oci/container", "v1", MODULE, manifest=manifest)
    with pytest.raises(ImageError, match=r"its config is application/vnd\.oci\.image\.config"):
        await client(registry).resolve(Reference.parse("registry.wasmbed.io/oci/container:v1"))


async def test_without_or_with_wrong_credentials_access_is_refused(registry: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "config.json"
    wrong.write_text(json.dumps({"auths": {registry.address: {"username": registry.username, "password": "no"}}}))
    for file in (None, wrong):
        with pytest.raises(ImageError, match="refused access; check credentials_file"):
            await client(registry, credentials_file=file).resolve(Reference.parse("registry.wasmbed.io/oci/x:v1"))


@pytest.fixture
def other_authority(tmp_path: Path) -> Path:
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    files = ["-subj", "/CN=other", "-keyout", str(tmp_path / "other.key"), "-out", str(tmp_path / "other.crt")]
    subprocess.run([*request, *files], check=True, capture_output=True)
    return tmp_path / "other.crt"


async def test_an_unknown_authority_is_refused(registry: Any, other_authority: Path, tmp_path: Path) -> None:
    reference = Reference.parse("registry.wasmbed.io/oci/x:v1")
    with pytest.raises(ImageError, match=r"is not trusted .*check ca_file"):
        await client(registry, ca_file=other_authority).resolve(reference)
    with pytest.raises(ImageError, match="check ca_file"):
        await client(registry, ca_file=tmp_path / "none.crt").resolve(reference)
