"""A Linux device: its identity, its link to the gateway, and how its two units are shut off."""

from __future__ import annotations

import base64
import json
import shlex
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lab_site import check_mode_changes, wait

if TYPE_CHECKING:
    from typing import Any

    from lab_site import Site

DEVICE, RUNTIME = "wasmbed-device.service", "wasmbed-runtime.service"
READY = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9082/readyz', timeout=5).status)"
CHECK = "/opt/wasmbed/venv/bin/wasmbed-device --check"


@pytest.fixture(scope="module")
def device(site: Site) -> str:
    """Name of a device, which is its host's name too."""
    return site.group("mpu_devices")[0]


def edge_device(site: Site, device: str) -> Any:
    return site.get("edgedevice", device)


def connected(site: Site, device: str) -> bool:
    return bool(edge_device(site, device).get("status", {}).get("phase") == "Connected")


def test_the_device_is_connected_and_of_class_mpu(site: Site, device: str) -> None:
    wait(f"{device} Connected", lambda: connected(site, device))
    assert edge_device(site, device)["status"]["deviceClass"] == "mpu"
    assert "accepts this device" in site.run(device, CHECK)


def test_the_key_is_the_one_that_is_registered_and_never_left_the_device(site: Site, device: str) -> None:
    pem = site.run(device, "cat /etc/wasmbed/pki/device.crt")
    certificate = x509.load_pem_x509_certificate(pem.encode())
    raw = certificate.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert edge_device(site, device)["spec"]["publicKey"] == base64.b64encode(raw).decode()
    assert certificate.subject.rfc4514_string() == f"CN=wasmbed:device:default/{device}"
    authority = x509.load_pem_x509_certificate((site.directory / "pki/device-ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert site.modes(device, "/etc/wasmbed/pki/device.key") == {"/etc/wasmbed/pki/device.key": "600 root:root"}


@pytest.mark.parametrize("unit", [DEVICE, RUNTIME])
def test_unit_is_shut_off(site: Site, device: str, unit: str) -> None:
    assert site.exposure(device, unit) <= 2.0
    process = site.process(device, unit)
    assert int(process["CapEff"], 16) == 0
    assert process["NoNewPrivs"] == "1"
    assert process["Uid"].split()[0] != "0"


def test_runtime_reaches_no_network_and_no_secret_of_the_device(site: Site, device: str) -> None:
    prefix = f"nsenter --all --target {site.main_pid(device, RUNTIME)}"
    listing = site.host(device).run(f"{prefix} sh -c 'ls /etc/wasmbed; cat /var/lib/wasmbed-device/device.db'")
    assert listing.stdout.split() == ["runtime.yaml"]
    script = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert site.run(device, f"{prefix} python3 -c {shlex.quote(script)}").strip() == "['lo']"


def test_state_is_read_by_the_service_alone(site: Site, device: str) -> None:
    modes = site.modes(device, "/var/lib/wasmbed-device/ /var/lib/wasmbed-device/device.db")
    assert set(modes.values()) == {"700 wasmbed-device:wasmbed-device", "600 wasmbed-device:wasmbed-device"}


@pytest.mark.parametrize("unit", [DEVICE, RUNTIME])
def test_a_killed_unit_is_back_and_the_device_connected(site: Site, device: str, unit: str) -> None:
    site.kill(device, unit)

    def ready() -> bool:
        return site.host(device).run(f"python3 -c {shlex.quote(READY)}").stdout.strip() == "200"

    wait(f"{device} ready again", ready, 60.0)
    wait(f"{device} Connected", lambda: connected(site, device))


def test_a_device_that_is_not_registered_says_what_keeps_it_out(site: Site, device: str) -> None:
    """The words of `--check` come from the gateway itself."""

    def says(words: str) -> bool:
        return words in site.host(device).run(CHECK).stdout

    found = edge_device(site, device)
    metadata = {"name": device, "labels": found["metadata"].get("labels", {})}
    registered = {"apiVersion": found["apiVersion"], "kind": "EdgeDevice", "metadata": metadata, "spec": found["spec"]}
    without = {name: value for name, value in found["spec"].items() if name != "publicKey"}
    apply = ("apply", "--server-side", "--field-manager=wasmbed-ansible", "-f", "-")
    site.kubectl("delete", "edgedevice", device)
    try:
        wait("a refusal", lambda: says(f"no EdgeDevice default/{device}"))
        site.kubectl(*apply, stdin=json.dumps({**registered, "spec": without}))
        wait("another", lambda: says("set spec.publicKey"))
    finally:
        site.kubectl(*apply, stdin=json.dumps(registered))
    wait(f"{device} Connected", lambda: connected(site, device), 120.0)


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("mpu_device") == {}
