"""The lab's vehicle: it runs without rights, and the gateway hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_site import wait

if TYPE_CHECKING:
    from lab_site import Site

UNIT = "wasmbed-vehicle.service"


def figure(site: Site, gateway: str, name: str) -> float:
    return sum(value for key, value in site.metrics(gateway, 9080).items() if key.startswith(name))


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
