"""Flight safety with everything real but the vehicle: agent, runtime, API server; the vehicle is ours, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flight_pilot import Vehicle, pilot
from gateway_site import API, Site, device_of, eventually, good
from ros2_support import domain

from tests.support.processes import free_ports
from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

pytestmark = pytest.mark.cluster

DEVICE = "alpha"
NODE = Path(__file__).parent / "px4_ros_node.py"
# From the loss of an owner to the vehicle's Hold being known to the API.
HOLD_TOLD_WITHIN_S = 15.0
# What the vehicle sends a second.
FRAMES_HZ = 42


class Flight:
    """A gateway with one device that has the vehicle."""

    def __init__(self, site: Site, vehicle: Vehicle) -> None:
        self.site = site
        self.vehicle = vehicle

    def slice(self, *, suspended: bool = False) -> None:
        """What the controller writes."""
        device = {"name": DEVICE, "namespace": "default", "uid": f"uid-{DEVICE}", "class": "gateway", "systemId": 1}
        devices = [device | ({"suspended": True} if suspended else {})]
        spec = {"gateway": self.site.name, "devices": devices}
        self.site.apply("DeviceSlice", "deviceslices", "devices-0", spec, self.site.namespace)

    def told(self) -> dict[str, Any]:
        """What the slice's status says of the device."""
        found = self.site.get(f"{API}/namespaces/{self.site.namespace}/deviceslices/devices-0")
        (device,) = found.get("status", {}).get("devices") or [{}]
        return dict(device)

    def hears(self, seconds: float) -> None:
        """Wait until the agent has heard what the vehicle sends in so many seconds of its own clock."""
        frames = lambda: self.site.metric("wasmbed_mavlink_received_frames_total")  # noqa: E731
        enough = frames() + seconds * FRAMES_HZ
        eventually(lambda: frames() >= enough, f"frames of {seconds} s of the vehicle")

    def mode(self, mode: str, timeout_s: float = HOLD_TOLD_WITHIN_S) -> dict[str, Any]:
        """Wait until the vehicle is told to be in a mode."""

        def check() -> Any:
            vehicle = self.told().get("vehicle") or {}
            return vehicle if vehicle.get("mode") == mode else None

        return dict(eventually(check, f"mode {mode}, last told {self.told()}", timeout_s * busy()))

    def incident(self, reason: str) -> dict[str, Any]:
        def check() -> Any:
            return next((item for item in self.told().get("incidents", ()) if item["reason"] == reason), None)

        try:
            return dict(eventually(check, reason, HOLD_TOLD_WITHIN_S * busy()))
        except AssertionError as error:
            lines = self.site.log.read_text(errors="replace").splitlines()
            log = [line for line in lines if "wasmbed_application=" not in line][-25:]
            raise AssertionError("\n".join([str(error), str(self.told()), *log])) from None

    def held(self, words: str) -> dict[str, Any]:
        """Wait until a Hold is told with its cause; on a busy machine the setpoints may have stayed away before it."""
        told = self.incident("HoldCommanded")
        assert words in told["message"] or "no setpoint came" in told["message"], told
        return told

    def place(self, name: str, digest: str, **changes: Any) -> None:
        device = {**device_of(DEVICE), "capabilities": ["px4"]}
        spec = {
            "devices": [device],
            "grants": ["wasmbed:px4", "wasmbed:sys"],
            "px4": {"rights": ["command", "mission", "offboard"]},
            **changes,
        }
        self.site.place(name, digest, **spec)


@pytest.fixture
def flight(cluster: Cluster, registry: Registry, module_cache: Path) -> Iterator[Flight]:
    (port,) = free_ports(1)
    mavlink = {"endpoints": [{"name": "vehicles", "address": f"udpin:127.0.0.1:{port}"}], "hold_s": 20.0}
    site = Site(cluster, registry, module_cache, f"fly{port}", settings={"mavlink": mavlink})
    vehicle = Vehicle(port)
    made = Flight(site, vehicle)
    try:
        made.slice()
        site.start()
        made.mode("manual")
        yield made
    finally:
        vehicle.close()
        site.close()


def test_the_vehicle_is_told_when_it_changes_and_only_then(flight: Flight) -> None:
    ready = {"armed": False, "inAir": False, "mode": "manual", "battery": 90, "fix": "3D"}
    eventually(lambda: flight.told()["vehicle"] == ready, f"{ready}, last told {flight.told()}")
    before = flight.site.metric('wasmbed_agent_status_writes_total{kind="DeviceSlice"')
    flight.hears(3.0)
    assert flight.site.metric('wasmbed_agent_status_writes_total{kind="DeviceSlice"') == before
    flight.vehicle.tell("fly 10")
    assert flight.mode("hold") == {"armed": True, "inAir": True, "mode": "hold", "battery": 90, "fix": "3D"}
    for name, value in {"mavlink_vehicles": 1, "flight_armed": 1, "flight_in_air": 1}.items():
        assert flight.site.metric(f"wasmbed_{name}") == value
    assert flight.site.metric("wasmbed_mavlink_received_frames_total") > 10
    flight.vehicle.close()
    assert flight.mode("lost", 20.0)["inAir"] is True
    assert flight.site.readyz()[0] == 200, "a vehicle that is away is no fault of the gateway"


