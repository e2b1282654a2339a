"""Errors of the Kubernetes API."""

from __future__ import annotations

import json
from collections.abc import Mapping


class ApiError(Exception):
    """The API refused a request, or could not be asked (status 0: :class:`ApiUnreachableError`)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason}, HTTP {status})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def gone(self) -> bool:
        """Whether a resource version or a continue token is too old (HTTP 410), so that a list must begin anew."""
        return self.status == 410 or self.reason in {"Gone", "Expired"}

    @classmethod
    def from_body(cls, status: int, http_reason: str, body: bytes) -> ApiError:
        """An error of a response's body: a ``metav1.Status``, or whatever a proxy in front of the API says."""
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        if isinstance(parsed, Mapping) and parsed.get("kind") == "Status":
            return cls.from_status(parsed, status)
        text = body[:200].decode("utf-8", "replace").strip()
        return cls(status, http_reason or "Unknown", text or "the API server gave no reason")

    @classmethod
    def from_status(cls, status: Mapping[str, object], code: int = 0) -> ApiError:
        """An error of a ``metav1.Status`` object."""
        number = status.get("code")
        return cls(
            number if isinstance(number, int) else code or 500,
            str(status.get("reason") or "Unknown"),
            str(status.get("message") or "the API server gave no reason"),
        )


class ApiUnreachableError(ApiError):
    """No answer: refused, reset, TLS failure or timeout. Whether the request had an effect is unknown."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)
