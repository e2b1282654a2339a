"""The lab's vehicles as hosts: configured through their gateway, in batches, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from lab_site import ROOT, ansible, playbook, wait

if TYPE_CHECKING:
    from lab_site import Site

PLAYBOOK = "playbooks/configure_vehicles.yml"


def read(site: Site, gateway: str, module: str, **options: Any) -> dict[str, Any]:
    """What an information module says of a vehicle, run on its gateway."""
    python = {"ansible_python_interpreter": site.variable("vehicle_python", gateway, "/opt/wasmbed/venv/bin/python")}
    done = ansible(gateway, f"wasmbed.edge.{module}", variables=python, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(yaml.safe_load(done.stdout.partition("=>")[2]))


def test_every_vehicle_has_what_the_inventory_says(site: Site, gateway: str) -> None:
    for number in range(1, len(site.group("vehicles")) + 1):
        parameters = read(site, gateway, "px4_parameter_info", system_id=number, names=["MIS_TAKEOFF_ALT"])[
            "parameters"
        ]
        assert parameters == {"MIS_TAKEOFF_ALT": 5.0}
        (fence,) = read(site, gateway, "px4_mission_info", system_id=number, plan="fence")["plan_items"]
        assert (fence["command"], fence["params"][0]) == ("nav_fence_circle_inclusion", 2000.0)


def test_check_mode_names_the_difference_and_one_that_is_away_keeps_nobody_up() -> None:
    away = '{"vehicle_parameters": {"MIS_TAKEOFF_ALT": 6}, "configure_vehicles_batches": [3], "vehicle_timeout_s": 6}'
    extra = (
        "-e",
        away,
        "-e",
        "{vehicle_system_id: \"{{ 99 if inventory_hostname == 'vehicle2' else (inventory_hostname[-1] | int) }}\"}",
    )
    done = playbook(PLAYBOOK, "--check", "--diff", *extra)
    assert done.returncode != 0
    assert "+MIS_TAKEOFF_ALT 6" in done.stdout
    assert "put off, run this again when they are heard and on the ground: vehicle2" in done.stdout
    assert "no heartbeat of system 99" in done.stdout
    assert done.stdout.count("MIS_TAKEOFF_ALT 5.0 -> 6") >= 2


def test_a_device_of_the_cluster_is_a_host_of_the_inventory_plugin(site: Site) -> None:
    source = site.directory / "test.edge_devices.yml"
    site.kubectl("apply", "-f", str(ROOT / "examples/drone-bravo-002.yaml"))
    try:
        name = ("edgedevice", "drone-bravo-002")
        wait(
            "the controller has given it its gateway", lambda: site.get(*name).get("status", {}).get("gateway") == "gw1"
        )
        source.write_text(
            json.dumps(
                {
                    "plugin": "wasmbed.edge.edge_devices",
                    "kubeconfig": str(site.directory / "admin.kubeconfig"),
                    "label_selector": "mission=patrol",
                    "vehicles_only": True,
                    "group": "fleet",
                }
            )
        )
        extra = ("-e", "{configure_vehicles_hosts: fleet, vehicle_parameters: {MIS_TAKEOFF_ALT: 5}}")
        done = playbook(PLAYBOOK, "-i", str(source), *extra)
        assert done.returncode == 0, done.stdout[-3000:]
        assert "drone-bravo-002 -> gw1" in done.stdout
    finally:
        source.unlink(missing_ok=True)
        site.kubectl("delete", "-f", str(ROOT / "examples/drone-bravo-002.yaml"))
