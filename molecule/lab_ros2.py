"""What the scenarios of the role ros2 share: the agent's figures, and nodes in processes of their own."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from lab_site import wait

if TYPE_CHECKING:
    from lab_site import Site

AGENT = "wasmbed-agent.service"
ENVIRONMENT = "/opt/wasmbed/venv"
WHEELS = "/opt/wasmbed/ros2"
_METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/metrics', timeout=5).read().decode())"
# A node of ours that publishes messages of a type, given as JSON, until it is stopped.
_PUBLISHER = """
import json, sys, time
from pathlib import Path
from wasmbed.bridges.ros2.config import BridgeConfig
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.qos import DEFAULT
from wasmbed.bridges.ros2.types import Plain
domain, topic, kind, values, packages = sys.argv[1:]
codecs = BridgeConfig(packages=tuple(map(Path, packages.split()))).codecs()
backend = DdsBackend(codecs, domain_id=int(domain), node="molecule", discovery=Discovery(("host0",)))
publisher = backend.create_publisher(topic, kind, DEFAULT)
data = codecs.codec(kind).dumps(Plain(codecs, kind).from_json(values.encode()))
while True:
    publisher.publish(data)
    time.sleep(0.1)
"""
# A real node that asks the gateway's node for one of its parameters, which is a service.
_PARAMETER = """
import sys, rclpy
from rcl_interfaces.srv import GetParameters
rclpy.init()
node = rclpy.create_node("molecule_rclpy")
client = node.create_client(GetParameters, sys.argv[1] + "/get_parameters")
assert client.wait_for_service(timeout_sec=60), "no service"
future = client.call_async(GetParameters.Request(names=["backend"]))
rclpy.spin_until_future_complete(node, future, timeout_sec=60)
print(future.result().values[0].string_value)
"""


def figures(site: Site, gateway: str) -> str:
    """The agent's figures."""
    return str(site.host(gateway).run(f'python3 -c "{_METRICS}"').stdout)


def figure(site: Site, gateway: str, name: str) -> float:
    """One of them by its name with labels, 0 when it is not there."""
    lines = (line.rpartition(" ") for line in figures(site, gateway).splitlines())
    return next((float(value) for found, _, value in lines if found == name), 0.0)


def recorded_from(site: Site, host: str, gateway: str, domain: int, topic: str, **message: Any) -> None:
    """Publish from a host until the gateway has recorded some; `type`, `values` and `packages` say what."""
    name = f'wasmbed_ros2_recorded_total{{domain="{domain}",fate="written"}}'
    before = figure(site, gateway, name)
    words = (str(domain), topic, message["type"], json.dumps(message["values"]), message.get("packages", ""))
    program = f"{ENVIRONMENT}/bin/python -c {shlex.quote(_PUBLISHER)} {shlex.join(words)}"
    site.run(host, f"systemd-run --quiet --collect --unit=molecule-publisher {program}")
    try:
        wait(f"{topic} is recorded", lambda: figure(site, gateway, name) > before + 3, timeout_s=90)
    finally:
        site.run(host, "systemctl stop molecule-publisher")


def parameter_of_the_bridge(site: Site, gateway: str, domain: int, **environment: str) -> str:
    """What a real node in a process of another user on the gateway's host is told by the gateway's node."""
    settings = " ".join(f"{name}={value}" for name, value in {"ROS_DOMAIN_ID": str(domain), **environment}.items())
    node = f"/wasmbed_{gateway}"
    return site.run(gateway, f"env {settings} {WHEELS}/bin/python -c {shlex.quote(_PARAMETER)} {node}").strip()


def backend_is_hardened_and_works(site: Site, gateway: str, peer: str, domain: int) -> None:
    """The rclpy worker in the agent's unit: topics from another host, services with a real node, the unit shut off."""
    wait("the bridge runs", lambda: figure(site, gateway, f'wasmbed_ros2_up{{domain="{domain}"}}') == 1.0, timeout_s=90)
    # Above 64 KB the first message is often lost, the ones after it come.
    image = {"height": 200, "width": 400, "encoding": "mono8", "step": 400, "data": "A" * 106_667 + "="}
    recorded_from(site, peer, gateway, domain, "/molecule/image", type="sensor_msgs/msg/Image", values=image)
    assert parameter_of_the_bridge(site, gateway, domain) == "rclpy"
    assert site.exposure(gateway, AGENT) <= 2.0
