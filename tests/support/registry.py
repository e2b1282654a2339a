"""Session fixture `registry`: Debian's docker-registry out of the bundle, with TLS and credentials, on loopback."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest
import yaml

from tests.support.pki import Authority
from tests.support.processes import Service, bundle_file, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Registry:
    """Where the registry is (host:port) and what is needed to use it."""

    address: str
    ca_file: Path
    credentials_file: Path
    username: str
    password: str


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def running_registry() -> Iterator[Registry]:
    """A real registry, with credentials made for it."""
    package = bundle_file("debs/docker-registry_*.deb")
    folder = Path(tempfile.mkdtemp(prefix="wasmbed-registry-"))
    service: Service | None = None
    try:
        subprocess.run(["dpkg-deb", "-x", package, folder / "package"], check=True, timeout=60)
        (port,) = free_ports(1)
        authority = Authority(folder, "registry-ca")
        certificate, key = authority.issue("registry", "registry")
        address, username, password = f"127.0.0.1:{port}", "tester", secrets.token_urlsafe(16)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{username}:{hashed}\n")
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        credentials = folder / "credentials.json"
        credentials.touch(mode=0o600)
        credentials.write_text(json.dumps({"auths": {address: {"auth": token}}}))
        configuration = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
            "auth": {"htpasswd": {"realm": "wasmbed", "path": str(folder / "htpasswd")}},
            "http": {
                "addr": address,
                "secret": secrets.token_hex(16),
                "tls": {"certificate": str(certificate), "key": str(key)},
            },
        }
        (folder / "config.yml").write_text(yaml.safe_dump(configuration))
        program = folder / "package/usr/bin/docker-registry"
        service = Service("docker-registry", [str(program), "serve", str(folder / "config.yml")], folder / "log")
        service.wait_ready(lambda: _listens(port))
        yield Registry(address, authority.ca_file, credentials, username, password)
    finally:
        if service is not None:
            service.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A real registry for all tests of this process."""
    with running_registry() as running:
        yield running
