# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Keys, requests and certificates (RFC 5280), and the pair of files they are kept in."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import grp
import ipaddress
import os
import pwd
import shutil
import tempfile
import traceback

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    CRYPTOGRAPHY_ERROR = None
except ImportError:
    CRYPTOGRAPHY_ERROR = traceback.format_exc()

MAX_FILE_BYTES = 256 * 1024
BACKDATE = datetime.timedelta(minutes=5)


class CertificateError(Exception):
    """A certificate cannot be made or read; the message names the object, the cause and the remedy."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a certificate shall say. C(usages): C(server) and/or C(client)."""

    common_name: str
    organizations: tuple = ()
    dns_names: tuple = ()
    ip_addresses: tuple = ()
    usages: tuple = ("server",)

    def describe(self) -> dict:
        """Return the profile as a dictionary for diffs."""
        return {
            "subject": ",".join([f"CN={self.common_name}", *(f"O={name}" for name in self.organizations)]),
            "dns_names": sorted(self.dns_names),
            "ip_addresses": sorted(self.ip_addresses),
            "usages": sorted(self.usages),
        }


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _aware(certificate, name: str) -> datetime.datetime:
    """Return a validity bound with its zone; cryptography before 42 has only the naive one."""
    value = getattr(certificate, f"{name}_utc", None)
    return value if value is not None else getattr(certificate, name).replace(tzinfo=datetime.UTC)


def not_after(certificate) -> datetime.datetime:
    return _aware(certificate, "not_valid_after")


def not_before(certificate) -> datetime.datetime:
    return _aware(certificate, "not_valid_before")


def new_key(kind: str):
    """Return a new private key of kind C(ecdsa-p256), C(ed25519) or C(rsa-3072)."""
    if kind == "ecdsa-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def key_kind(key) -> str:
    """Return the kind of a private key, or its class when it is none of ours."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "ecdsa-p256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size == 3072:
        return "rsa-3072"
    return type(key).__name__


def key_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_bytes(public_key) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def raw_ed25519(public_key) -> str:
    """Return a raw Ed25519 public key (RFC 8032) in base64, or an empty text for a key of another kind."""
    if not isinstance(public_key, ed25519.Ed25519PublicKey):
        return ""
    raw = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def _digest(key):
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _extensions(profile: Profile) -> list:
    names = [x509.DNSName(name) for name in profile.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in profile.ip_addresses]
    oids = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    extensions = [
        (usage, True),
        (x509.ExtendedKeyUsage([oids[name] for name in profile.usages]), False),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    return extensions


def _subject(profile: Profile):
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in profile.organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, profile.common_name)])


def new_request(profile: Profile, key) -> bytes:
    """Return a PKCS #10 request (RFC 2986) in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(profile))
    for extension, critical in _extensions(profile):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, _digest(key)).public_bytes(serialization.Encoding.PEM)


def sign(profile: Profile, public_key, ca_pem: bytes, ca_key_pem: bytes, days: float) -> bytes:
    """Return a certificate in PEM that the authority signs; it never outlives the authority."""
    try:
        authority = x509.load_pem_x509_certificate(ca_pem)
        authority_key = serialization.load_pem_private_key(ca_key_pem, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"ownca: the authority's certificate or key is unreadable: {error}") from error
    if public_bytes(authority_key.public_key()) != public_bytes(authority.public_key()):
        raise CertificateError("ownca: key and certificate of the authority do not belong together; give a pair")
    now = utc_now()
    end = min(now + datetime.timedelta(days=days), not_after(authority))
    if end <= now:
        raise CertificateError(
            f"ownca: the authority ended at {not_after(authority):%Y-%m-%d}; renew it first (role pki)"
        )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(profile))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    for extension, critical in _extensions(profile):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(authority_key, _digest(authority_key))
    return certificate.public_bytes(serialization.Encoding.PEM)


