"""References, manifests and credentials without a registry."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.oci import CONFIG_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, ImageError, Reference
from wasmbed.oci.credentials import credentials_for
from wasmbed.oci.manifest import wasm_layer

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry.wasmbed.io/app:v1.0.0", Reference("registry.wasmbed.io", "app", "v1.0.0")),
        ("registry.wasmbed.io/a/b_c/d-e:latest", Reference("registry.wasmbed.io", "a/b_c/d-e", "latest")),
        ("localhost:5000/app:1", Reference("localhost:5000", "app", "1")),
        ("localhost/app:1", Reference("localhost", "app", "1")),
        (f"r.io/app@{DIGEST}", Reference("r.io", "app", None, DIGEST)),
        (f"r.io/app:v1@{DIGEST}", Reference("r.io", "app", "v1", DIGEST)),
    ],
)
def test_references_are_taken_apart_and_written_back(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app:v1", "must begin with a registry host"),
        ("library/app:v1", "must begin with a registry host"),
        ("r.io/", "the repository may have"),
        ("r.io/App:v1", "the repository may have lower-case"),
        ("r.io/../x:v1", "the repository may have"),
        ("r.io/app:", "the tag may have"),
        ("r.io/app:.x", "the tag may have"),
        ("r.io/app", "has neither tag nor digest; add one, as in r.io/app:v1"),
        ("r.io/app@sha256:12", "the digest must be"),
        ("r.io/app@md5:" + "a" * 64, "the digest must be"),
        ("user@r.io/app:v1", "the digest must be"),
        ("https://r.io/app:v1", "must begin with a registry host"),
        ("r.io/app:v1\n", "the tag may have"),
        ("r.io/" + "a" * 600 + ":v1", "longer than 512"),
        ("", "must begin with a registry host"),
    ],
)
def test_a_wrong_reference_says_which_part(text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        Reference.parse(text)
    assert caught.value.permanent
    assert "\n" not in str(caught.value)


@given(st.text(max_size=80) | st.from_regex(r"[a-z.:]{1,9}/[a-z/:@.]{0,20}", fullmatch=True))
def test_any_text_is_a_reference_that_round_trips_or_an_image_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ImageError:
        return
    assert str(reference) == text
    assert Reference.parse(str(reference)) == reference


def test_a_pinned_reference_keeps_its_tag_and_refuses_what_is_no_digest() -> None:
    reference = Reference.parse("r.io/app:v1")
    assert str(reference.with_digest(DIGEST)) == f"r.io/app:v1@{DIGEST}"
    with pytest.raises(ImageError, match="is not a digest"):
        reference.with_digest("sha256:../../x")


def manifest(**changes: Any) -> bytes:
    layer = {"mediaType": "application/wasm", "digest": DIGEST, "size": 8}
    document = {"mediaType": MANIFEST_MEDIA_TYPE, "config": {"mediaType": CONFIG_MEDIA_TYPE}, "layers": [layer]}
    return json.dumps({**document, **changes}).encode()


def test_both_layer_media_types_are_accepted() -> None:
    assert wasm_layer(manifest(), "x").size == 8
    other = {"mediaType": "application/vnd.wasm.content.layer.v1+wasm", "digest": DIGEST, "size": 9}
    assert wasm_layer(manifest(layers=[other]), "x").size == 9


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "its manifest is not JSON"),
        (b"[1]", "is a list, not an image manifest"),
        (b"[" * 100000, "its manifest is not JSON"),
        (manifest(mediaType="application/vnd.oci.image.index.v1+json"), "image.index.*not an image manifest"),
        (
            manifest(config={"mediaType": "application/vnd.oci.image.config.v1+json"}),
            "its config is application/vnd.oci",
        ),
        (manifest(config=None), "its config is of no media type"),
        (manifest(layers=[]), "has 0 layers, not one"),
        (manifest(layers=[{}, {}]), "has 2 layers, not one"),
        (manifest(layers={}), "has 0 layers, not one"),
        (
            manifest(layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]),
            "its layer is application/vnd",
        ),
        (manifest(layers=[{"mediaType": "application/wasm", "size": 1}]), "no sha256 digest"),
        (manifest(layers=[{"mediaType": "application/wasm", "digest": DIGEST, "size": True}]), "no sha256 digest"),
        (manifest(layers=[{"mediaType": "application/wasm", "digest": DIGEST, "size": -1}]), "no sha256 digest"),
    ],
)
def test_a_manifest_of_something_else_is_told_as_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        wasm_layer(data, "r.io/app:v1")
    assert caught.value.permanent
    assert "push it as a WebAssembly artifact" in str(caught.value)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_any_bytes_are_a_manifest_or_an_image_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        wasm_layer(data, "x")


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_credentials_of_the_mirror_come_before_those_of_the_reference(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"user:pass:word").decode()
    path = write(
        tmp_path / "config.json",
        {"auths": {"r.io": {"username": "a", "password": "b"}, "mirror:5000": {"auth": encoded}}, "credsStore": "evil"},
    )
    assert credentials_for(path, ("mirror:5000", "r.io")) == ("user", "pass:word")
    assert credentials_for(path, ("other:1", "r.io")) == ("a", "b")
    assert credentials_for(path, ("other:1",)) is None
    assert credentials_for(tmp_path / "none.json", ("r.io",)) is None
    assert credentials_for(None, ("r.io",)) is None


@pytest.mark.parametrize("document", [[], {"auths": []}, {"auths": {"r.io": {"auth": "geheim-!"}}}])
def test_a_broken_credentials_file_is_told_without_its_content(tmp_path: Path, document: object) -> None:
    path = write(tmp_path / "config.json", document)
    with pytest.raises(ImageError) as caught:
        credentials_for(path, ("r.io",))
    assert str(path) in str(caught.value)
    assert "geheim" not in str(caught.value)
