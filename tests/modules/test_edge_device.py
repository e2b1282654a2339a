"""edge_device and edge_device_info against a real API server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.modules.conftest import Play
    from tests.support.cluster import Cluster

COUNTS = {"created": 0, "updated": 0, "deleted": 0, "unchanged": 0, "refused": 0}


def drone(name: str, **fields: Any) -> dict[str, Any]:
    spec = {
        "deviceType": "drone",
        "hardware": {"cpu": "arm64", "memory": "512Mi"},
        "capabilities": ["px4", "camera"],
        "location": {"coordinates": [45, 9.19]},
        "network": {"gatewayEndpoint": "gateway.wasmbed.local:8080"},
        "px4": {"systemId": 3},
    }
    return {"name": name, "labels": {"drone-type": "quadcopter"}, "spec": spec, **fields}


def task(*devices: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
    return {"wasmbed.edge.edge_device": {"devices": list(devices), **options}, "check_mode": check}


def stored(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return dict(json.loads(cluster.kubectl("get", "edgedevice", name, "-n", namespace, "-o", "json").stdout))


def test_check_mode_predicts_the_run_and_a_second_run_changes_nothing(kube_play: Play, namespace: str) -> None:
    devices = drone("drone-1"), drone("drone-2")
    check, real, again, info = kube_play.run(
        task(*devices, check=True),
        task(*devices),
        task(*devices),
        {"wasmbed.edge.edge_device_info": {"label_selector": "drone-type=quadcopter"}},
    )
    assert check["changed"] is real["changed"] is True
    assert check["diff"] == real["diff"]
    assert check["counts"] == real["counts"] == {**COUNTS, "created": 2}
    assert real["changed_devices"] == [f"{namespace}/drone-1", f"{namespace}/drone-2"]
    assert again["changed"] is False
    assert again["counts"] == {**COUNTS, "unchanged": 2}
    assert again["diff"] == []
    assert [item["metadata"]["name"] for item in info["devices"]] == ["drone-1", "drone-2"]
    assert info["devices"][0]["spec"] == {"suspend": False, **devices[0]["spec"]}
    assert "managedFields" not in info["devices"][0]["metadata"]


def test_diff_shows_what_a_user_wrote_and_nothing_of_the_server(kube_play: Play, namespace: str) -> None:
    changed = drone("drone-1", labels={"drone-type": "hexacopter"})
    result = kube_play.run(task(drone("drone-1")), task(changed))[1]
    (diff,) = result["diff"]
    assert diff["after_header"] == f"{namespace}/drone-1"
    assert diff["before"]["metadata"] == {
        "name": "drone-1",
        "namespace": namespace,
        "labels": {"drone-type": "quadcopter"},
    }
    assert diff["after"]["metadata"]["labels"] == {"drone-type": "hexacopter"}
    assert set(diff["after"]) == {"apiVersion", "kind", "metadata", "spec"}


def test_what_is_no_longer_given_goes_and_what_others_set_stays(
    kube_play: Play, cluster: Cluster, namespace: str
) -> None:
    bare = {"name": "drone-1", "spec": {"deviceType": "drone"}}
    kube_play.run(task(drone("drone-1")))
    cluster.kubectl("label", "edgedevice/drone-1", "-n", namespace, "site=north")
    check, real, again = kube_play.run(task(bare, check=True), task(bare), task(bare))
    assert check["diff"] == real["diff"]
    assert again["changed"] is False
    item = stored(cluster, namespace, "drone-1")
    assert item["spec"] == {"suspend": False, **bare["spec"]}
    assert item["metadata"]["labels"] == {"site": "north"}


def test_a_hand_edit_is_taken_back_or_reported(kube_play: Play, cluster: Cluster, namespace: str) -> None:
    kube_play.run(task(drone("drone-1")))
    cluster.kubectl(
        *("patch", "edgedevice/drone-1", "-n", namespace, "--type=merge", "--field-manager=by-hand"),
        *("-p", '{"spec":{"hardware":{"memory":"1Gi"}}}'),
    )
    refused, taken = kube_play.run(task(drone("drone-1"), force_conflicts=False), task(drone("drone-1")))
    assert refused["failed"]
    assert 'conflict with "by-hand"' in refused["msg"]
    assert "force_conflicts" in refused["msg"]
    assert taken["changed"] is True
    assert stored(cluster, namespace, "drone-1")["spec"]["hardware"]["memory"] == "512Mi"


def test_every_refused_device_is_named_with_the_servers_message(kube_play: Play, namespace: str) -> None:
    bad = (
        drone("drone-1", spec={"deviceType": "drone", "network": {"gatewayEndpoint": "nowhere"}}),
        drone("drone-2"),
        drone("Drone-3"),
        drone("drone-4", namespace="missing"),
    )
    check, real = kube_play.run(task(*bad, check=True), task(*bad))
    for result in (check, real):
        assert result["failed"]
        assert result["counts"] == {**COUNTS, "created": 1, "refused": 3}
        assert result["msg"].startswith("3 of 4 devices were refused")
        errors = {entry["device"]: entry["message"] for entry in result["errors"]}
        assert "spec.network.gatewayEndpoint must be host:port" in errors[f"{namespace}/drone-1"]
        assert "metadata.name" in errors[f"{namespace}/Drone-3"]
        assert errors["missing/drone-4"] == 'namespaces "missing" not found'
    assert real["changed_devices"] == [f"{namespace}/drone-2"]


def test_identity_of_a_device_cannot_be_changed(kube_play: Play) -> None:
    keys = "A" * 42 + "A=", "B" * 42 + "A="
    first, second = kube_play.run(
        *(task(drone("drone-1", spec={"deviceType": "drone", "publicKey": key})) for key in keys)
    )
    assert first["changed"] is True
    assert "spec.publicKey must not change" in second["msg"]


def test_options_are_checked_before_anything_is_sent(kube_play: Play) -> None:
    unknown, twice, bare, purge = kube_play.run(
        task(drone("drone-1", spec={"deviceTyp": "drone"})),
        task(drone("drone-1"), drone("drone-1")),
        task({"name": "drone-1"}),
        task(drone("drone-1"), purge=True),
    )
    assert "deviceTyp" in unknown["msg"]
    assert "listed twice" in twice["msg"]
    assert "drone-1" in bare["msg"]
    assert "spec" in bare["msg"]
    assert "purge_selector" in purge["msg"]


def test_manifests_say_the_same_as_options(kube_play: Play, namespace: str) -> None:
    device = drone("drone-1", spec={"deviceType": "drone", "px4": {"systemId": 3}})
    metadata = {"name": device["name"], "labels": device["labels"]}
    manifest = {"apiVersion": "wasmbed.io/v1", "kind": "EdgeDevice", "metadata": metadata, "spec": device["spec"]}
    by_manifest, by_options, wrong, typo = kube_play.run(
        {"wasmbed.edge.edge_device": {"definitions": [manifest]}},
        task(device),
        {"wasmbed.edge.edge_device": {"definitions": [{**manifest, "kind": "Gateway"}]}},
        {"wasmbed.edge.edge_device": {"definitions": [{**manifest, "spec": {"deviceType": "drone", "typo": 1}}]}},
    )
    assert by_manifest["changed_devices"] == [f"{namespace}/drone-1"]
    assert by_options["changed"] is False
    assert "Gateway, not wasmbed.io/v1 EdgeDevice" in wrong["msg"]
    assert "typo" in typo["msg"]


def test_purge_deletes_what_the_selector_chooses_and_nothing_else(
    kube_play: Play, cluster: Cluster, namespace: str
) -> None:
    def member(name: str, fleet: str) -> dict[str, Any]:
        return drone(name, labels={"fleet": fleet})

    kube_play.run(task(member("a1", "a"), member("a2", "a"), member("b1", "b")))
    purge = {"purge": True, "purge_selector": "fleet=a"}
    check, real, again = kube_play.run(
        task(member("a1", "a"), check=True, **purge), task(member("a1", "a"), **purge), task(member("a1", "a"), **purge)
    )
    assert check["changed_devices"] == real["changed_devices"] == [f"{namespace}/a2"]
    assert check["diff"] == real["diff"]
    assert again["changed"] is False
    names = cluster.kubectl("get", "edgedevices", "-n", namespace, "-o", "name").stdout.split()
    assert names == ["edgedevice.wasmbed.io/a1", "edgedevice.wasmbed.io/b1"]


def test_absent_deletes_by_name(kube_play: Play) -> None:
    kube_play.run(task(drone("drone-1"), drone("drone-2")))
    gone = {"name": "drone-1"}, {"name": "drone-9"}
    check, real, again, info = kube_play.run(
        task(*gone, check=True, state="absent"),
        task(*gone, state="absent"),
        task(*gone, state="absent"),
        {"wasmbed.edge.edge_device_info": {}},
    )
    assert check["counts"] == real["counts"] == {**COUNTS, "deleted": 1, "unchanged": 1}
    assert check["diff"] == real["diff"]
    assert again["changed"] is False
    assert [item["metadata"]["name"] for item in info["devices"]] == ["drone-2"]


def test_a_thousand_devices_are_one_task(kube_play: Play, cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    fleet = [drone(f"drone-{number:04}") for number in range(1000)]
    other = [*fleet[:-1], drone("drone-0999", labels={"drone-type": "hexacopter"})]
    times = {}
    for name, devices in (("create", fleet), ("no-op", fleet), ("one change", other)):
        path = tmp_path / "fleet.yml"
        path.write_text(yaml.safe_dump(devices))
        variables = {"vars": {"fleet": "{{ lookup('ansible.builtin.file', '" + str(path) + "') | from_yaml }}"}}
        started = time.monotonic()
        (result,) = kube_play.run({"wasmbed.edge.edge_device": {"devices": "{{ fleet }}"}, "diff": False, **variables})
        times[name] = time.monotonic() - started
        assert len(result["changed_devices"]) == {"create": 1000, "no-op": 0, "one change": 1}[name], result
    print(f"1,000 devices, whole play: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in times.items())}")
    assert max(times.values()) < 60
    assert cluster.kubectl("get", "edgedevices", "-n", namespace, "-o", "name").stdout.count("\n") == 1000


def test_an_api_that_cannot_be_used_is_named_with_what_to_do(kube_play: Play, tmp_path: Path, cluster: Cluster) -> None:
    dead = tmp_path / "dead.kubeconfig"
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    dead.write_text(yaml.safe_dump(document))
    nobody = cluster.user("nobody")
    missing, closed, forbidden, context = kube_play.run(
        task(drone("a"), kubeconfig=str(tmp_path / "none")),
        task(drone("a"), kubeconfig=str(dead)),
        task(drone("a"), kubeconfig=str(nobody)),
        task(drone("a"), context="other"),
    )
    assert "none is not there; give the option kubeconfig, or set KUBECONFIG" in missing["msg"]
    assert "https://127.0.0.1:1 does not answer" in closed["msg"]
    assert 'User "nobody" cannot' in forbidden["msg"]
    assert "other" in context["msg"]


def test_kubeconfig_comes_from_the_environment(cluster: Cluster, namespace: str, play: Play) -> None:
    (result,) = play.run(
        {
            "wasmbed.edge.edge_device_info": {"namespace": namespace},
            "environment": {"KUBECONFIG": str(cluster.kubeconfig)},
        }
    )
    assert result["devices"] == []