def test_nothing_is_started_or_updated_in_flight_but_what_may_be(flight: Flight) -> None:
    site = flight.site
    first, second = site.push("calm", good("first.v")), site.push("calm", good("secondv"))
    flight.place("calm", first)
    site.wait_state("calm", "Running", digest=first)
    flight.vehicle.tell("fly 10")
    flight.mode("hold")
    flight.place("calm", second)
    flight.place("new", second, image=f"registry.wasmbed.io/{site.name}/calm:v1")
    state = site.wait_state("calm", "Pending", digest=second)
    assert state["reason"] == "InFlight"
    assert state["message"] == f"waiting: default/alpha is in the air; {first[:19]} runs on"
    assert site.wait_line("calm").text.startswith("first.v ")
    assert site.wait_state("new", "Pending")["message"] == "waiting: default/alpha is in the air"
    flight.place("bold", second, image=f"registry.wasmbed.io/{site.name}/calm:v1", allowInFlight=True)
    site.wait_state("bold", "Running")
    flight.vehicle.tell("land")
    site.wait_state("calm", "Running", digest=second)
    site.wait_state("new", "Running")


def test_an_owner_that_fails_in_offboard_leaves_a_vehicle_that_holds(flight: Flight) -> None:
    site = flight.site
    flight.vehicle.tell("failsafe 0")
    flight.vehicle.tell("fly 10")
    flight.mode("hold")
    flight.place("pilot", site.push("pilot", pilot(trap_at=60)), allowInFlight=True)
    flight.mode("offboard")
    assert flight.held("its owner default/pilot failed")["application"] == "default/pilot"
    flight.incident("HoldConfirmed")


@pytest.mark.parametrize("how", ["runtime killed", "agent stopped", "removed", "updated"])
def test_an_owner_that_is_taken_away_in_offboard_leaves_a_vehicle_that_holds(flight: Flight, how: str) -> None:
    site = flight.site
    flight.place("pilot", site.push("pilot", pilot()), allowInFlight=True)
    site.wait_state("pilot", "Running")
    flight.vehicle.tell("failsafe 0")
    flight.vehicle.tell("fly 10")
    flight.mode("offboard")
    assert site.metric("wasmbed_flight_owned") == 1
    if how == "runtime killed":
        assert site.runtime is not None
        site.runtime.kill()
        flight.held("lost its runtime")
    elif how == "agent stopped":
        assert site.agent is not None
        site.agent.stop()
        site.start_agent()
        site.agent.wait_ready(lambda: site.readyz()[0] == 200)
    elif how == "removed":
        site.remove("pilot")
        flight.held("its owner default/pilot was stopped")
    else:
        flight.place("pilot", site.push("pilot", good()), allowInFlight=True)
        flight.held("its owner default/pilot was")
    flight.mode("hold")


def test_the_kill_switch_holds_over_a_restart_and_without_the_vehicles_own_failsafe(flight: Flight) -> None:
    site = flight.site
    digest = site.push("pilot", pilot())
    flight.place("pilot", digest, allowInFlight=True)
    site.wait_state("pilot", "Running")
    flight.vehicle.tell("failsafe 0")
    flight.vehicle.tell("fly 10")
    flight.mode("offboard")
    flight.slice(suspended=True)
    state = site.wait_state("pilot", "Suspended")
    assert (state["reason"], state["message"]) == ("Suspended", "the device is suspended")
    flight.mode("hold")
    assert "the device is suspended" in flight.incident("HoldCommanded")["message"]
    assert site.metric("wasmbed_flight_suspended_devices") == 1
    assert site.metric("wasmbed_flight_owned") == 0

    assert site.agent is not None
    site.agent.kill()
    site.start_agent()
    site.agent.wait_ready(lambda: site.readyz()[0] == 200)
    flight.hears(2.0)
    assert site.wait_state("pilot", "Suspended")
    assert flight.told()["vehicle"]["mode"] == "hold"
    incidents = [item["reason"] for item in flight.told()["incidents"]]
    assert incidents.count("Suspended") == 1, "an agent that is started again suspends nothing anew"

    flight.slice()
    site.wait_state("pilot", "Running")
    flight.mode("offboard")


def test_a_kill_switch_that_was_set_counts_without_the_api(flight: Flight) -> None:
    site = flight.site
    flight.place("pilot", site.push("pilot", pilot()))
    site.wait_state("pilot", "Running")
    flight.slice(suspended=True)
    site.wait_state("pilot", "Suspended")
    assert site.agent is not None
    site.agent.stop()
    kubeconfig = site.kubeconfig.read_text()
    try:
        # An address where nobody answers: the agent has what it saved and nothing else.
        (nobody,) = free_ports(1)
        site.kubeconfig.write_text(kubeconfig.replace(site.cluster.url, f"https://127.0.0.1:{nobody}"))
        site.start_agent()
        eventually(lambda: "sync: ok" in site.readyz()[1], "placements restored")
        eventually(lambda: site.metric('wasmbed_agent_instances{state="Suspended"}') == 1, "it is suspended")
        flight.hears(2.0)
        assert site.metric('wasmbed_agent_instances{state="Suspended"}') == 1
        assert site.metric('wasmbed_agent_instances{state="Running"}') == 0
    finally:
        site.agent.stop()
        site.kubeconfig.write_text(kubeconfig)