def signed_by(certificate, authority) -> bool:
    """Tell whether the authority's key made the certificate's signature."""
    key = authority.public_key()
    data, signature = certificate.tbs_certificate_bytes, certificate.signature
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), certificate.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(certificate.signature_hash_algorithm))
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def describe(certificate) -> dict:
    """Return subject, names and usages of a certificate in the form of Profile.describe."""
    subject = certificate.subject
    values = {
        oid: [a.value for a in subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    }
    dns, addresses, usages = [], [], []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    with contextlib.suppress(x509.ExtensionNotFound):
        oids = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        usages = [oids.get(oid, oid.dotted_string) for oid in usage]
    common = ",".join(f"CN={value}" for value in values[NameOID.COMMON_NAME])
    return {
        "subject": ",".join([common, *(f"O={value}" for value in values[NameOID.ORGANIZATION_NAME])]),
        "dns_names": sorted(dns),
        "ip_addresses": sorted(addresses),
        "usages": sorted(usages),
    }


@dataclasses.dataclass(frozen=True)
class Pair:
    """A key and its certificate chain as read from disk; either may be None when absent or unreadable."""

    key: object
    certificate: object

    def reasons_to_renew(
        self, profile: Profile, kind: str, ca_pem: bytes | None, renew_before: datetime.timedelta
    ) -> list:
        """Return why the pair must be made anew, as sentences; an empty list means that it stays."""
        if self.key is None or self.certificate is None:
            return ["there is no readable pair"]
        reasons = []
        if key_kind(self.key) != kind:
            reasons.append(f"the key is {key_kind(self.key)}, wanted {kind}")
        if public_bytes(self.key.public_key()) != public_bytes(self.certificate.public_key()):
            reasons.append("key and certificate do not belong together")
        wanted, found = profile.describe(), describe(self.certificate)
        reasons += [f"{name} is {found[name]}, wanted {wanted[name]}" for name in wanted if wanted[name] != found[name]]
        if utc_now() + renew_before >= not_after(self.certificate):
            reasons.append(f"it ends at {not_after(self.certificate):%Y-%m-%dT%H:%M:%SZ}, within the renewal window")
        if ca_pem is not None and not signed_by(self.certificate, x509.load_pem_x509_certificate(ca_pem)):
            reasons.append("it was signed by another authority")
        return reasons


def _read(path: str) -> bytes | None:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as stream:
        return stream.read(MAX_FILE_BYTES)
    return None


def load_pair(key_path: str, certificate_path: str) -> Pair:
    """Read a pair; what is missing or unreadable is None."""
    key_data, certificate_data = _read(key_path), _read(certificate_path)
    key = certificate = None
    with contextlib.suppress(ValueError, TypeError):
        key = serialization.load_pem_private_key(key_data, None) if key_data else None
    with contextlib.suppress(ValueError):
        certificate = x509.load_pem_x509_certificate(certificate_data) if certificate_data else None
    return Pair(key, certificate)


def owner_ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Return uid and gid, -1 for what is left alone."""
    try:
        uid = pwd.getpwnam(owner).pw_uid if owner else -1
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError as error:
        raise CertificateError(f"{error.args[0]}; create the user and group before the certificate") from error
    return uid, gid


def wrong_attributes(path: str, mode: int, ids: tuple[int, int]) -> bool:
    """Tell whether mode or owner of an existing file differ from what is wanted."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    uid, gid = ids
    return (status.st_mode & 0o7777) != mode or (uid not in (-1, status.st_uid)) or (gid not in (-1, status.st_gid))


def set_attributes(path: str, mode: int, ids: tuple[int, int]) -> None:
    os.chown(path, *ids)
    os.chmod(path, mode)


def _write_new(path: str, data: bytes, mode: int, ids: tuple[int, int]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchown(stream.fileno(), *ids)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def _link(target: str, path: str) -> None:
    """Make a symbolic link in one step, whatever was at its path."""
    if os.path.islink(path) and os.readlink(path) == target:
        return
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, path)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_pair(
    key_path: str, certificate_path: str, key_data: bytes, chain: bytes, modes: tuple[int, int], ids: tuple[int, int]
) -> None:
    """Put a new pair in place; a kill at any moment leaves the old pair or the new one, never a mixture.

    The two paths are links through C(.<name>.pair) into a folder that holds one whole pair; renaming that one link
    swaps both files. modes are those of key and certificate, ids uid and gid.
    """
    folder, name = os.path.split(os.path.abspath(certificate_path))
    if os.path.dirname(os.path.abspath(key_path)) != folder:
        raise CertificateError(f"{key_path} and {certificate_path} must be in one folder, to be swapped in one step")
    current = os.path.join(folder, f".{name}.pair")
    pair = tempfile.mkdtemp(prefix=f".{name}.pair.", dir=folder)
    _write_new(os.path.join(pair, os.path.basename(key_path)), key_data, modes[0], ids)
    _write_new(os.path.join(pair, name), chain, modes[1], ids)
    os.chown(pair, *ids)
    readable = modes[0] | modes[1]
    os.chmod(pair, 0o700 | (0o050 if readable & 0o040 else 0) | (0o005 if readable & 0o004 else 0))
    _sync(pair)
    _link(os.path.basename(pair), current)
    _link(os.path.join(f".{name}.pair", os.path.basename(key_path)), key_path)
    _link(os.path.join(f".{name}.pair", name), certificate_path)
    _sync(folder)
    keep = os.path.basename(pair)
    for entry in os.listdir(folder):
        if entry.startswith(f".{name}.pair.") and entry != keep:
            shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)
