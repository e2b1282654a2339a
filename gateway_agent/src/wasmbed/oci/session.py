"""The HTTP session of a pull: oras' authentication on a `requests` session that is bounded in time and bytes."""

import time
from collections.abc import Iterator
from typing import Any

import oras.auth  # type: ignore[import-untyped]
import requests

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


class BoundedSession(requests.Session):
    """Every request has time-outs, streams its body, stays on https (unless `plain`) and obeys one deadline.

    The process' environment (proxies, netrc, CA bundles) has no part in it: the configuration says all.
    """

    def __init__(self, verify: bool | str, *, plain: bool, timeout_s: float) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 4
        self.verify = verify
        # The digests are of the bytes as they are stored.
        self.headers["Accept-Encoding"] = "identity"
        self._plain = plain
        self._deadline = time.monotonic() + timeout_s

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As the base; it is called for every redirect and for token requests too."""
        if not self._plain and not (request.url or "").startswith("https://"):
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

    def __init__(self, session: BoundedSession, credentials: tuple[str, str] | None, *, plain: bool) -> None:
        self.session = session
        self.scheme = "http" if plain else "https"
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
