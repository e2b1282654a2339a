"""The example shock on a gateway and on a Linux device at once, with a ROS 2 node in a process of its own."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from device_site import LinkSite, LinuxDevice
from gateway_site import eventually

from tests.support.processes import ROOT
from tests.support.ros2 import Shaker, rclpy_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

pytestmark = pytest.mark.cluster
GRANTS = ["wasmbed:sys", "wasmbed:ros2"]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("wasm") / "shock.wasm"
    subprocess.run([ROOT / "scripts/build-example", ROOT / "examples/shock", path], check=True, timeout=120)
    return path.read_bytes()


@pytest.fixture
def shock_site(
    cluster: Cluster, registry: Registry, device_cache: Path, domain: int, module: bytes
) -> Iterator[LinkSite]:
    """The application, as its manifest is, on `near` at the gateway and on `far`, which is a device."""
    site = LinkSite(cluster, registry, device_cache, f"shock{domain}")
    policy = {"subscribe": ["/*/imu"], "publish": ["/*/alarm"]}
    site.settings["ros2"] = {"domain": domain, "discovery": {"interfaces": ["lo"]}, "policy": policy}
    site.write_config()
    site.start()
    device = LinuxDevice(site, "far")
    try:
        device.start()
        device.wait_ready()
        entries = [
            {"name": name, "namespace": "default", "uid": f"uid-{name}", "class": kind, "capabilities": []}
            for name, kind in (("near", "gateway"), ("far", "mpu"))
        ]
        spec: dict[str, Any] = yaml.safe_load((ROOT / "examples/shock/application.yaml").read_text())["spec"]
        ros2 = {"topics": spec["communication"]["ros2"]["topics"]}
        env = [item | {"value": "0.5"} if item["name"] == "QUIET_S" else item for item in spec["env"]]
        site.place("shock", site.push("shock", module), devices=entries, grants=GRANTS, ros2=ros2, env=env)
        for at in range(2):
            site.wait_state("shock", "Running", at=at)
        yield site
    finally:
        device.close()
        site.close()


@pytest.fixture
def domain() -> int:
    """A domain nobody else uses."""
    return 101 + os.getpid() % 60


@pytest.mark.parametrize("kind", ["ours", "jazzy"])
def test_a_shaken_device_raises_its_alarm_and_no_other(shock_site: LinkSite, domain: int, kind: str) -> None:
    rclpy, environment = None, None
    if kind != "ours":
        rclpy = rclpy_python(kind)
        if not rclpy:
            pytest.skip(f"no interpreter with rclpy of {kind}; scripts/test-ros2 makes one")
        environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "PYTHONPATH": ""}
    with Shaker("near", "far", domain=domain, interface="lo", rclpy=rclpy, environment=environment) as shaker:
        for shaken, other in (("near", "far"), ("far", "near")):
            shaker.shake(shaken)
            eventually(lambda shaken=shaken: shaker.last(shaken) == "shock 60.0 m/s2", f"the alarm of {shaken}", 60)
            assert not shaker.last(other).startswith("shock")
            shaker.rest(shaken)
            eventually(
                lambda shaken=shaken: shaker.last(shaken) == "normal 9.8 m/s2", f"the end of {shaken}'s alarm", 60
            )
    for at in range(2):
        assert shock_site.device_state("shock", at)["state"] == "Running"
