"""The client: requests to the Kubernetes API, each with a time limit and a limit on the response's size."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import load_kube_config

from wasmbed.kube.errors import ApiError, ApiUnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from wasmbed.kube.kind import Kind

TIMEOUT_S = 15.0
RESPONSE_BYTES = 64 * 1024 * 1024
EVENT_BYTES = 8 * 1024 * 1024
PAGE_OBJECTS = 250
CONNECTIONS = 64
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

# A peer that vanished without closing is noticed after 15 + 4 * 5 s, whatever the request's own limit.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def _keepalive_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    for option in _KEEPALIVE:
        connection.setsockopt(*option)
    return connection


class _Rest(RESTClientObject):
    """The package's transport with TCP keep-alive on every connection."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=self.ssl_context, socket_factory=_keepalive_socket, keepalive_timeout=60
        )


class Kube:
    """A client of one API server; an async context manager. Objects are dictionaries, as the API gives them."""

    def __init__(self, kubeconfig: Path, *, user_agent: str, timeout_s: float = TIMEOUT_S) -> None:
        self._kubeconfig = kubeconfig
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._configuration: Configuration | None = None
        self._rest: _Rest | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path, *, user_agent: str, timeout_s: float = TIMEOUT_S) -> Kube:
        """A client for the current context of a kubeconfig file, which is read when the client is entered."""
        return cls(path, user_agent=user_agent, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        """Read the kubeconfig.

        Raises:
            ApiError: the file cannot be used; the message names it.
        """
        configuration = Configuration()
        try:
            await load_kube_config(  # type: ignore[no-untyped-call]
                str(self._kubeconfig), client_configuration=configuration, persist_config=False
            )
            # Proxies of the environment are for the way out of a site; the API is within it.
            configuration.client_session_kwargs = {"trust_env": False}
            rest = _Rest(configuration)
        except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
            raise ApiError(0, "BadKubeconfig", f"cannot use kubeconfig {self._kubeconfig}: {error}") from error
        self._configuration, self._rest = configuration, rest
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._rest is not None:
            await self._rest.close()
            self._rest = None

    @property
    def url(self) -> str:
        """Address of the API server."""
        return self._configuration.host if self._configuration else ""

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        limit: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose status is 2xx.

        Raises:
            ApiError: the API refused.
            ApiUnreachableError: no answer, or not within the time.
        """
        if self._rest is None or self._configuration is None:
            raise RuntimeError("the client is used outside its context")
        headers = self._headers | {"Content-Type": content_type}
        token = (await self._configuration.auth_settings()).get("BearerToken")
        if token is not None:
            headers["Authorization"] = str(token["value"])
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await self._rest.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=limit
            )
            response: aiohttp.ClientResponse = answer.response
            async with response:
                if response.status >= 300:
                    text = await _read(response, 1024 * 1024)
                    raise ApiError.from_body(response.status, response.reason or "", text)
                yield response
        except TimeoutError as error:
            raise ApiUnreachableError(f"{method} {path}: no answer from {self.url} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachableError(f"{method} {path}: {self.url} cannot be reached: {error}") from error

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float | None = None,
    ) -> Any:
        """One request; returns the parsed body.

        Raises:
            ApiError: the API refused, or its answer is too large or not JSON.
            ApiUnreachableError: no answer, or not within the time.
        """
        limit = aiohttp.ClientTimeout(total=timeout_s or self._timeout_s)
        async with self._open(method, path, query=query, body=body, content_type=content_type, limit=limit) as response:
            text = await _read(response, RESPONSE_BYTES)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ApiError(502, "BadAnswer", f"{method} {path}: the answer is not JSON") from error

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """An object, or None if there is none."""
        try:
            return dict(await self.request("GET", kind.path(namespace, name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """All objects and the resource version they are of, read in pages of one consistent snapshot.

        Raises:
            ApiError: refused; with ``gone`` when the snapshot expired between two pages.
        """
        query = {"limit": str(PAGE_OBJECTS)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        items: list[dict[str, Any]] = []
        while True:
            page = await self.request("GET", kind.path(namespace), query=query)
            for item in page.get("items") or ():
                # Lists of built-in kinds leave these out of their items.
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 45,
    ) -> AsyncGenerator[dict[str, Any] | None, None]:
        """Events after `resource_version`, bookmarks included, until the server ends the watch after `timeout_s`.

        The first value is None: the server has accepted the watch.

        Raises:
            ApiError: refused, or an ERROR event (``gone``: `resource_version` is too old).
            ApiUnreachableError: the connection was lost, or the server did not end the watch when it should have.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        limit = aiohttp.ClientTimeout(total=timeout_s + 10, sock_connect=10)
        async with self._open("GET", kind.path(namespace), query=query, limit=limit) as response:
            yield None
            async for line in _lines(response):
                try:
                    event = json.loads(line)
                except ValueError as error:
                    raise ApiUnreachableError(f"watch of {kind.plural}: an event was cut off") from error
                if event.get("type") == "ERROR":
                    raise ApiError.from_status(event.get("object") or {})
                yield event

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; its namespace is that of its metadata."""
        path = kind.path(body["metadata"].get("namespace"))
        return dict(await self.request("POST", path, body=body))

    async def apply(self, kind: Kind, body: Mapping[str, Any], *, manager: str) -> dict[str, Any]:
        """Server-side apply: create the object, or set the fields in `body` and drop those `manager` set before."""
        return await self._apply(kind, body, manager, None)

    async def apply_status(self, kind: Kind, body: Mapping[str, Any], *, manager: str) -> dict[str, Any]:
        """Server-side apply of ``status``; the object must exist."""
        return await self._apply(kind, body, manager, "status")

    async def _apply(
        self, kind: Kind, body: Mapping[str, Any], manager: str, subresource: str | None
    ) -> dict[str, Any]:
        metadata = body["metadata"]
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        path = kind.path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return dict(await self.request("PATCH", path, query=query, body=whole, content_type=APPLY))

    async def merge_patch(
        self, kind: Kind, name: str, namespace: str | None, patch: Mapping[str, Any], *, manager: str = ""
    ) -> dict[str, Any]:
        """JSON merge patch (RFC 7386), refused if `patch` has a ``metadata.resourceVersion`` that is not current."""
        query = {"fieldManager": manager} if manager else None
        path = kind.path(namespace, name)
        return dict(await self.request("PATCH", path, query=query, body=patch, content_type=MERGE_PATCH))

    async def delete(self, kind: Kind, name: str, namespace: str | None = None, *, uid: str | None = None) -> bool:
        """Delete an object (only the one with `uid`, if given); False if there is none such."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(namespace, name), body=options)
        except ApiError as error:
            if error.status == 404 or (uid and error.status == 409):
                return False
            raise
        return True


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts = bytearray()
    async for part in response.content.iter_any():
        parts += part
        if len(parts) > limit:
            raise ApiError(502, "TooLarge", f"the answer of {response.url.path} is larger than {limit} bytes")
    return bytes(parts)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for part in response.content.iter_any():
        rest += part
        if b"\n" not in part:
            if len(rest) > EVENT_BYTES:
                raise ApiError(502, "TooLarge", f"a watch event is larger than {EVENT_BYTES} bytes")
            continue
        *lines, last = rest.split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line:
                yield bytes(line)
        await asyncio.sleep(0)
