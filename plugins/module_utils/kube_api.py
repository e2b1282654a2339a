# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""The Kubernetes API as modules need it: kubeconfig and TLS from the kubernetes package, plain objects as dictionaries.

Only the lean parts of that package are used: its generated classes cost more to import than most tasks take.
"""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
import urllib.parse

from ansible.module_utils.basic import env_fallback

try:
    import urllib3
    from kubernetes import config as kubernetes_config
    from kubernetes.client.configuration import Configuration
    from kubernetes.client.rest import RESTClientObject

    KUBERNETES_ERROR = None
except ImportError:
    KUBERNETES_ERROR = traceback.format_exc()

KUBERNETES_REQUIREMENT = "kubernetes >= 28"
GROUP = "wasmbed.io"
VERSION = "v1"
FIELD_MANAGER = "wasmbed-ansible"
APPLY_PATCH = "application/apply-patch+yaml"
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 30.0
PAGE_SIZE = 500
CONNECTIONS = 16
RETRIES = 4

# Pairs with the documentation fragment wasmbed.edge.kube.
KUBE_ARGUMENTS = {
    "kubeconfig": {"type": "path", "fallback": (env_fallback, ["KUBECONFIG"])},
    "context": {"type": "str"},
}


class KubeError(Exception):
    """The API cannot be used; the message says what to do."""


class ApiError(KubeError):
    """The API server refused a request: HTTP status, reason word and message of its Status object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclasses.dataclass(frozen=True)
class Kind:
    """A namespaced kind of our group."""

    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{GROUP}/{VERSION}"

    def path(self, namespace: str | None, name: str = "") -> str:
        """Return the path of a collection or an object; without a namespace, the collection over all of them."""
        parts = ["/apis", GROUP, VERSION]
        if namespace:
            parts += ["namespaces", urllib.parse.quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(urllib.parse.quote(name, safe=""))
        return "/".join(parts)


EDGE_DEVICE = Kind("edgedevices", "EdgeDevice")
WASM_APPLICATION = Kind("wasmapplications", "WasmApplication")


def _status_error(status: int, fallback: str, data: bytes) -> ApiError:
    """Make an ApiError of an answer whose body should be a Status object."""
    try:
        body = json.loads(data)
        return ApiError(status, str(body.get("reason", "")), str(body.get("message") or fallback))
    except (ValueError, AttributeError):
        text = data[:300].decode("utf-8", "replace").strip()
        return ApiError(status, "", text or f"HTTP {status} {fallback}")


class KubeApi:
    """A connection to one API server; usable from several threads."""

    def __init__(self, configuration: Configuration, namespace: str) -> None:
        self._configuration = configuration
        self._pool = RESTClientObject(configuration).pool_manager
        # Every call of this class can be repeated without harm: reads, applies, and deletes of one uid.
        self._retries = urllib3.Retry(
            RETRIES,
            redirect=0,
            allowed_methods=None,
            status_forcelist=(429, 503),
            backoff_factor=0.1,
            raise_on_status=False,
        )
        self.server = configuration.host
        self.namespace = namespace

    @classmethod
    def connect(cls, kubeconfig: str | None, context: str | None) -> KubeApi:
        """Read a kubeconfig (a path, or several as in KUBECONFIG; the default is ~/.kube/config) and its context.

        Raises KubeError naming the file when it cannot be used. Nothing is sent yet.
        """
        shown = kubeconfig or "~/.kube/config"
        for path in (kubeconfig or "").split(os.pathsep):
            if path and not os.path.exists(path):
                raise KubeError(f"kubeconfig {path} is not there; give the option kubeconfig, or set KUBECONFIG")
        configuration = Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS
        try:
            kubernetes_config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
            )
            contexts, current = kubernetes_config.list_kube_config_contexts(config_file=kubeconfig)
        except (kubernetes_config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise KubeError(f"kubeconfig {shown} cannot be used: {error}") from error
        if context:
            current = next(entry for entry in contexts if entry["name"] == context)
        return cls(configuration, current["context"].get("namespace") or "default")

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: dict | None = None,
        content_type: str = "application/json",
    ) -> dict:
        """Send one request, return the object answered; raise ApiError when refused, KubeError without an answer."""
        headers = {"Accept": "application/json", "User-Agent": "wasmbed.edge"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        url = f"{self.server}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            response = self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(TIMEOUT_S),
                retries=self._retries,
                preload_content=False,
            )
            try:
                answer = response.read(MAX_RESPONSE_BYTES + 1)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            raise KubeError(
                f"{self.server} does not answer: {cause}; is the API server up, and its CA right?"
            ) from error
        if len(answer) > MAX_RESPONSE_BYTES:
            response.close()
            raise KubeError(f"{self.server}{path}: the answer is over {MAX_RESPONSE_BYTES} bytes")
        if response.status >= 300:
            raise _status_error(response.status, response.reason or "", answer)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise KubeError(f"{self.server}{path}: the answer is no JSON; is this a Kubernetes API server?") from error

    def get(self, kind: Kind, namespace: str, name: str) -> dict | None:
        """Return one object, or None when it is not there."""
        try:
            return self.call("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                self._check_kind(kind, error)
                return None
            raise

    def list(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> list[dict]:
        """Return all objects that the selectors choose, read in pages. One fresh start when the pages expire."""
        try:
            return self._pages(kind, namespace, labels, fields)
        except ApiError as error:
            if error.status == 410:
                return self._pages(kind, namespace, labels, fields)
            if error.status == 404:
                self._check_kind(kind, error)
            raise

    def apply(self, kind: Kind, body: dict, *, dry_run: bool, force: bool) -> dict:
        """Server-side apply an object with C(metadata.namespace); return it as the server has it then."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        full = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        try:
            return self.call("PATCH", path, query, full, APPLY_PATCH)
        except ApiError as error:
            if error.status == 404:
                self._check_kind(kind, error)
            raise

    def delete(self, kind: Kind, found: dict, *, dry_run: bool) -> None:
        """Delete the very object that was read; none is an error when it is gone already."""
        metadata = found["metadata"]
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": metadata["uid"]}}
        if dry_run:
            # With a body the server ignores the query.
            body["dryRun"] = ["All"]
        try:
            self.call("DELETE", kind.path(metadata["namespace"], metadata["name"]), body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    def _pages(self, kind: Kind, namespace: str | None, labels: str, fields: str) -> list[dict]:
        query = {"limit": str(PAGE_SIZE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        items: list[dict] = []
        while True:
            page = self.call("GET", kind.path(namespace), query)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token

    @staticmethod
    def _check_kind(kind: Kind, error: ApiError) -> None:
        """Raise with a remedy when a 404 means that the server does not know the kind, rather than the object."""
        if error.reason == "NotFound" and f'{kind.plural}.{GROUP} "' in error.message:
            return
        if error.message.startswith("namespaces "):
            return
        raise KubeError(
            f"the API server does not know {kind.plural}.{GROUP}: {error.message}; install the kinds first (role crds)"
        ) from error
