"""Registries that lie, stall or lead elsewhere; no real one does, so these are written from the specification."""

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from hostile_server import Answer, Server, body, endless, serving
from wasmbed.oci import CONFIG_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, ImageError, Reference, Registry
from wasmbed.oci import registry as registry_module
from wasmbed.oci import session as session_module

MODULE = b"\0asm\1\0\0\0" + b"x" * 1000


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def manifest_for(module: bytes, size: int | None = None) -> bytes:
    layer = {
        "mediaType": "application/wasm",
        "digest": digest_of(module),
        "size": len(module) if size is None else size,
    }
    return json.dumps(
        {"mediaType": MANIFEST_MEDIA_TYPE, "config": {"mediaType": CONFIG_MEDIA_TYPE}, "layers": [layer]}
    ).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def pinned(manifest: bytes) -> Reference:
    return Reference.parse(f"r.io/app:v1@{digest_of(manifest)}")


async def test_a_good_artifact_is_pulled(server: Server) -> None:
    manifest = manifest_for(MODULE)
    server.answers = {"manifests": body(manifest), "blobs": body(MODULE)}
    assert await server.registry().resolve(Reference.parse("r.io/app:v1")) == digest_of(manifest)
    assert await server.registry().pull(pinned(manifest), limit_bytes=len(MODULE)) == MODULE


async def test_a_manifest_of_another_digest_is_refused(server: Server) -> None:
    server.answers = {"manifests": body(manifest_for(MODULE)), "blobs": body(MODULE)}
    with pytest.raises(ImageError, match="sent a manifest of another digest"):
        await server.registry().pull(pinned(b"another"), limit_bytes=10**6)
    with pytest.raises(ImageError, match="sent a manifest of another digest"):
        await server.registry().resolve(pinned(b"another"))


@pytest.mark.parametrize("sent", [b"\0asm\1\0\0\0" + b"y" * 1000, MODULE[:-1], b""])
async def test_a_module_of_another_digest_is_refused(server: Server, sent: bytes) -> None:
    manifest = manifest_for(MODULE)
    server.answers = {"manifests": body(manifest), "blobs": body(sent)}
    with pytest.raises(ImageError, match="sent a module of another digest"):
        await server.registry().pull(pinned(manifest), limit_bytes=10**6)


async def test_a_body_longer_than_the_manifest_says_is_cut_off(server: Server) -> None:
    manifest = manifest_for(MODULE)
    server.answers = {"manifests": body(manifest), "blobs": endless}
    with pytest.raises(ImageError, match="sent more bytes than the manifest says"):
        await server.registry().pull(pinned(manifest), limit_bytes=10**6)


async def test_an_endless_manifest_is_cut_off(server: Server) -> None:
    server.answers = {"manifests": endless}
    with pytest.raises(ImageError, match="more than 262144 bytes"):
        await server.registry().resolve(Reference.parse("r.io/app:v1"))


async def test_a_module_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    manifest = manifest_for(MODULE, size=9_000_000)
    server.answers = {"manifests": body(manifest), "blobs": endless}
    with pytest.raises(ImageError, match="9000000 bytes, more than the 8388608 allowed") as caught:
        await server.registry().pull(pinned(manifest), limit_bytes=8388608)
    assert caught.value.permanent
    assert not any("/blobs/" in path for path, _ in server.requests)


async def test_a_stalled_registry_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "READ_TIMEOUT_S", 0.2)
    released = threading.Event()
    server.answers = {"manifests": lambda _: released.wait(20) and None}
    try:
        with pytest.raises(ImageError, match="took too long to answer"):
            await server.registry().resolve(Reference.parse("r.io/app:v1"))
    finally:
        released.set()


async def test_a_registry_that_drips_is_given_up_at_the_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "PULL_TIMEOUT_S", 0.5)
    manifest = manifest_for(MODULE)
    released = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while not released.wait(0.05):
                handler.wfile.write(b"1\r\nx\r\n")
        except OSError:
            pass

    server.answers = {"manifests": body(manifest), "blobs": drip}
    try:
        with pytest.raises(ImageError, match="took too long to answer"):
            await server.registry().pull(pinned(manifest), limit_bytes=10**6)
    finally:
        released.set()


@pytest.mark.parametrize("where", ["header", "body"])
async def test_a_registry_that_drips_within_one_read_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Each byte began the time-out of a read anew, so a thread could be kept for days."""
    monkeypatch.setattr(registry_module, "RESOLVE_TIMEOUT_S", 0.5)
    released, cut_off = threading.Event(), threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n" + (b"\r\n" if where == "body" else b"X: "))
        try:
            while not released.wait(0.02):
                handler.wfile.write(b"x")
        except OSError:
            cut_off.set()

    server.answers = {"manifests": drip}
    try:
        async with asyncio.timeout(60):
            with pytest.raises(ImageError, match="took too long to answer"):
                await server.registry().resolve(Reference.parse("r.io/app:v1"))
        assert await asyncio.to_thread(cut_off.wait, 10), "a thread goes on reading"
    finally:
        released.set()


async def test_plain_http_needs_an_explicit_mirror(server: Server) -> None:
    server.answers = {"manifests": body(manifest_for(MODULE))}
    with pytest.raises(ImageError, match=r"is not trusted|cannot be reached"):
        await Registry({"r.io": server.address}).resolve(Reference.parse("r.io/app:v1"))
    assert server.requests == []


async def test_a_token_is_asked_for_and_used(server: Server) -> None:
    manifest = manifest_for(MODULE)

    def guarded(data: bytes) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            if handler.headers.get("Authorization") == "Bearer abc":
                body(data)(handler)
            else:
                realm = f'Bearer realm="http://{server.address}/token",service="s",scope="repository:app:pull"'
                body(b"", 401, WWW_Authenticate=realm)(handler)

        return answer

    server.answers = {
        "manifests": guarded(manifest),
        "blobs": guarded(MODULE),
        "token": body(b'{"token": "abc"}', Content_Type="application/json"),
    }
    assert await server.registry().pull(pinned(manifest), limit_bytes=10**6) == MODULE
    assert sum("/token" in path for path, _ in server.requests) == 1


async def test_an_endless_token_answer_is_cut_off(server: Server) -> None:
    server.answers = {
        "manifests": body(b"", 401, WWW_Authenticate=f'Bearer realm="http://{server.address}/token"'),
        "token": endless,
    }
    with pytest.raises(ImageError, match="more than 262144 bytes"):
        await server.registry().resolve(Reference.parse("r.io/app:v1"))


async def test_an_endless_redirect_body_is_cut_off(server: Server) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"http://{server.address}/elsewhere")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"\0" * 65536)
        except OSError:
            pass

    server.answers = {"manifests": redirect}
    with pytest.raises(ImageError, match="more than 262144 bytes"):
        await server.registry().resolve(Reference.parse("r.io/app:v1"))


@pytest.mark.parametrize(("status", "message"), [(403, "refused access"), (500, "answered 500"), (429, "answered 429")])
async def test_other_answers_are_told_with_what_to_do(server: Server, status: int, message: str) -> None:
    server.answers = {"manifests": body(b"", status)}
    with pytest.raises(ImageError, match=message):
        await server.registry().resolve(Reference.parse("r.io/app:v1"))


async def test_a_registry_that_is_away_is_told_at_once() -> None:
    with pytest.raises(ImageError, match=r"r.io/app:v1: 127.0.0.1:1 cannot be reached .*refused"):
        await Registry({"r.io": "127.0.0.1:1"}).resolve(Reference.parse("r.io/app:v1"))
