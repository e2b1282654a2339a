"""The inventory plugin edge_devices against a real API server."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.modules.test_edge_device import drone, task
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modules.conftest import Play
    from tests.support.cluster import Cluster


def listed(folder: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """What ansible-inventory makes of a file with these options, and what it says."""
    path = folder / "fleet.edge_devices.yml"
    path.write_text(yaml.safe_dump({"plugin": "wasmbed.edge.edge_devices", "strict": True, **options}))
    configuration = folder / "inventory.cfg"
    configuration.write_text("[defaults]\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
    }
    command = ["ansible-inventory", "-i", str(path), "--list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=True)
    return json.loads(done.stdout), done.stderr


def test_devices_are_hosts_by_label_with_their_gateway_and_system_id(
    kube_play: Play, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    plain = drone("plain")
    del plain["spec"]["px4"]
    kube_play.run(task(drone("drone-1"), drone("drone-2", labels={"drone-type": "wing"}), plain))
    status = {"status": {"phase": "Connected", "gateway": "gw1", "deviceClass": "gateway"}}
    patch = ("patch", "edgedevice", "drone-1", "-n", namespace, "--subresource=status", "--type=merge")
    cluster.kubectl(*patch, "-p", json.dumps(status))
    options = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace}
    found, _ = listed(
        tmp_path,
        **options,
        vehicles_only=True,
        group="vehicles",
        keyed_groups=[{"prefix": "phase", "key": "edge_device.phase"}],
        groups={"quadcopters": "edge_device.labels['drone-type'] == 'quadcopter'"},
    )
    assert found["vehicles"]["hosts"] == ["drone-1", "drone-2"]
    assert found["quadcopters"]["hosts"] == found["phase_Connected"]["hosts"] == ["drone-1"]
    variables = found["_meta"]["hostvars"]["drone-1"]["edge_device"]
    # What the cluster says is data: a label like a template is never one.
    assert (variables["system_id"], variables["gateway"]) == (3, {"__ansible_unsafe": "gw1"})
    everything, _ = listed(tmp_path, **options, label_selector="drone-type=quadcopter")
    assert everything["edge_devices"]["hosts"] == ["drone-1", "plain"]


def test_an_api_that_is_not_there_is_named(tmp_path: Path) -> None:
    _, said = listed(tmp_path, kubeconfig=str(tmp_path / "nowhere"))
    assert f"kubeconfig {tmp_path}/nowhere is not there" in said.replace("\n", " ")
