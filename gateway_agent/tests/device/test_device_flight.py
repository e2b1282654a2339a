"""Flight safety of applications on a Linux device: the autopilot is the gateway's, the owner behind a link."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from device_site import LinkSite, LinuxDevice
from flight_pilot import Vehicle, pilot
from gateway_site import eventually, good
from link_faults import ThreadedProxy

from tests.support.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

pytestmark = pytest.mark.cluster

TOLD_WITHIN_S = 20.0


class Drone:
    """A gateway with one Linux device that has a vehicle."""

    def __init__(self, site: LinkSite, vehicle: Vehicle, proxy: ThreadedProxy) -> None:
        self.site = site
        self.vehicle = vehicle
        self.proxy = proxy
        self.device = LinuxDevice(site, "drone", port=proxy.port, register=False)
        self.entry()

    def entry(self, **changes: Any) -> None:
        self.site.add("drone", self.device.public_key, systemId=1, **changes)

    def place(self, name: str, digest: str, **changes: Any) -> None:
        devices = [
            {"name": "drone", "namespace": "default", "uid": "uid-drone", "class": "mpu", "capabilities": ["px4"]}
        ]
        grants = ["wasmbed:px4", "wasmbed:sys"]
        px4 = {"rights": ["command", "offboard"]}
        self.site.place(name, digest, **{"devices": devices, "grants": grants, "px4": px4, **changes})

    def mode(self, mode: str) -> None:
        def check() -> bool:
            return (self.site.link("drone").get("vehicle") or {}).get("mode") == mode

        eventually(check, f"mode {mode}: {self.site.link('drone')}", TOLD_WITHIN_S)

    def incident(self, reason: str) -> dict[str, Any]:
        def check() -> Any:
            return next(
                (item for item in self.site.link("drone").get("incidents", ()) if item["reason"] == reason), None
            )

        return dict(eventually(check, reason, TOLD_WITHIN_S))


@pytest.fixture
def drone(cluster: Cluster, registry: Registry, device_cache: Path) -> Iterator[Drone]:
    (port,) = free_ports(1)
    site = LinkSite(cluster, registry, device_cache, f"d{port}")
    site.settings["mavlink"] = {"endpoints": [{"name": "vehicles", "address": f"udpin:127.0.0.1:{port}"}]}
    site.write_config()
    with contextlib.ExitStack() as stack:
        stack.callback(site.close)
        vehicle = stack.enter_context(contextlib.closing(Vehicle(port)))
        proxy = ThreadedProxy(site.link_port)
        stack.callback(proxy.cut)
        made = Drone(site, vehicle, proxy)
        stack.callback(made.device.close)
        site.start()
        made.device.start()
        made.device.wait_ready()
        site.wait_link("drone", "Connected")
        made.mode("manual")
        vehicle.tell("failsafe 0")
        yield made


def test_an_owner_whose_link_is_lost_leaves_a_vehicle_that_holds(drone: Drone) -> None:
    site = drone.site
    drone.place("pilot", site.push("pilot", pilot()), allowInFlight=True)
    site.wait_state("pilot", "Running")
    drone.vehicle.tell("fly 10")
    drone.mode("offboard")
    drone.proxy.cut()
    told = drone.incident("HoldCommanded")
    assert told["application"] == "default/pilot"
    assert "link" in told["message"] or "no setpoint came" in told["message"]
    drone.incident("HoldConfirmed")
    drone.mode("hold")
    drone.proxy.open()
    drone.mode("offboard")


def test_the_kill_switch_reaches_the_device_and_holds_its_vehicle(drone: Drone) -> None:
    site = drone.site
    drone.place("pilot", site.push("pilot", pilot()), allowInFlight=True)
    site.wait_state("pilot", "Running")
    drone.vehicle.tell("fly 10")
    drone.mode("offboard")
    drone.entry(suspended=True)
    site.wait_state("pilot", "Suspended")
    drone.mode("hold")
    eventually(lambda: drone.device.metric("wasmbed_device_instances") == 0, "no instance on the device")
    drone.vehicle.tell("land")
    drone.entry()
    site.wait_state("pilot", "Running")


def test_nothing_is_updated_on_a_device_in_flight(drone: Drone) -> None:
    site = drone.site
    first, second = site.push("calm", good("first.v")), site.push("calm", good("secondv"))
    drone.place("calm", first)
    site.wait_state("calm", "Running", digest=first)
    drone.vehicle.tell("fly 10")
    drone.mode("hold")
    drone.place("calm", second)
    state = site.wait_state("calm", "Pending", digest=second)
    assert state["message"] == f"waiting: default/drone is in the air; {first[:19]} runs on"
    drone.vehicle.tell("land")
    site.wait_state("calm", "Running", digest=second)
