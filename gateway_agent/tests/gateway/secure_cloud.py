"""A cloud for tests: a real HTTPS server with mutual TLS that takes sealed messages as docs/security.md says."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make_pki(folder: Path) -> None:
    """ca.crt, and server and client with .crt and .key."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: Any, issuer: Any, issuer_key: Any, *, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(issuer_key, hashes.SHA256())
        )

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = certificate("cloud CA", ca_key, None, ca_key, ca=True)
    (folder / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        found = certificate(name, key, ca, ca_key, ca=False)
        (folder / f"{name}.crt").write_bytes(found.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@dataclass
class Cloud:
    """What the server got and has to give; `answer` takes the place of its own answers when it is set."""

    folder: Path
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    peers: list[str] = field(default_factory=list)
    received: dict[str, str] = field(default_factory=dict)
    down: dict[str, dict[str, str]] = field(default_factory=dict)
    refuse: Callable[[dict[str, Any]], str] = lambda _: ""
    answer: Callable[[BaseHTTPRequestHandler, dict[str, Any]], bool] | None = None
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cloud.requests.append(body)
                certificate = self.connection.getpeercert()  # type: ignore[attr-defined]
                cloud.peers.append(str(certificate["subject"][0][0][1]))
                if cloud.answer is not None and cloud.answer(self, body):
                    return
                cloud.reply(self, cloud.take(body))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        context.load_verify_locations(self.folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> Any:
                connection, address = self.socket.accept()
                connection.settimeout(10)
                return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        accepted, refused = [], []
        for row in body["messages"]:
            reason = self.refuse(row)
            if reason:
                refused.append({"id": row["id"], "reason": reason})
            else:
                self.messages[row["id"]] = row
                accepted.append(row["id"])
        for row in body["received"]:
            self.received[row["id"]] = row["status"]
            self.down.pop(row["id"], None)
        messages = [{"id": number, **row} for number, row in self.down.items()]
        return {"accepted": accepted, "refused": refused, "messages": messages}

    def send_down(self, number: str, application: str, device: str, envelope: bytes) -> None:
        self.down[number] = {
            "application": application,
            "device": device,
            "envelope": base64.b64encode(envelope).decode(),
        }

    @staticmethod
    def reply(handler: BaseHTTPRequestHandler, answer: object, status: int = 200) -> None:
        data = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
