"""The gateway's bridge: its configuration, its keys, what its unit may open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_site import wait

if TYPE_CHECKING:
    from lab_site import Site

AGENT = "wasmbed-agent.service"
# Kind and local address of the sockets of a process that wait for others: TCP in LISTEN, UDP without a peer.
SOCKETS = """
import os, sys
own = set()
for name in os.listdir(f"/proc/{sys.argv[1]}/fd"):
    try:
        own.add(os.readlink(f"/proc/{sys.argv[1]}/fd/{name}"))
    except FileNotFoundError:
        pass
for kind, state in (("udp", "07"), ("tcp", "0A")):
    for path in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        for row in open(path).readlines()[1:]:
            fields = row.split()
            if fields[3] == state and f"socket:[{fields[9]}]" in own:
                print(kind, fields[1])
"""


def test_the_agent_says_that_its_bridge_runs(site: Site, gateway: str) -> None:
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/readyz', timeout=5).read().decode())"
    wait("the bridge runs", lambda: "mavlink: ok" in site.host(gateway).run(f'python3 -c "{script}"').stdout)


def test_configuration_is_for_the_agent_alone(site: Site, gateway: str) -> None:
    part = site.host(gateway).file("/etc/wasmbed/agent.d/mavlink.yaml")
    assert (part.user, part.group, part.mode) == ("root", "wasmbed-agent", 0o640)
    assert "udpin:0.0.0.0:14540" in part.content_string


def test_others_reach_the_port_of_vehicles_and_of_devices_and_no_other_of_the_agent(site: Site, gateway: str) -> None:
    pid = site.main_pid(gateway, AGENT)
    lines = site.run(gateway, f"python3 -c '{SOCKETS}' {pid}").splitlines()
    open_to_others = {tuple(line.split()) for line in lines if "0100007F" not in line}
    ports = {(kind, int(address.rpartition(":")[2], 16)) for kind, address in open_to_others}
    assert ports == {("udp", 14540), ("tcp", 8080)}, lines


def test_a_serial_autopilot_gets_its_name(site: Site, gateway: str) -> None:
    rule = site.host(gateway).file("/etc/udev/rules.d/70-wasmbed.rules")
    assert (rule.user, rule.mode) == ("root", 0o644)
    (line,) = [line for line in rule.content_string.splitlines() if not line.startswith("#")]
    assert 'ATTRS{idVendor}=="26ac", ATTRS{idProduct}=="0011", ATTRS{serial}=="7"' in line
    assert 'SYMLINK+="wasmbed-molecule", GROUP="wasmbed-agent", MODE="0660"' in line


def test_ground_stations_of_the_gateway_itself_are_heard_on_loopback_alone(site: Site, gateway: str) -> None:
    listening = [line.split()[1] for line in site.run(gateway, "cat /proc/net/tcp /proc/net/tcp6").splitlines()]
    assert [address for address in listening if address.endswith(f":{5760:04X}")] == [f"0100007F:{5760:04X}"]


def test_a_gateway_without_serial_endpoints_opens_no_device(site: Site, gateway: str) -> None:
    assert site.run(gateway, f"systemctl show --property=PrivateDevices --value {AGENT}").strip() == "yes"
    assert site.exposure(gateway, AGENT) <= 2.0
