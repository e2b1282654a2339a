"""The control plane as clients, strangers and thieves of its disk meet it."""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from lab_site import check_mode_changes, https_status, wait

if TYPE_CHECKING:
    from pathlib import Path

    from lab_site import Site

UNITS = ("etcd.service", "kube-apiserver.service", "kube-controller-manager.service", "kube-scheduler.service")


@pytest.fixture(scope="module")
def address(site: Site, control_plane: str) -> str:
    return site.variable("ansible_host", control_plane)


@pytest.fixture(scope="module")
def authority(site: Site) -> Path:
    return site.directory / "pki/kubernetes-ca.crt"


def is_ready(site: Site) -> bool:
    return site.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok"


def new_request(folder: Path) -> tuple[Path, Path]:
    """Return a key and a request for a certificate of the administrators' group."""
    key, request = folder / "key", folder / "csr"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-keyout", key, "-out", request, "-subj", "/O=system:masters/CN=intruder"]
    subprocess.run(["openssl", "req", "-new", *curve, *names], check=True, capture_output=True)
    return key, request


def test_certificate_is_for_the_apis_name(site: Site, address: str, authority: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection((address, 6443), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=site.variable("control_plane_dns_names")[0]) as channel,
    ):
        assert channel.version() == "TLSv1.3"


def test_tls_1_2_is_refused(address: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((address, 6443), timeout=10) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection)


@pytest.mark.parametrize("path", ["/api/v1/namespaces", "/api/v1/secrets", "/apis", "/metrics", "/version"])
def test_anonymous_is_refused(address: str, authority: Path, path: str) -> None:
    assert https_status(f"https://{address}:6443{path}", authority) in {401, 403}


def test_a_client_of_another_authority_is_refused(site: Site, address: str, authority: Path, tmp_path: Path) -> None:
    """The site's authority signs devices; none of them may be a user of the API by it."""
    pki = site.directory / "pki"
    key, request = new_request(tmp_path)
    certificate = tmp_path / "crt"
    sign = ["openssl", "x509", "-req", "-in", request, "-out", certificate, "-days", "1", "-set_serial", "1"]
    authorities = ["-CA", pki / "site-ca.crt", "-CAkey", pki / "site-ca.key"]
    subprocess.run([*sign, *authorities], check=True, capture_output=True)
    assert https_status(f"https://{address}:6443/api", authority, pair=(certificate, key)) == 401


def test_etcd_is_not_reached_from_outside(address: str) -> None:
    for port in (2379, 2380):
        with pytest.raises(OSError):  # noqa: PT011 - refused or timed out, both are shut
            socket.create_connection((address, port), timeout=3)


def test_etcd_refuses_a_client_without_certificate(site: Site, control_plane: str) -> None:
    script = (
        "import socket, ssl; context = ssl.create_default_context(cafile='/etc/etcd/pki/ca.crt');"
        " channel = context.wrap_socket(socket.create_connection(('127.0.0.1', 2379)), server_hostname='localhost');"
        " channel.send(b'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'); print(channel.recv(100))"
    )
    result = site.host(control_plane).run(f'python3 -c "{script}"')
    assert result.rc != 0
    assert "CERTIFICATE_REQUIRED" in result.stderr or "certificate required" in result.stderr


def test_secrets_are_encrypted_in_etcds_files(site: Site, control_plane: str) -> None:
    open_text, hidden_text = (f"marker-{secrets.token_hex(16)}" for _ in range(2))
    site.kubectl("create", "configmap", "at-rest", f"--from-literal=text={open_text}")
    site.kubectl("create", "secret", "generic", "at-rest", f"--from-literal=text={hidden_text}")
    try:

        def found(text: str) -> bool:
            return bool(site.host(control_plane).run(f"grep -rl {text} /var/lib/etcd").stdout)

        # What is not a Secret is found, so the search would have found a Secret too.
        wait("the ConfigMap is in etcd's files", lambda: found(open_text))
        assert not found(hidden_text)
        assert site.get("secret", "at-rest")["data"]["text"]
    finally:
        site.kubectl("delete", "configmap/at-rest", "secret/at-rest")


def test_writes_are_in_the_audit_log_and_no_secrets_text_is(site: Site, control_plane: str) -> None:
    text = f"marker-{secrets.token_hex(16)}"
    name = f"audited-{secrets.token_hex(4)}"
    site.kubectl("create", "secret", "generic", name, f"--from-literal=text={text}")
    site.kubectl("delete", "secret", name)
    log = "/var/log/kubernetes/audit.log"
    wait("the write is in the audit log", lambda: site.host(control_plane).run(f"grep -c {name} {log}").rc == 0)
    assert site.host(control_plane).run(f"grep {text} {log}").rc == 1


@pytest.mark.parametrize("unit", UNITS)
def test_unit_runs_again_after_a_kill(site: Site, control_plane: str, unit: str) -> None:
    site.kill(control_plane, unit)
    wait("the API is ready", lambda: is_ready(site))


def test_what_was_written_survives_a_kill_of_etcd(site: Site, control_plane: str) -> None:
    site.kubectl("create", "configmap", "survivor", "--from-literal=text=here")
    try:
        site.kill(control_plane, "etcd.service")
        wait("the API is ready", lambda: is_ready(site))
        assert site.get("configmap", "survivor")["data"] == {"text": "here"}
    finally:
        site.kubectl("delete", "configmap", "survivor")


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_shut_off(site: Site, control_plane: str, unit: str) -> None:
    assert site.exposure(control_plane, unit) <= 2.0
    process = site.process(control_plane, unit)
    assert int(process["CapBnd"], 16) == 0
    assert process["Uid"].split()[0] != "0"
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")


def test_keys_are_read_by_their_unit_alone(site: Site, control_plane: str) -> None:
    command = "find -L /etc/kubernetes /etc/etcd -name '*.key' -perm /0077 -o -name 'encryption.yaml' -perm /0077"
    assert site.run(control_plane, command) == ""
    assert (site.directory / "admin.kubeconfig").stat().st_mode & 0o777 == 0o600
    assert set(site.modes(control_plane, "/var/lib/etcd").values()) == {"700 etcd:etcd"}


def test_a_request_for_the_administrators_group_is_refused(site: Site, tmp_path: Path) -> None:
    _key, request = new_request(tmp_path)
    encoded = subprocess.run(["base64", "-w0", request], capture_output=True, text=True, check=True).stdout
    manifest = (
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: intruder}\n"
        f"spec: {{request: {encoded}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
    )
    result = site.kubectl("apply", "-f", "-", stdin=manifest, check=False)
    assert result.returncode != 0
    assert "system:masters" in result.stderr


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("control_plane") == {}
