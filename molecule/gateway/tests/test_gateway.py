"""A gateway: its state in the cluster, what its credential opens, and how its two units are shut off."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab_site import check_mode_changes, playbook, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab_site import Site

AGENT, RUNTIME = "wasmbed-agent.service", "wasmbed-runtime.service"
OTHER = "molecule-other"
CALL = """
import json, ssl, sys, urllib.error, urllib.request
method, url, body = sys.argv[1:]
context = ssl.create_default_context(cadata=open("/dev/stdin").read())
context.load_cert_chain("/etc/wasmbed/pki/agent.crt", "/etc/wasmbed/pki/agent.key")
headers = {"Content-Type": "application/merge-patch+json"}
request = urllib.request.Request(url, data=body.encode() or None, method=method, headers=headers)
try:
    print(urllib.request.urlopen(request, context=context, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def other(site: Site) -> Iterator[str]:
    """Another gateway with a namespace and a Placement of its own."""
    manifest = f"""
apiVersion: wasmbed.io/v1
kind: Gateway
metadata: {{name: {OTHER}}}
spec: {{endpoint: "other.wasmbed.local:8080"}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: wasmbed-gw-{OTHER}}}
"""
    site.kubectl("apply", "-f", "-", stdin=manifest)
    yield OTHER
    site.kubectl("delete", f"gateway/{OTHER}", f"namespace/wasmbed-gw-{OTHER}", "--wait=false")


def call(site: Site, gateway: str, method: str, path: str, body: str = "") -> int:
    """Ask the API with the gateway's own credential, on its host; return the HTTP status."""
    endpoint = site.variable("control_plane_endpoint", gateway)
    authority = (site.directory / "pki/kubernetes-ca.crt").read_text()
    arguments = " ".join(shlex.quote(text) for text in (method, f"{endpoint}{path}", body))
    return int(site.run(gateway, f"python3 -c {shlex.quote(CALL)} {arguments} <<'END'\n{authority}\nEND"))


def ready(site: Site, gateway: str) -> bool:
    conditions = site.get("gateway", gateway).get("status", {}).get("conditions", [])
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)


def test_gateway_is_ready_and_tells_its_versions(site: Site, gateway: str) -> None:
    wait("the gateway is Ready", lambda: ready(site, gateway))
    assert set(site.get("gateway", gateway)["status"]["versions"]) == {"agent", "wasmtime"}


def test_lease_is_renewed(site: Site, gateway: str) -> None:
    def renewed() -> str:
        return site.get("lease", "wasmbed-agent", "-n", f"wasmbed-gw-{gateway}")["spec"]["renewTime"]

    first = renewed()
    wait("the Lease is renewed", lambda: renewed() != first)


@pytest.mark.parametrize("resource", ["placements", "deviceslices"])
def test_its_credential_reads_its_own_namespace(site: Site, gateway: str, resource: str) -> None:
    assert call(site, gateway, "GET", f"/apis/wasmbed.io/v1/namespaces/wasmbed-gw-{gateway}/{resource}") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apis/wasmbed.io/v1/namespaces/wasmbed-gw-{other}/placements"),
        ("GET", "/apis/wasmbed.io/v1/namespaces/wasmbed-gw-{other}/deviceslices"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/wasmbed-gw-{other}/leases/wasmbed-agent"),
        ("GET", "/apis/wasmbed.io/v1/placements"),
        ("GET", "/apis/wasmbed.io/v1/gateways"),
        ("GET", "/apis/wasmbed.io/v1/gateways/{other}"),
        ("GET", "/apis/wasmbed.io/v1/edgedevices"),
        ("GET", "/apis/wasmbed.io/v1/wasmapplications"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/wasmbed-gw-{gateway}/secrets"),
        ("PATCH", "/apis/wasmbed.io/v1/gateways/{other}/status"),
        ("PATCH", "/apis/wasmbed.io/v1/gateways/{gateway}"),
        ("PATCH", "/apis/wasmbed.io/v1/namespaces/wasmbed-gw-{gateway}/placements/any"),
        ("DELETE", "/apis/wasmbed.io/v1/namespaces/wasmbed-gw-{gateway}/placements/any"),
    ],
)
def test_its_credential_opens_nothing_else(site: Site, gateway: str, other: str, method: str, path: str) -> None:
    body = json.dumps({"spec": {}}) if method == "PATCH" else ""
    assert call(site, gateway, method, path.format(gateway=gateway, other=other), body) == 403


@pytest.mark.parametrize("unit", [AGENT, RUNTIME])
def test_gateway_is_ready_again_after_a_kill(site: Site, gateway: str, unit: str) -> None:
    site.kill(gateway, unit)
    wait("the agent answers that it is ready", lambda: agent_is_ready(site, gateway), 60)
    wait("the gateway is Ready", lambda: ready(site, gateway), 60)


def agent_is_ready(site: Site, gateway: str) -> bool:
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/readyz', timeout=5).status)"
    return site.host(gateway).run(f'python3 -c "{script}"').stdout.strip() == "200"


@pytest.mark.parametrize("unit", [AGENT, RUNTIME])
def test_unit_is_shut_off(site: Site, gateway: str, unit: str) -> None:
    assert site.exposure(gateway, unit) <= 2.0
    process = site.process(gateway, unit)
    assert int(process["CapBnd"], 16) == 0
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")


def test_only_the_runtime_may_execute_what_it_wrote(site: Site, gateway: str) -> None:
    units = site.run(
        gateway, "systemctl list-units --type=service --plain --no-legend 'wasmbed-*' | cut -d' ' -f1"
    ).split()
    assert set(units) == {AGENT, RUNTIME}
    setting = "systemctl show --property=MemoryDenyWriteExecute --value"
    assert {unit: site.run(gateway, f"{setting} {unit}").strip() for unit in units} == {AGENT: "yes", RUNTIME: "no"}


def test_the_runtime_has_no_network(site: Site, gateway: str) -> None:
    pid = site.main_pid(gateway, RUNTIME)
    own, hosts = site.run(gateway, f"readlink /proc/{pid}/ns/net /proc/1/ns/net").split()
    assert own != hosts
    interfaces = site.run(gateway, f"nsenter --target {pid} --net ip -oneline link").splitlines()
    assert [line.split(": ")[1] for line in interfaces] == ["lo"]
    address = site.variable("ansible_host", site.group("control_plane")[0])
    probe = f"nsenter --target {pid} --net timeout 5 bash -c '</dev/tcp/{address}/6443'"
    assert "unreachable" in site.host(gateway).run(probe).stderr


def test_the_runtime_sees_no_credential(site: Site, gateway: str) -> None:
    pid = site.main_pid(gateway, RUNTIME)
    inside = f"nsenter --target {pid} --mount"
    assert site.run(gateway, f"{inside} ls -A /etc/wasmbed").split() == ["runtime.yaml"]
    user = "setpriv --reuid=wasmbed-runtime --regid=wasmbed-runtime --init-groups"
    for command in (
        "cat /run/credentials/wasmbed-agent.service/agent.key",
        "cat /etc/shadow",
        "ls /var/lib/wasmbed-agent",
        "ls /etc/ssh",
        "ls /root",
    ):
        assert site.host(gateway).run(f"{inside} {user} {command}").rc != 0, command


def test_the_runtimes_limits_hold_for_its_process(site: Site, gateway: str) -> None:
    limits = site.run(gateway, f"cat /proc/{site.main_pid(gateway, RUNTIME)}/limits")
    found = {line[:25].strip(): line[25:].split()[1] for line in limits.splitlines()[1:]}
    assert found["Max core file size"] == "0"
    assert int(found["Max data size"]) <= 4096 * 2**20
    assert int(found["Max open files"]) <= 4096
    assert int(found["Max processes"]) <= 512


def test_the_socket_is_for_the_agent_alone(site: Site, gateway: str) -> None:
    modes = site.modes(gateway, "/run/wasmbed-runtime /run/wasmbed-runtime/runtime.sock /var/cache/wasmbed-runtime")
    assert list(modes.values()) == [
        "750 wasmbed-runtime:wasmbed-runtime",
        "660 wasmbed-runtime:wasmbed-runtime",
        "700 wasmbed-runtime:wasmbed-runtime",
    ]
    assert site.run(gateway, "getent group wasmbed-runtime").strip().split(":")[3] == "wasmbed-agent"


def test_credentials_are_read_by_the_agents_unit_alone(site: Site, gateway: str) -> None:
    paths = "/etc/wasmbed/pki/agent.key /etc/wasmbed/agent-registry.json"
    assert set(site.modes(gateway, paths).values()) == {"600 root:root"}
    paths = "/etc/wasmbed/agent.yaml /etc/wasmbed/agent.kubeconfig"
    assert set(site.modes(gateway, paths).values()) == {"640 root:wasmbed-agent"}
    assert site.modes(gateway, "/var/lib/wasmbed-agent") == {
        "/var/lib/wasmbed-agent": "700 wasmbed-agent:wasmbed-agent"
    }


def test_all_but_the_link_of_devices_is_on_the_loopback_address(site: Site, gateway: str) -> None:
    ports = [line.split()[3] for line in site.run(gateway, "ss --no-header --listening --tcp --numeric").splitlines()]
    # The link of devices is the one thing that is for others.
    open_ports = [port for port in ports if not port.startswith("127.0.0.1:") and not port.endswith(":22")]
    assert open_ports == ["0.0.0.0:8080"]
    assert "127.0.0.1:9080" in ports


def test_preflight_says_what_to_change() -> None:
    result = playbook(
        "molecule/gateway/converge.yml",
        "--tags=gateway_install",
        "-e",
        "gateway_api_endpoint=https://registry.wasmbed.local:1",
    )
    assert result.returncode != 0
    words = " ".join(result.stdout.split())
    assert "no connection to registry.wasmbed.local:1" in words
    assert "open the way to it in the firewall" in words


def test_a_signature_policy_needs_keys() -> None:
    result = playbook(
        "molecule/gateway/converge.yml", "--tags=gateway_configure", "-e", "gateway_signature_policy=required"
    )
    assert result.returncode != 0
    assert "gateway_signature_keys is empty; name the public keys" in " ".join(result.stdout.split())


def test_signature_keys_reach_the_agent_and_leave_again(site: Site, gateway: str, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    (tmp_path / "publisher.pub").write_text(pem)
    variables = json.dumps({"gateway_signature_keys": [str(tmp_path / "publisher.pub")]})
    try:
        result = playbook("molecule/gateway/converge.yml", "-e", variables)
        assert result.returncode == 0, result.stdout[-4000:]
        assert 'policy: "warn"' in site.run(gateway, "cat /etc/wasmbed/agent.yaml")
        assert pem in site.run(gateway, "cat /etc/wasmbed/signature-keys.pem")
        wait("the gateway is Ready with its keys", lambda: agent_is_ready(site, gateway), 60)
    finally:
        result = playbook("molecule/gateway/converge.yml")
    assert result.returncode == 0, result.stdout[-4000:]
    assert pem not in site.run(gateway, "cat /etc/wasmbed/signature-keys.pem")


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("gateway") == {}


def test_sealing_key_is_the_gateways_own_and_for_the_agent_alone(site: Site, gateway: str) -> None:
    key = site.host(gateway).file("/etc/wasmbed/agent-sealing-key")
    assert (key.user, key.mode) == ("root", 0o600)
    assert len(key.content_string.strip()) == 44
    assert key.content_string != (site.directory / "secrets/sealing-key").read_text()
    assert site.metrics(gateway, 9080)["wasmbed_uplink_spooled_messages"] == 0
