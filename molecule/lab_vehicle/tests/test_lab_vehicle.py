"""The lab's vehicle: it runs without rights, and the gateway hears it."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from lab_site import ROOT, ansible, playbook, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab_site import Site

UNIT = "wasmbed-vehicle.service"
KEYS = "/var/lib/wasmbed-agent/mavlink-keys"
REFUSED = "wasmbed_mavlink_signature_rejected_total"
RECEIVED = "wasmbed_mavlink_received_frames_total"
FILES = "molecule/lab_vehicle/files"


def converge(scenario: str, **variables: Any) -> str:
    """Run a scenario's role with other variables; return all it says."""
    done = playbook(f"molecule/{scenario}/converge.yml", "-vvv", "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout + done.stderr


def figure(site: Site, gateway: str, name: str) -> float:
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/metrics', timeout=5).read().decode())"
    lines = site.host(gateway).run(f'python3 -c "{script}"').stdout.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_the_gateway_hears_the_vehicle(site: Site, gateway: str) -> None:
    wait("frames come", lambda: figure(site, gateway, "wasmbed_mavlink_received_frames_total") > 100)
    assert figure(site, gateway, "wasmbed_mavlink_peers") >= 1


def test_the_vehicle_is_no_user_and_has_no_rights(site: Site) -> None:
    (host,) = site.group("lab_vehicles")
    status = site.process(host, UNIT)
    assert "0" not in status["Uid"].split()
    assert status["CapEff"] == "0" * 16
    assert site.exposure(host, UNIT) <= 2.0


def test_the_vehicle_flies_again_after_a_kill(site: Site, gateway: str) -> None:
    (host,) = site.group("lab_vehicles")
    before = figure(site, gateway, "wasmbed_mavlink_received_frames_total")
    site.kill(host, UNIT)
    wait("frames come again", lambda: figure(site, gateway, "wasmbed_mavlink_received_frames_total") > before + 50)


def refuses(site: Site, gateway: str) -> None:
    """Wait until the gateway has refused further frames."""
    before = figure(site, gateway, REFUSED)
    wait("frames are refused", lambda: figure(site, gateway, REFUSED) >= before + 20, 60)


def accepts(site: Site, gateway: str) -> None:
    """Wait until the gateway has taken further frames."""

    def taken() -> float:
        return figure(site, gateway, RECEIVED) - figure(site, gateway, REFUSED)

    before = taken()
    wait("frames are taken", lambda: taken() >= before + 50, 60)


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """The inventory's gateway and vehicles again, however a test ends."""
    yield
    converge("mavlink")
    converge("lab_vehicle")


@pytest.mark.timeout(900)
def test_a_key_is_rotated_and_a_vehicle_without_it_is_refused(
    site: Site, gateway: str, tmp_path: Path, as_it_was: None
) -> None:
    (host,) = site.group("lab_vehicles")
    keys = [secrets.token_hex(32) for _ in range(2)]
    files = [tmp_path / name for name in ("first.key", "second.key")]
    for path, key in zip(files, keys, strict=True):
        path.touch(mode=0o600)
        path.write_text(key)
    endpoints = [{"name": "vehicles", "address": "udpin:0.0.0.0:14540", "max_peers": 128, "signing_key": "fleet"}]
    said = converge("mavlink", mavlink_endpoints=endpoints, mavlink_signing_keys={"fleet": keys[0]})
    owner = "600 wasmbed-agent:wasmbed-agent"
    assert site.modes(gateway, f"{KEYS}/fleet.key") == {f"{KEYS}/fleet.key": owner}
    refuses(site, gateway)
    said += converge("lab_vehicle", lab_vehicle_signing_key_path=str(files[0]))
    key_file = "/opt/wasmbed/sitl/signing-key"
    assert site.modes(host, key_file) == {key_file: "600 root:root"}
    accepts(site, gateway)
    # Rotated at the gateway first: its vehicles are refused until they have the new one too.
    said += converge("mavlink", mavlink_endpoints=endpoints, mavlink_signing_keys={"fleet": keys[1]})
    refuses(site, gateway)
    said += converge("lab_vehicle", lab_vehicle_signing_key_path=str(files[1]))
    accepts(site, gateway)
    places = {"control machine": said}
    for name in (gateway, host):
        places[name] = site.run(
            name, "journalctl --no-pager --output=cat; ps -eo args; cat /proc/[0-9]*/environ || true"
        )
        places[f"{name}'s units"] = site.run(name, "systemctl show wasmbed-agent.service wasmbed-vehicle.service")
    assert [place for place, text in places.items() if any(key in text for key in keys)] == []


@pytest.mark.timeout(900)
def test_px4_is_a_variable_away(site: Site, gateway: str, as_it_was: None) -> None:
    """Its programs are stand-ins that keep what they are started with and fly the simulated autopilot."""
    (host,) = site.group("lab_vehicles")
    build = "/opt/px4/build/px4_sitl_default"
    airframes = f"{build}/etc/init.d-posix/airframes"
    done = playbook("molecule/lab_vehicle/converge.yml", "-e", "lab_vehicle_source=px4_sitl")
    assert done.returncode != 0
    assert "no build of PX4's simulation with the model sihsim_quadx" in " ".join(done.stdout.split())
    try:
        site.run(host, f"mkdir -p {airframes} {build}/bin && touch {airframes}/10040_sihsim_quadx {airframes}/../rcS")
        for name in ("px4", "px4-mavlink"):
            result = ansible(
                host, "ansible.builtin.copy", src=f"{ROOT}/{FILES}/{name}", dest=f"{build}/bin/", mode="0755"
            )
            assert result.returncode == 0, result.stdout
        converge("lab_vehicle", lab_vehicle_source="px4_sitl", lab_vehicle_count=2)
        accepts(site, gateway)
        state = "/var/lib/private/wasmbed-vehicle"
        started = site.run(host, f"cat {state}/1/started").splitlines()
        assert started[:4] == ["-i", "1", "-d", f"{build}/etc"]
        assert "-t 10.79.0.21 -o 14540" in site.run(host, f"cat {state}/1/mavlink")
        assert site.process(host, UNIT)["CapEff"] == "0" * 16
    finally:
        site.run(host, "rm -rf /opt/px4")
