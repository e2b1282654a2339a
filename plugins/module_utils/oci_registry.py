# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Wasm artifacts in an OCI registry: references, the artifact's bytes, and the registry itself by way of oras."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import traceback

try:
    import oras.container
    import oras.provider
    import requests
    import requests.adapters
    import urllib3

    ORAS_ERROR = None
    Provider = oras.provider.Registry
    Adapter = requests.adapters.HTTPAdapter
except ImportError:
    ORAS_ERROR = traceback.format_exc()
    Provider = Adapter = object

ORAS_REQUIREMENT = "oras >= 0.2"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.wasm.config.v0+json"
LAYER_TYPE = "application/wasm"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_TAGS = 1000
TIMEOUT_S = 30.0
# The layout asks for a time of creation; a constant one keeps the digest a function of the bytes.
CREATED = "1970-01-01T00:00:00Z"
REFERENCE = re.compile(
    r"(?P<registry>localhost|[A-Za-z0-9][A-Za-z0-9.-]*(?:\.[A-Za-z0-9-]+|(?=:))|\[[0-9A-Fa-f:]+\])(?P<port>:[0-9]{1,5})?"
    r"/(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
SIGNATURE_TAG = re.compile(r"sha256-[0-9a-f]{64}\.sig")

# Pairs with the documentation fragment wasmbed.edge.registry.
REGISTRY_ARGUMENTS = {
    "ref": {"type": "str", "required": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "mirrors": {"type": "dict", "default": {}},
}


class RegistryError(Exception):
    """The registry refused or cannot be reached, or a reference is wrong; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """C(registry/repository[:tag][@digest])."""

    registry: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        match = REFERENCE.fullmatch(text)
        if match is None:
            raise RegistryError(
                f"{text!r} is no reference; write host/repository:tag, for example registry.example/hello:v1"
            )
        return cls(
            match["registry"] + (match["port"] or ""), match["repository"], match["tag"] or "", match["digest"] or ""
        )

    def pinned(self, digest: str) -> str:
        """Return the reference of exactly these bytes."""
        return f"{self.registry}/{self.repository}@{digest}"


def sha256(data: bytes) -> str:
    """Return the digest in the notation of OCI."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode_json(value: dict) -> bytes:
    """Return JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(media_type: str, data: bytes) -> dict:
    """Return the descriptor of a blob (OCI image specification, "Content Descriptors")."""
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A module as an artifact: layer, config and manifest, byte for byte (CNCF, Wasm OCI Artifact layout)."""

    layer: bytes
    config: bytes
    manifest: bytes

    @classmethod
    def of(cls, module: bytes, annotations: dict[str, str]) -> Artifact:
        """Make the artifact of a core module. The same arguments give the same bytes."""
        # The layout knows wasip1 and wasip2 alone; the first stands for every core module.
        config = encode_json(
            {"architecture": "wasm", "created": CREATED, "layerDigests": [sha256(module)], "os": "wasip1"}
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": [descriptor(LAYER_TYPE, module)],
        }
        if annotations:
            manifest["annotations"] = annotations
        return cls(module, config, encode_json(manifest))

    @property
    def digest(self) -> str:
        return sha256(self.manifest)


class _TimedAdapter(Adapter):
    """Gives every request a time limit, and a few connection attempts."""

    def __init__(self) -> None:
        super().__init__(max_retries=urllib3.Retry(3, redirect=0, read=0, backoff_factor=0.2))

    def send(self, request, **kwargs):
        kwargs["timeout"] = kwargs.get("timeout") or TIMEOUT_S
        return super().send(request, **kwargs)


class _Provider(Provider):
    """The provider of oras without its minute-long retries of requests that cannot succeed."""

    if ORAS_ERROR is None:
        do_request = getattr(Provider.do_request, "__wrapped__", Provider.do_request)


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, params: dict, folder: str) -> None:
        """params: the REGISTRY_ARGUMENTS; folder: where blobs lie while they are sent. Asks how to authenticate."""
        self.address = str(params["mirrors"].get(reference.registry, reference.registry))
        self._reference = reference
        self._folder = folder
        username, password, ca_path = params["username"], params["password"], params["ca_path"]
        if ca_path and not os.path.exists(ca_path):
            raise RegistryError(f"ca_path {ca_path} is not there")
        session = requests.Session()
        session.mount("https://", _TimedAdapter())
        # Credentials are the task's alone, not those of a .netrc.
        session.trust_env = False
        with self._errors("contact"):
            answer = session.get(f"https://{self.address}/v2/", verify=ca_path or True, allow_redirects=False)
        scheme = answer.headers.get("Www-Authenticate", "").partition(" ")[0].lower()
        if answer.status_code not in (200, 401):
            raise RegistryError(f"{self.address}/v2/ answers HTTP {answer.status_code}; is it an OCI registry?")
        if scheme == "basic" and not username:
            raise RegistryError(f"{self.address} asks for credentials; give username and password")
        self._client = _Provider(
            hostname=self.address, tls_verify=ca_path or True, auth_backend="basic" if scheme == "basic" else "token"
        )
        self._client.session = self._client.auth.session = session
        if username:
            self._client.auth.set_basic_auth(username, password or "")
            if scheme == "basic":
                session.auth = (username.encode(), (password or "").encode())
        self._container = oras.container.Container(f"{self.address}/{reference.repository}", registry=self.address)

    def manifest(self, name: str) -> bytes | None:
        """Return the manifest of a tag or digest byte for byte, or None when there is none."""
        return self._read(self._container.manifest_url(name), f"read {name}", {"Accept": MANIFEST_TYPE})

    def blob(self, digest: str) -> bytes | None:
        """Return a small blob, or None when it is not there."""
        return self._read(self._container.get_blob_url(digest), f"read {digest}", {})

    def tags(self) -> list[str]:
        """Return the tags of the repository but for those of signatures, sorted, of the first thousand."""
        data = self._read(self._container.tags_url(MAX_TAGS), "list tags", {})
        tags = (json.loads(data).get("tags") or []) if data is not None else []
        return sorted(tag for tag in tags if not SIGNATURE_TAG.fullmatch(tag))

    def push(self, artifact: Artifact, tag: str) -> None:
        """Send an artifact and make the tag refer to it."""
        blobs = ((LAYER_TYPE, artifact.layer), (CONFIG_TYPE, artifact.config))
        self.push_manifest(artifact.manifest, blobs, tag)

    def push_manifest(self, manifest: bytes, blobs: tuple[tuple[str, bytes], ...], tag: str) -> None:
        """Send what the registry does not have, the manifest last."""
        for media_type, data in blobs:
            path = os.path.join(self._folder, "blob")
            with open(path, "wb") as stream:
                stream.write(data)
            with self._errors("push"):
                response = self._client.upload_blob(path, self._container, descriptor(media_type, data))
            self._check(response, "push", (200, 201, 202))
            os.unlink(path)
        url = f"https://{self._container.manifest_url(tag)}"
        with self._errors("push"):
            response = self._client.do_request(url, "PUT", data=manifest, headers={"Content-Type": MANIFEST_TYPE})
        self._check(response, "push", (200, 201, 202))
        digest = sha256(manifest)
        stored = response.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise RegistryError(f"{self.address} stored the digest {stored}, not {digest}; it rewrites manifests")

    def delete(self, tag: str, digest: str) -> None:
        """Delete a tag. A registry that only deletes by digest is asked so when no other tag has the digest."""
        refused = self._delete(tag)
        if not refused:
            return
        others = [other for other in self.tags() if other != tag and self._digest(other) == digest]
        if others:
            raise RegistryError(
                f"{self.address} deletes by digest only, and {digest} is also tagged {', '.join(others)}: {refused}"
            )
        refused = self._delete(digest)
        if refused:
            raise RegistryError(
                f"{self.address} does not delete: {refused}; allow it there (docker-registry: storage.delete.enabled)"
            )

    def is_tagged(self, digest: str) -> bool:
        """Tell whether a tag refers to a digest."""
        return any(self._digest(tag) == digest for tag in self.tags())

    def _digest(self, tag: str) -> str:
        data = self.manifest(tag)
        return "" if data is None else sha256(data)

    def _delete(self, name: str) -> str:
        """Delete a manifest by tag or digest; return the refusal, or nothing."""
        with self._errors("delete"):
            response = self._client.do_request(f"https://{self._container.manifest_url(name)}", "DELETE")
        if response.status_code in (400, 405):
            return self._message(response)
        if response.status_code != 404:
            self._check(response, "delete", (200, 202, 204))
        return ""

    def _read(self, url: str, doing: str, headers: dict) -> bytes | None:
        with self._errors(doing):
            response = self._client.do_request(f"https://{url}", "GET", headers=dict(headers), stream=True)
            try:
                if response.status_code == 404:
                    return None
                data = response.raw.read(MAX_MANIFEST_BYTES + 1, decode_content=True)
            finally:
                response.close()
        if len(data) > MAX_MANIFEST_BYTES:
            raise RegistryError(f"{self.address}: cannot {doing}: the answer is over {MAX_MANIFEST_BYTES} bytes")
        if response.status_code != 200:
            raise RegistryError(self._refusal(response.status_code, doing, _registry_message(data)))
        return data

    def _check(self, response, doing: str, accepted: tuple[int, ...]) -> None:
        if response.status_code not in accepted:
            raise RegistryError(self._refusal(response.status_code, doing, self._message(response)))

    def _refusal(self, status: int, doing: str, message: str) -> str:
        what = f"{self.address}/{self._reference.repository}: cannot {doing}: {message or f'HTTP {status}'}"
        return f"{what}; are username and password right, and may they?" if status in (401, 403) else what

    def _message(self, response) -> str:
        return _registry_message(response.content) or f"HTTP {response.status_code}"

    def _errors(self, doing: str):
        return _Errors(self.address, doing)


class _Errors:
    """Turns the errors of oras and requests into RegistryError."""

    def __init__(self, address: str, doing: str) -> None:
        self._address = address
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, dummy_type, error, dummy_traceback) -> bool:
        if isinstance(error, requests.exceptions.SSLError):
            raise RegistryError(
                f"{self._address}: its certificate is not trusted: {_cause(error)}; give ca_path"
            ) from error
        if isinstance(error, (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)):
            raise RegistryError(
                f"{self._address}: cannot {self._doing}: {_cause(error)}; is the registry up?"
            ) from error
        if isinstance(error, ValueError):
            raise RegistryError(
                f"{self._address}: cannot {self._doing}: {error}; are username and password right?"
            ) from error
        return False


def _cause(error: Exception) -> object:
    """Return what lies below an error of requests: the reason that urllib3 gave up, without its frame."""
    inner = error.args[0] if error.args else error
    return getattr(inner, "reason", None) or error


def _registry_message(data: bytes) -> str:
    """Return the messages of an OCI error answer (distribution specification, "Error Codes"), or its begin."""
    try:
        errors = json.loads(data)["errors"]
        return "; ".join(f"{error['code']}: {error.get('message', '')}" for error in errors)
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace").strip()
