# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Signing requests through certificates.k8s.io/v1, with the standard library alone: hosts need no further package."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import time
import urllib.parse

from ansible_collections.wasmbed.edge.plugins.module_utils.certificates import CertificateError

MAX_RESPONSE_BYTES = 1024 * 1024
TIMEOUT_S = 15.0
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Api:
    """A small client made of a parsed kubeconfig whose credentials are in the file itself."""

    def __init__(self, kubeconfig: dict, folder: str) -> None:
        """Read the current context; C(folder) takes the client's pair for as long as it is loaded."""
        try:
            context = next(c["context"] for c in kubeconfig["contexts"] if c["name"] == kubeconfig["current-context"])
            cluster = next(c["cluster"] for c in kubeconfig["clusters"] if c["name"] == context["cluster"])
            user = next(u["user"] for u in kubeconfig["users"] if u["name"] == context["user"])
            address = urllib.parse.urlsplit(cluster["server"])
            authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise CertificateError(f"kubeconfig: {error!r}; give one with its certificates inside") from error
        if address.scheme != "https" or not address.hostname:
            raise CertificateError(f"kubeconfig: server {cluster['server']!r} is no https address; mend the kubeconfig")
        self.address = f"{address.hostname}:{address.port or 443}"
        self.context = ssl.create_default_context(cadata=authority)
        self.headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if "token" in user:
            self.headers["Authorization"] = f"Bearer {user['token']}"
        if "client-certificate-data" in user:
            paths = [os.path.join(folder, name) for name in ("client.crt", "client.key")]
            try:
                for path, field in zip(paths, ("client-certificate-data", "client-key-data"), strict=True):
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                        stream.write(base64.b64decode(user[field]))
                self.context.load_cert_chain(*paths)
            finally:
                for path in paths:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        """Send one request; return the answer, or raise CertificateError with the server's own message."""
        connection = http.client.HTTPSConnection(self.address, context=self.context, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self.headers)
            response = connection.getresponse()
            data = response.read(MAX_RESPONSE_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise CertificateError(f"{self.address}: {error}; is the API server up and reachable from here?") from error
        finally:
            connection.close()
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise CertificateError(f"{self.address}: {method} {path}: no JSON (HTTP {response.status})") from error
        if response.status >= 300:
            raise CertificateError(f"{self.address}: {method} {path}: {answer.get('message', response.reason)}")
        return answer


def new_object(name: str, request_pem: bytes, signer: str, usages: tuple, days: float) -> dict:
    """Return a CertificateSigningRequest object."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": f"{name}-"},
        "spec": {
            "request": base64.b64encode(request_pem).decode("ascii"),
            "signerName": signer,
            "expirationSeconds": max(600, int(days * 86400)),
            "usages": ["digital signature", *(f"{usage} auth" for usage in usages)],
        },
    }


def obtain(api: Api, approver: Api | None, body: dict, timeout_s: float) -> bytes:
    """Create the request, approve it when an approver is given, wait for the certificate, delete the request."""
    created = api.call("POST", PATH, body)
    path = f"{PATH}/{created['metadata']['name']}"
    try:
        if approver is not None:
            approval = dict(created)
            approval["status"] = {
                "conditions": [
                    {
                        "type": "Approved",
                        "status": "True",
                        "reason": "WasmbedEnrolment",
                        "message": "approved by the credentials given to wasmbed.edge.certificate",
                    }
                ]
            }
            approver.call("PUT", f"{path}/approval", approval)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = api.call("GET", path).get("status", {})
            for condition in status.get("conditions", []):
                if condition["type"] in ("Denied", "Failed"):
                    raise CertificateError(
                        f"request {created['metadata']['name']} was {condition['type'].lower()}: "
                        f"{condition.get('reason', '')}: {condition.get('message', '')}"
                    )
            if status.get("certificate"):
                return base64.b64decode(status["certificate"])
            time.sleep(0.1)
        hint = "approve it, or give approver_kubeconfig" if approver is None else "does the controller-manager run?"
        raise CertificateError(
            f"request {created['metadata']['name']} has no certificate after {timeout_s:.0f} s; {hint}"
        )
    finally:
        with contextlib.suppress(CertificateError):
            (approver or api).call("DELETE", path)
