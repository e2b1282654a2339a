"""Resolving and pulling from registries, or from the site's mirrors of them."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import oras.container  # type: ignore[import-untyped]
import requests

from wasmbed.oci.credentials import credentials_for
from wasmbed.oci.errors import ImageError
from wasmbed.oci.manifest import MANIFEST_MEDIA_TYPE, wasm_layer
from wasmbed.oci.reference import Reference
from wasmbed.oci.session import BoundedSession, Client, DeadlineError, InsecureError, TooLargeError
from wasmbed.oci.signature import Signature, signature_layers, signature_tag

MAX_MANIFEST_BYTES = 256 * 1024
RESOLVE_TIMEOUT_S = 30.0
PULL_TIMEOUT_S = 120.0
THREADS = 16

# A manifest of another kind is asked for too, so that its message can say what was found.
_ACCEPT = ", ".join(
    (
        MANIFEST_MEDIA_TYPE,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)

T = TypeVar("T")


@dataclass(frozen=True)
class RegistryConfig:
    """How registries are reached, as services have it in their configuration; see Registry."""

    mirrors: dict[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    credentials_file: Path | None = None


class Registry:
    """Registries as one site reaches them.

    `mirrors` maps the host of a reference to the `host:port` that serves it; https always, unless a mirror is written
    `http://host:port`. `ca_file` (PEM) replaces the system's authorities. `credentials_file` is a docker config.json,
    read for every request so that a rotated password counts at once.
    """

    def __init__(
        self, mirrors: Mapping[str, str], ca_file: Path | None = None, credentials_file: Path | None = None
    ) -> None:
        self._mirrors = dict(mirrors)
        self._ca_file = ca_file
        self._credentials_file = credentials_file
        # Of its own: registries that let one wait must not hold up what else the process does in threads.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="registry")

    async def resolve(self, reference: Reference) -> str:
        """The digest of the manifest that `reference` names now; one that has a digest is looked up, not trusted.

        Raises ImageError, also when the manifest is not a WebAssembly artifact.
        """

        def work(exchange: "_Exchange") -> str:
            data = exchange.manifest(reference)
            wasm_layer(data, exchange.name)
            return _digest(data)

        return await self._in_thread(reference, RESOLVE_TIMEOUT_S, work)

    async def pull(self, reference: Reference, *, limit_bytes: int) -> bytes:
        """The module of `reference`, which must have a digest; manifest and module are checked against their digests.

        Raises ImageError; a module larger than `limit_bytes` is refused before, or while, it is read.
        """
        if reference.digest is None:
            raise ImageError(f"{reference}: a pull needs a digest", permanent=True)
        return await self._in_thread(
            reference, PULL_TIMEOUT_S, lambda exchange: exchange.module(reference, limit_bytes)
        )

    async def signatures(self, reference: Reference) -> list[Signature]:
        """What is stored as signatures of `reference`, which must have a digest; nothing of it is verified.

        None that is too large, damaged or of another kind is part of it. Raises ImageError when the registry cannot be
        asked; having no signature is no error.
        """
        if reference.digest is None:
            raise ImageError(f"{reference}: signatures are those of a digest", permanent=True)
        return await self._in_thread(reference, RESOLVE_TIMEOUT_S, lambda exchange: exchange.signatures(reference))

    async def _in_thread(self, reference: Reference, timeout_s: float, work: Callable[["_Exchange"], T]) -> T:
        host, plain = _endpoint(self._mirrors.get(reference.registry, reference.registry))
        session = BoundedSession(self._ca_file is None or str(self._ca_file), plain=plain, timeout_s=timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._run, reference, host, session, work
                )
        except TimeoutError:
            raise _too_slow(reference, host) from None
        finally:
            session.abort()

    def _run(self, reference: Reference, host: str, session: BoundedSession, work: Callable[["_Exchange"], T]) -> T:
        name = str(reference) if host == reference.registry else f"{reference} (via {host})"
        try:
            with session:
                credentials = credentials_for(self._credentials_file, (host, reference.registry))
                return work(_Exchange(Client(session, credentials), host, name, f"via {host}"))
        except requests.exceptions.SSLError as error:
            raise ImageError(
                f"{reference}: the certificate of {host} is not trusted ({_cause(error)}); check ca_file"
            ) from error
        except (DeadlineError, requests.Timeout) as error:
            raise _too_slow(reference, host) from error
        except InsecureError as error:
            raise ImageError(
                f"{reference}: {host} leads to plain http, which is refused; give the registry TLS"
            ) from error
        except TooLargeError as error:
            raise ImageError(f"{reference}: {host} sent {error}; it is not a registry's answer") from error
        except requests.RequestException as error:
            raise ImageError(
                f"{reference}: {host} cannot be reached ({_cause(error)}); check the mirror and the registry"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            # oras and requests raise these for a CA file that is not there and for answers that make no sense.
            raise ImageError(
                f"{reference}: {host} cannot be used ({_cause(error)}); check ca_file and the registry"
            ) from error


class _Exchange:
    """One request to a registry: a client, the host and how messages name the image."""

    def __init__(self, client: Client, host: str, name: str, via: str) -> None:
        self._client = client
        self._host = host
        self.name = name
        self._via = via

    def manifest(self, reference: Reference) -> bytes:
        container = oras.container.Container(f"{self._host}/{reference.repository}")
        target = reference.digest or reference.tag
        url = f"{self._client.scheme}://{container.manifest_url(target)}"
        with self._client.get(url, _ACCEPT) as response:
            self._check(response, "push it or correct spec.wasmImage")
            data = b"".join(self._client.session.chunks(response, MAX_MANIFEST_BYTES))
        found = _digest(data)
        announced = response.headers.get("Docker-Content-Digest", found)
        if found != (reference.digest or announced):
            raise ImageError(f"{self.name}: the registry sent a manifest of another digest ({found}); push it again")
        return data

    def signatures(self, reference: Reference) -> list[Signature]:
        container = oras.container.Container(f"{self._host}/{reference.repository}")
        url = f"{self._client.scheme}://{container.manifest_url(signature_tag(str(reference.digest)))}"
        with self._client.get(url, _ACCEPT) as response:
            if response.status_code == 404:
                return []
            self._check(response, "sign it again")
            manifest = b"".join(self._client.session.chunks(response, MAX_MANIFEST_BYTES))
        payloads: dict[str, bytes | None] = {}
        found = []
        for layer in signature_layers(manifest):
            if layer.digest not in payloads:
                payloads[layer.digest] = self._payload(container, layer.digest, layer.size)
            payload = payloads[layer.digest]
            if payload is not None:
                found.append(Signature(payload, layer.signature))
        return found

    def _payload(self, container: oras.container.Container, digest: str, size: int) -> bytes | None:
        url = f"{self._client.scheme}://{container.get_blob_url(digest)}"
        with self._client.get(url, "application/octet-stream") as response:
            if response.status_code == 404:
                return None
            self._check(response, "sign it again")
            try:
                data = b"".join(self._client.session.chunks(response, size))
            except TooLargeError:
                return None
        return data if _digest(data) == digest else None

    def module(self, reference: Reference, limit_bytes: int) -> bytes:
        layer = wasm_layer(self.manifest(reference), self.name)
        if layer.size > limit_bytes:
            raise ImageError(
                f"{self.name}: its module has {layer.size} bytes, more than the {limit_bytes} allowed; make it smaller "
                "or raise maxArtifactBytes of the gateway",
                permanent=True,
            )
        container = oras.container.Container(f"{self._host}/{reference.repository}")
        url = f"{self._client.scheme}://{container.get_blob_url(layer.digest)}"
        with self._client.get(url, "application/octet-stream") as response:
            self._check(response, "push it again")
            data = bytearray()
            try:
                for chunk in self._client.session.chunks(response, layer.size):
                    data += chunk
            except TooLargeError as error:
                raise ImageError(
                    f"{self.name}: the registry sent more bytes than the manifest says; push it again"
                ) from error
        if len(data) != layer.size or _digest(data) != layer.digest:
            raise ImageError(f"{self.name}: the registry sent a module of another digest; push it again")
        return bytes(data)

    def _check(self, response: requests.Response, remedy: str) -> None:
        status = response.status_code
        if status == 200:
            return
        if status == 404:
            raise ImageError(f"{self.name.replace(f' ({self._via})', '')}: not found ({self._via}); {remedy}")
        if status in (401, 403):
            raise ImageError(f"{self.name}: the registry refused access; check credentials_file")
        raise ImageError(f"{self.name}: the registry answered {status} {response.reason}; look at its log")


def _too_slow(reference: Reference, host: str) -> ImageError:
    return ImageError(f"{reference}: {host} took too long to answer; check the registry and the network")


def _endpoint(mirror: str) -> tuple[str, bool]:
    scheme, separator, host = mirror.partition("://")
    if not separator:
        return mirror, False
    return host.rstrip("/"), scheme == "http"


def _digest(data: bytes | bytearray) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _cause(error: BaseException) -> str:
    """The innermost words of a chain such as requests' `HTTPSConnectionPool(...): Max retries exceeded (...)`."""
    inner: object = error
    for _ in range(8):
        following = getattr(inner, "reason", None) or next(
            (argument for argument in getattr(inner, "args", ()) if isinstance(argument, BaseException)), None
        )
        if not isinstance(following, BaseException):
            break
        inner = following
    text = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or str(inner)
    # urllib3 puts the connection in front.
    return " ".join(re.sub(r"^\w+\(host=[^)]*\): ", "", str(text).rsplit(">: ", 1)[-1]).split())[:150]
