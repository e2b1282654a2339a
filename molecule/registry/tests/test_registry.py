"""The registry as operators, gateways and strangers meet it."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from lab_site import check_mode_changes, https_status, wait

if TYPE_CHECKING:
    from pathlib import Path

    from lab_site import Site

UNIT = "docker-registry.service"


@pytest.fixture(scope="module")
def name(site: Site) -> str:
    return site.variable("registry_host", default="registry.wasmbed.local:5000")


@pytest.fixture(scope="module")
def address(site: Site, registry_host: str, name: str) -> tuple[str, int]:
    return site.variable("ansible_host", registry_host), int(name.split(":")[1])


@pytest.fixture(scope="module")
def url(address: tuple[str, int]) -> str:
    return "https://{}:{}/v2/".format(*address)


@pytest.fixture(scope="module")
def authority(site: Site) -> Path:
    return site.directory / "pki/site-ca.crt"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def password(site: Site, user: str) -> str:
    return (site.directory / "secrets" / f"registry-{user}").read_text().strip()


def test_certificate_is_for_the_registrys_name(address: tuple[str, int], name: str, authority: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection(address, timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=name.partition(":")[0]) as channel,
    ):
        assert channel.version() in {"TLSv1.2", "TLSv1.3"}
        end = ssl.cert_time_to_seconds(channel.getpeercert()["notAfter"])
        assert end - time.time() > 30 * 86400


def test_tls_before_1_2_is_refused(address: tuple[str, int]) -> None:
    result = subprocess.run(
        ["openssl", "s_client", "-connect", "{}:{}".format(*address), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert result.returncode != 0
    assert "protocol version" in result.stderr


def test_another_authority_does_not_stand_for_the_registry(site: Site, url: str) -> None:
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        https_status(url, site.directory / "pki/kubernetes-ca.crt")


@pytest.mark.parametrize("user", ["push", "pull"])
def test_users_are_let_in(site: Site, url: str, authority: Path, user: str) -> None:
    assert https_status(url, authority, headers=basic(user, password(site, user))) == 200


@pytest.mark.parametrize("user", ["push", "pull", "root"])
def test_a_wrong_password_is_refused(url: str, authority: Path, user: str) -> None:
    assert https_status(url, authority, headers=basic(user, "x" * 32)) == 401


def test_nobody_reads_anonymously(url: str, authority: Path) -> None:
    assert https_status(url + "_catalog", authority) == 401


def test_plain_http_gets_no_answer_of_the_registry(address: tuple[str, int]) -> None:
    with pytest.raises(OSError, match="400"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            "http://{}:{}/v2/".format(*address), timeout=10
        )


def test_an_upload_is_told_a_place_the_client_can_reach(site: Site, url: str, authority: Path) -> None:
    """A Location with the registry's own name sent operators that reach it by address to a name they cannot resolve."""
    request = urllib.request.Request(
        url + "probe/blobs/uploads/", method="POST", headers=basic("push", password(site, "push"))
    )
    context = ssl.create_default_context(cafile=str(authority))
    with urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    ).open(request, timeout=10) as answer:
        assert answer.status == 202
        assert answer.headers["Location"].startswith("/v2/probe/")


def test_passwords_are_hashed_by_bcrypt_and_read_by_the_unit_alone(site: Site, registry_host: str) -> None:
    lines = site.run(registry_host, "cat /etc/wasmbed/registry.htpasswd").split()
    assert [line.split(":")[0] for line in lines] == ["pull", "push"]
    assert all(line.split(":")[1].startswith("$2b$") for line in lines)
    modes = site.modes(registry_host, "/etc/wasmbed/registry.htpasswd /etc/wasmbed/pki/registry.key")
    assert set(modes.values()) == {"600 root:root"}
    assert {path.stat().st_mode & 0o777 for path in (site.directory / "secrets").iterdir()} == {0o600}


def test_an_artifact_survives_a_kill(site: Site, registry_host: str, url: str, authority: Path) -> None:
    storage = site.modes(registry_host, "/var/lib/docker-registry")
    assert storage == {"/var/lib/docker-registry": "750 docker-registry:docker-registry"}
    site.kill(registry_host, UNIT)
    headers = basic("pull", password(site, "pull"))

    def answers() -> bool:
        try:
            return https_status(url, authority, headers=headers) == 200
        except OSError:
            return False

    wait("the registry answers", answers)


def test_unit_is_shut_off(site: Site, registry_host: str) -> None:
    assert site.exposure(registry_host, UNIT) <= 2.0
    process = site.process(registry_host, UNIT)
    assert int(process["CapBnd"], 16) == 0
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("registry") == {}
