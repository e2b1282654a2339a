"""TLS 1.3 (RFC 8446) with certificates on both sides, and who a certificate says a device is."""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

HANDSHAKE_S: Final = 10.0
# The common name of a device's certificate: this, then namespace/name (at most 64 characters in all, RFC 5280 A.1).
NAME_PREFIX: Final = "wasmbed:device:"
MAX_NAME: Final = 64 - len(NAME_PREFIX)
_NAME = re.compile(r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/([a-z0-9](?:[-a-z0-9.]{0,61}[a-z0-9])?)", re.ASCII)
# Words of OpenSSL's alerts and errors, and what they mean for whoever has to mend it.
_WORDS: Final = (
    ("unknown ca", "the other side does not know the authority that signed our certificate; have it signed anew"),
    ("certificate expired", "our certificate has ended, or the other side's clock is wrong; renew it"),
    ("bad certificate", "the other side refuses our certificate; have it signed anew"),
    ("unsupported certificate", "the other side refuses our certificate: it is not for this use"),
    ("certificate required", "the other side wants a certificate"),
    ("protocol version", "the two sides have no version of TLS in common; both must speak TLS 1.3"),
    ("unsupported protocol", "the two sides have no version of TLS in common; both must speak TLS 1.3"),
    ("no protocols available", "the two sides have no version of TLS in common; both must speak TLS 1.3"),
    ("wrong version number", "the other side does not speak TLS on this port"),
    ("peer did not return a certificate", "the other side sent no certificate"),
)


class IdentityError(Exception):
    """A certificate or a configured name that is none of a device; the message says what is wrong with it."""


class TlsFilesError(Exception):
    """Certificate, key or authority cannot be used; the message names the file and the cause."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: our certificate and key, and the authority that signs the other side."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Identity:
    """A device as its certificate names it; public_key is its raw Ed25519 key (RFC 8032) in base64."""

    namespace: str
    name: str
    public_key: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def split_name(text: str) -> tuple[str, str]:
    """Namespace and name of `namespace/name`; raises IdentityError."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise IdentityError(f"{text[:80]!r} is not namespace/name of an EdgeDevice")
    return match[1], match[2]


def identity_of(certificate_der: bytes) -> Identity:
    """Who the certificate is of; raises IdentityError. That it is valid was checked in the handshake."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = certificate.public_key()
    except Exception as error:  # whatever a hostile certificate makes the parser say
        raise IdentityError(f"the certificate cannot be read: {error}") from error
    if len(names) != 1 or not isinstance(names[0].value, str) or not names[0].value.startswith(NAME_PREFIX):
        raise IdentityError(f"the certificate's common name is not {NAME_PREFIX}<namespace>/<name>")
    namespace, name = split_name(names[0].value.removeprefix(NAME_PREFIX))
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise IdentityError("the certificate's key is not an Ed25519 key")
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Identity(namespace, name, base64.b64encode(raw).decode())


@dataclass(frozen=True)
class Role:
    """One side of a connection; a client checks that the server's certificate is for hostname."""

    context: ssl.SSLContext
    hostname: str = ""

    @property
    def server(self) -> bool:
        """Whether this is the side that was connected to."""
        return not self.hostname


def server_role(files: TlsFiles) -> Role:
    """For a gateway: TLS 1.3 alone, a certificate of its authority is required. Raises TlsFilesError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, files)
    context.verify_mode = ssl.CERT_REQUIRED
    # A session resumed by a ticket would show a certificate that was checked earlier.
    context.num_tickets = 0
    return Role(context)


def client_role(files: TlsFiles, hostname: str) -> Role:
    """For a device: TLS 1.3 alone, the gateway's name is checked. Raises TlsFilesError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, files)
    return Role(context, hostname)


def _prepare(context: ssl.SSLContext, files: TlsFiles) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:
        raise TlsFilesError(f"{files.certificate} with {files.key}: {_cause(error)}") from error
    try:
        context.load_verify_locations(files.authority)
    except (OSError, ValueError) as error:
        raise TlsFilesError(f"{files.authority}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not usable: {error.reason or error}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def explain(error: BaseException) -> str:
    """A failure of a connection in words that say what to do; its own text where none is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other side's certificate is not valid here: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        text = str(error).lower().replace("_", " ")
        return next((meaning for word, meaning in _WORDS if word in text), f"TLS failed: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
