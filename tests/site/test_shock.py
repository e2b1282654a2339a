"""The example shock, applied by kubectl, on a gateway and on a Linux device, with ROS 2 nodes in the lab's network."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.site.conftest import ROOT
from tests.support.ros2 import Shaker, rclpy_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.site.conftest import Site

BRIDGE = "wb0"
ADDRESS = "10.79.0.1"
MANIFEST = ROOT / "examples/shock/application.yaml"
# As ROS names them: one that its gateway runs applications for, one that runs them itself.
DEVICES = ("drone_alpha_001", "drone1")
# Keeps Fast DDS on the lab's network.
PROFILE = f"""<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <transport_descriptors><transport_descriptor><transport_id>lab</transport_id><type>UDPv4</type>
    <interfaceWhiteList><address>{ADDRESS}</address></interfaceWhiteList></transport_descriptor></transport_descriptors>
  <participant profile_name="lab" is_default_profile="true"><rtps><useBuiltinTransports>false</useBuiltinTransports>
    <userTransports><transport_id>lab</transport_id></userTransports></rtps></participant>
</profiles>
"""


@pytest.fixture(scope="module")
def shock(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application as it is in the repository, running on both."""
    module = tmp_path_factory.mktemp("wasm") / "shock.wasm"
    subprocess.run([ROOT / "scripts/build-example", MANIFEST.parent, module], check=True, timeout=120)
    site.registry.push("examples/shock", "v1.0.0", module.read_bytes())
    site.kubectl("apply", "-f", str(MANIFEST))
    try:
        site.wait_phase("shock", "Running")
        yield site
    finally:
        site.kubectl("delete", "-f", str(MANIFEST), "--timeout=40s")


@pytest.mark.parametrize("kind", ["ours", "jazzy", "kilted"])
def test_a_shaken_device_raises_its_alarm_in_the_lab(shock: Site, tmp_path: Path, kind: str) -> None:
    python, environment = None, None
    if kind != "ours":
        python = rclpy_python(kind)
        if not python:
            pytest.skip(f"no interpreter with rclpy of {kind}; scripts/test-ros2 makes one")
        (tmp_path / "profile.xml").write_text(PROFILE)
        profile = str(tmp_path / "profile.xml")
        names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
        environment = {**os.environ, "PYTHONPATH": "", **dict.fromkeys(names, profile)}
    with Shaker(*DEVICES, domain=0, interface=BRIDGE, rclpy=python, environment=environment) as shaker:
        for shaken in DEVICES:
            shaker.shake(shaken)
            shock.wait(f"the alarm of {shaken}", lambda one=shaken: shaker.last(one) == "shock 60.0 m/s2", 60)
            others = [one for one in DEVICES if one != shaken]
            assert not any(shaker.last(one).startswith("shock") for one in others)
            shaker.rest(shaken)
            shock.wait(f"the end of {shaken}'s alarm", lambda one=shaken: shaker.last(one) == "normal 9.8 m/s2", 60)
    said = {line["WASMBED_DEVICE"] for line in shock.log("shock") if line["MESSAGE"] == "shock: 60.0 m/s2"}
    assert said == {"default/drone-alpha-001", "default/drone1"}