def test_the_vehicle_has_px4s_topics_in_ros_2(cluster: Cluster, registry: Registry, module_cache: Path) -> None:
    (port,) = free_ports(1)
    number = domain()
    topics = {"namespace": "{device}", "accept": ["VehicleCommand"]}
    endpoint = {"name": "vehicles", "address": f"udpin:127.0.0.1:{port}"}
    ros2 = {"domain": number, "px4_release": "1.16", "discovery": {"interfaces": ["lo"]}}
    settings = {"mavlink": {"endpoints": [endpoint], "topics": topics}, "ros2": ros2}
    site = Site(cluster, registry, module_cache, f"topics{port}", settings=settings)
    vehicle = Vehicle(port)
    flight = Flight(site, vehicle)
    node = subprocess.Popen(
        [sys.executable, str(NODE), str(number), "1.16", f"/{DEVICE}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    try:
        assert node.stdout.readline() == "ready\n"

        def do(op: str, **arguments: Any) -> Any:
            node.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            node.stdin.flush()
            return json.loads(node.stdout.readline())

        flight.slice()
        site.start()
        flight.mode("manual")
        do("read", name="out/vehicle_status_v1", message="VehicleStatus")
        do("write", name="in/vehicle_command", message="VehicleCommand")
        status = lambda: (do("heard", name="out/vehicle_status_v1")["last"] or {}).get("arming_state")  # noqa: E731
        eventually(lambda: status() == 1, "a disarmed vehicle in ROS 2")
        eventually(lambda: do("matched", name="in/vehicle_command"), "the agent subscribes")
        do("send", name="in/vehicle_command", command=400, param1=1.0, target_system=1)
        eventually(lambda: status() == 2, "an armed vehicle in ROS 2")
        assert site.metric('wasmbed_px4_topic_samples_total{fate="taken",namespace="/alpha"}') == 1
        assert "px4_topics: ok" in site.readyz()[1]
    finally:
        node.kill()
        node.wait()
        vehicle.close()
        site.close()


def test_the_agent_runs_without_keys_and_says_so(
    cluster: Cluster, registry: Registry, module_cache: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    endpoint = {"name": "signed", "address": f"udpin:127.0.0.1:{port}", "signing_key": "fleet"}
    settings = {"mavlink": {"endpoints": [endpoint], "key_folder": str(tmp_path)}}
    site = Site(cluster, registry, module_cache, f"nokey{port}", settings=settings)
    try:
        site.start_runtime()
        site.start_agent()

        text = eventually(
            lambda: "mavlink: not ready" in site.readyz()[1] and site.readyz()[1], "the missing key is told"
        )
        assert "fleet.key: cannot be read" in text
        assert "mode 0600" in text
    finally:
        site.close()


def test_a_rotated_key_shuts_a_vehicle_out_until_it_has_it_too(
    cluster: Cluster, registry: Registry, module_cache: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    keys = {"old": "5a" * 32, "new": "77" * 32}
    files = {name: tmp_path / f"{name}.key" for name in keys}
    for path, key in zip([*files.values(), folder / "fleet.key"], [*keys.values(), keys["old"]], strict=True):
        path.touch(mode=0o600)
        path.write_text(key)
    endpoint = {"name": "signed", "address": f"udpin:127.0.0.1:{port}", "signing_key": "fleet"}
    settings = {"mavlink": {"endpoints": [endpoint], "key_folder": str(folder)}}
    site = Site(cluster, registry, module_cache, f"key{port}", settings=settings)
    vehicle = Vehicle(port, "--signing-key-file", str(files["old"]))
    flight = Flight(site, vehicle)
    refused = "wasmbed_mavlink_signature_rejected_total"
    try:
        flight.slice()
        site.start()
        flight.mode("manual", 30.0)
        assert site.metric(refused) == 0
        assert site.agent is not None
        (folder / "fleet.key").write_text(keys["new"])
        site.agent.stop()
        site.start_agent()
        site.agent.wait_ready(lambda: site.readyz()[0] == 200)
        eventually(lambda: site.metric(refused) > 20, "the vehicle is refused")
        assert site.metric("wasmbed_mavlink_vehicles") == 0
        vehicle.tell(f"key {files['new']}")
        eventually(lambda: site.metric("wasmbed_mavlink_vehicles") == 1, "the vehicle is heard")
        flight.mode("manual", 30.0)
        # One that lost its key is as one that is away.
        vehicle.tell("key")
        flight.mode("lost", 30.0)
        log = site.log.read_text(errors="replace")
        assert "bad signature" in log
        assert [key for key in keys.values() if key in log] == []
    finally:
        vehicle.close()
        site.close()
