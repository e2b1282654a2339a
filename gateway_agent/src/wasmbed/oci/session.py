"""The HTTP session of a pull: oras' authentication on a `requests` session that is bounded in time and bytes."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import oras.auth  # type: ignore[import-untyped]
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 256 * 1024
_CHUNK_BYTES = 64 * 1024


class InsecureError(requests.RequestException):
    """A redirect or token realm leads to plain http where https is required."""


class TooLargeError(requests.RequestException):
    """An answer has more bytes than it may."""


class DeadlineError(requests.RequestException):
    """The whole exchange takes longer than it may."""


class _Adapter(HTTPAdapter):
    """Tells of every connection that is made."""

    def __init__(self, connected: Callable[[socket.socket], None]) -> None:
        self._connected = connected
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        connected = self._connected

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                connected(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                connected(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


class BoundedSession(requests.Session):
    """Every request has time-outs, streams its body, stays on https (unless `plain`) and obeys one deadline.

    A time-out is one of each read of the socket, and a peer that sends a byte now and then keeps the reads of a header
    or of a chunk going for days. So whoever waits for the session calls `abort` when it is enough, which ends them.

    The process' environment (proxies, netrc, CA bundles) has no part in it: the configuration says all.
    """

    def __init__(self, verify: bool | str, *, plain: bool, timeout_s: float) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 4
        self.verify = verify
        # The digests are of the bytes as they are stored.
        self.headers["Accept-Encoding"] = "identity"
        self.plain = plain
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._connected))

    def abort(self) -> None:
        """End whatever the session is doing in another thread, soon and by an exception, and all it might do later."""
        with self._lock:
            self._deadline = 0.0
            for channel in self._sockets:
                with contextlib.suppress(OSError):
                    channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As the base."""
        super().close()
        with self._lock:
            for channel in self._sockets:
                channel.close()
            self._sockets.clear()

    def _connected(self, channel: socket.socket) -> None:
        with self._lock:
            self._left_s()
            # A descriptor of its own: that of the connection may be closed, and its number used anew, at any time.
            self._sockets.append(socket.socket(fileno=os.dup(channel.fileno())))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As the base; it is called for every redirect and for token requests too."""
        if not self.plain and not (request.url or "").startswith("https://"):
            raise InsecureError("the registry leads to plain http", request=request)
        left_s = self._left_s()
        wants_stream = kwargs.get("stream", False)
        kwargs.update(
            stream=True,
            verify=self.verify,
            timeout=(min(CONNECT_TIMEOUT_S, left_s), min(READ_TIMEOUT_S, left_s)),
        )
        response = super().send(request, **kwargs)
        if not wants_stream:
            self._read_bounded(response)
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """As the base, which reads the body of a redirect whole."""
        target = super().get_redirect_target(resp)
        if target is not None:
            self._read_bounded(resp)
        return target

    def _read_bounded(self, response: requests.Response) -> None:
        if response._content is False:
            response._content = b"".join(self.chunks(response, MAX_ANSWER_BYTES))

    def chunks(self, response: requests.Response, limit_bytes: int) -> Iterator[bytes]:
        """The body, cut off with TooLargeError after `limit_bytes` (whatever Content-Length says)."""
        total = 0
        for chunk in response.iter_content(_CHUNK_BYTES):
            total += len(chunk)
            if total > limit_bytes:
                response.close()
                raise TooLargeError(f"more than {limit_bytes} bytes")
            self._left_s()
            yield chunk

    def _left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlineError("out of time")
        return left_s


class Client:
    """GETs of one registry, authenticated by oras' back ends.

    oras' own client is not used for the GET: `do_request` retries for minutes inside the thread, and `get_manifest` and
    `pull` read bodies of any length, check no digest and read the docker configuration of the user with its helpers.
    """

    def __init__(self, session: BoundedSession, credentials: tuple[str, str] | None) -> None:
        self.session = session
        self.scheme = "http" if session.plain else "https"
        self._credentials = credentials
        self._authorization: dict[str, str] = {}

    def get(self, url: str, accept: str) -> requests.Response:
        """GET `url`, answering one challenge (Basic, or Bearer with a token); the body is not read yet."""
        headers = {"Accept": accept, **self._authorization}
        response = self.session.get(url, headers=headers, stream=True)
        if response.status_code != 401:
            return response
        challenge = response.headers.get("Www-Authenticate", "")
        backend = "basic" if challenge.lower().startswith("basic") else "token"
        if not challenge or (backend == "basic" and self._credentials is None):
            return response
        response.close()
        auth = oras.auth.get_auth_backend(backend, self.session, self.scheme == "http", tls_verify=self.session.verify)
        if self._credentials is not None:
            auth.set_basic_auth(*self._credentials)
        answered, changed = auth.authenticate_request(response, {})
        if not changed:
            return response
        self._authorization = {"Authorization": answered["Authorization"]}
        return self.session.get(url, headers={"Accept": accept, **self._authorization}, stream=True)
