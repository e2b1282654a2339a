"""The CRDs against a real API server: the seed's manifests, every CEL rule broken once, defaults, descriptions."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.cluster import CRDS, Cluster
from tests.support.processes import ROOT
from tests.support.seed import SEED_APPLICATION, SEED_DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "A" * 43 + "="
OTHER_KEY = "B" * 42 + "A="
DIGEST = "sha256:" + "0" * 64

GOOD: dict[str, dict[str, Any]] = {
    "WasmApplication": {"wasmImage": "registry.example/a:v1", "targetDevices": [{"deviceType": "drone"}]},
    "EdgeDevice": {"deviceType": "drone", "publicKey": KEY},
    "Gateway": {"endpoint": "gateway.example:8080"},
    "DeviceSlice": {"gateway": "gw1", "devices": []},
    "Placement": {
        "gateway": "gw1",
        "application": {"namespace": "default", "name": "a", "uid": "u", "generation": 1},
        "image": "registry.example/a:v1",
        "digest": DIGEST,
        "devices": [],
        "limits": {"memoryBytes": 65536, "stackBytes": 1024, "cpuMillisPerCall": 1},
        "grants": ["wasmbed:sys"],
    },
    "EnrolmentRequest": {"deviceName": "d", "publicKey": KEY, "deviceType": "drone", "class": "mcu"},
}


@dataclass(frozen=True)
class Case:
    """A change to a good object that breaks one rule. `to_existing`: the good one exists and the change updates it."""

    kind: str
    says: str
    change: dict[str, Any]
    name: str = "broken"
    to_existing: bool = False
    status: tuple[str, str] | None = None
    accepted: tuple[dict[str, Any], ...] = field(default=())


def _memory(value: object) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": value}}}


def _cpu(value: object) -> dict[str, Any]:
    return {"resources": {"limits": {"cpu": value}}}


def _requirement(operator: str, *values: str) -> dict[str, Any]:
    requirement = {"key": "k", "operator": operator, **({"values": list(values)} if values else {})}
    return {"targetDevices": [{"deviceType": "drone", "selector": {"matchExpressions": [requirement]}}]}


IMU = {"topic": "/{device}/imu", "type": "sensor_msgs/Imu", "direction": "subscribe"}
# Everything a route can have, once.
ROUTES: dict[str, Any] = {
    "topics": [
        IMU
        | {
            "name": "imu",
            "encoding": "json",
            "qos": {"profile": "sensor_data", "reliability": "best_effort", "durability": "volatile", "depth": 1}
            | {"history": "keep_last", "deadline": 0.5, "lifespan": 2},
            "maxRateHz": 50,
            "fields": ["header.stamp"],
            "queue": 8,
            "queueBytes": 65536,
            "drop": "newest",
        }
    ],
    "services": [
        {
            "service": "set",
            "type": "std_srvs/srv/SetBool",
            "direction": "call",
            "timeoutSeconds": 0.5,
            "encoding": "cdr",
        }
    ],
    "actions": [{"action": "~/go", "type": "test_msgs/action/Fibonacci", "direction": "serve", "maxRateHz": 0.1}],
}


def _ros2(section: dict[str, Any]) -> dict[str, Any]:
    return {"communication": {"ros2": section}}


CASES = [
    Case("WasmApplication", "metadata.name must have at most 63", {}, name="a" * 64),
    Case(
        "WasmApplication",
        "spec.wasmImage must be host/repository:tag",
        {"wasmImage": "registry.example/hello"},
        accepted=(
            {"wasmImage": "127.0.0.1:5000/a/b_c/d.e:v1.0"},
            {"wasmImage": f"registry.example/a@{DIGEST}"},
            {"wasmImage": f"registry.example/a:v1@{DIGEST}"},
        ),
    ),
    Case("WasmApplication", "spec.wasmImage must be host/repository:tag", {"wasmImage": "hello:v1"}),
    Case("WasmApplication", "spec.wasmImage must be host/repository:tag", {"wasmImage": "r.example/a@sha256:12"}),
    Case(
        "WasmApplication",
        "matchExpressions: values must be given",
        _requirement("In"),
        accepted=(_requirement("NotIn", "v"), _requirement("Exists")),
    ),
    Case("WasmApplication", "matchExpressions: values must be given", _requirement("Exists", "v")),
    Case(
        "WasmApplication",
        "spec.resources.limits.memory must be a quantity from 64Ki",
        _memory("5Gi"),
        accepted=(_memory("64Ki"), _memory(65536), _memory("4Gi"), _memory("1.5Mi")),
    ),
    Case("WasmApplication", "spec.resources.limits.memory must be a quantity from 64Ki", _memory("much")),
    Case("WasmApplication", "spec.resources.limits.memory must be a quantity from 64Ki", _memory(64)),
    Case(
        "WasmApplication",
        "spec.resources.limits.cpu must be a quantity from 1m",
        _cpu("-1"),
        accepted=(_cpu("100m"), _cpu(2)),
    ),
    Case("WasmApplication", "spec.resources.limits.cpu must be a quantity from 1m", _cpu("0")),
    Case(
        "WasmApplication",
        "env: name must begin with a letter or _",
        {"env": [{"name": "1X", "value": ""}]},
        accepted=({"env": [{"name": "LOG_LEVEL", "value": "3"}]},),
    ),
    Case("EdgeDevice", "metadata.name must have at most 63", {}, name="d" * 64),
    Case("EdgeDevice", "spec.publicKey must not change", {"publicKey": OTHER_KEY}, to_existing=True),
    Case("EdgeDevice", "spec.publicKey must not change", {"publicKey": None}, to_existing=True),
    Case("EdgeDevice", "spec.publicKey must be 32 bytes in base64", {"publicKey": "AAAA"}),
    Case(
        "EdgeDevice",
        "spec.hardware.memory must be a positive quantity",
        {"hardware": {"memory": "0"}},
        accepted=({"hardware": {"memory": 1024, "storage": "8Gi"}},),
    ),
    Case("EdgeDevice", "spec.hardware.storage must be a positive quantity", {"hardware": {"storage": "lots"}}),
    Case(
        "WasmApplication",
        "communication.ros2: topics, services and actions need enabled: true",
        _ros2({"topics": [IMU]}),
        accepted=(_ros2({"enabled": True, "domainId": 7, **ROUTES}), _ros2({"enabled": True}), _ros2({"domainId": 1})),
    ),
    Case(
        "WasmApplication",
        "ros2.topics: fields can be chosen only with direction subscribe",
        _ros2({"enabled": True, "topics": [IMU | {"encoding": "cdr", "fields": ["header"]}]}),
    ),
    Case(
        "WasmApplication",
        "ros2.topics: fields can be chosen only with direction subscribe",
        _ros2({"enabled": True, "topics": [IMU | {"direction": "publish", "fields": ["header"]}]}),
    ),
    Case(
        "WasmApplication",
        "spec.communication.ros2.topics[0].type in body should match",
        _ros2({"enabled": True, "topics": [IMU | {"type": "sensor_msgs/srv/Imu"}]}),
    ),
    Case(
        "WasmApplication",
        'topics[0].direction: Unsupported value: "call"',
        _ros2({"enabled": True, "topics": [IMU | {"direction": "call"}]}),
    ),
    Case(
        "EdgeDevice",
        "spec.location.coordinates must be [latitude, longitude]",
        {"location": {"coordinates": [120.5, 9]}},
        accepted=({"location": {"coordinates": [45, 9]}}, {"location": {"coordinates": [45.4642, 9.19, 120]}}),
    ),
    Case(
        "EdgeDevice",
        "spec.network.gatewayEndpoint must be host:port",
        {"network": {"gatewayEndpoint": "gateway.example"}},
        accepted=({"network": {"gatewayEndpoint": "[2001:db8::1]:8080"}},),
    ),
    Case("Gateway", "metadata.name must have at most 52", {}, name="g" * 53),
    Case("Gateway", "metadata.name must have at most 52", {}, name="gw.1"),
    Case("Gateway", "spec.endpoint must be host:port", {"endpoint": "http://gateway.example:80"}),
    Case("DeviceSlice", "spec.gateway must not change", {"gateway": "gw2"}, to_existing=True),
    Case("Placement", "spec.gateway must not change", {"gateway": "gw2"}, to_existing=True),
    Case(
        "Placement",
        "spec.application must not change",
        {"application": {"namespace": "default", "name": "a", "uid": "other", "generation": 1}},
        to_existing=True,
        accepted=({"application": {"namespace": "default", "name": "a", "uid": "u", "generation": 2}},),
    ),
    Case("Placement", "spec.digest must be sha256:", {"digest": "sha256:abc"}),
    Case("EnrolmentRequest", "spec must not change", {"deviceType": "other"}, to_existing=True),
    Case("EnrolmentRequest", "spec.deviceName must consist of lower-case", {"deviceName": "Drone 1"}),
    Case("EnrolmentRequest", "spec.publicKey must be 32 bytes in base64", {"publicKey": "AAAA"}),
    Case("EnrolmentRequest", "spec.class must be mpu, mcu or riscv", {"class": "gateway"}),
    Case("EnrolmentRequest", "status.phase must not change", {}, to_existing=True, status=("Denied", "Approved")),
]


def _manifest(kind: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(GOOD[kind])
    for key, value in change.items():
        if value is None:
            spec.pop(key)
        else:
            spec[key] = value
    metadata = {"name": name} if kind == "Gateway" else {"name": name, "namespace": "default"}
    return {"apiVersion": "wasmbed.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _rules(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and message of every CEL rule below `node`."""
    if isinstance(node, dict):
        for rule in node.get("x-kubernetes-validations", ()):
            yield path, rule["message"]
        for key, value in node.items():
            yield from _rules(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _rules(value, path)


def _definitions() -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def _schema(definition: dict[str, Any]) -> dict[str, Any]:
    return dict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.says}-{case.name[:8]}")
def test_broken_manifest_is_refused_with_field_and_remedy(cluster: Cluster, case: Case) -> None:
    name = f"existing-{CASES.index(case)}" if case.to_existing else case.name
    try:
        if case.to_existing:
            cluster.kubectl("create", "-f-", stdin=yaml.safe_dump(_manifest(case.kind, name, {})))
        if case.status:
            before, after = case.status
            patch = ["patch", case.kind, name, "-n", "default", "--subresource=status", "--type=merge", "-p"]
            cluster.kubectl(*patch, f'{{"status": {{"phase": "{before}"}}}}')
            refused = cluster.kubectl(*patch, f'{{"status": {{"phase": "{after}"}}}}', check=False)
        else:
            verb = ["replace"] if case.to_existing else ["create", "--dry-run=server"]
            broken = yaml.safe_dump(_manifest(case.kind, name, case.change))
            refused = cluster.kubectl(*verb, "-f-", stdin=broken, check=False)
        assert refused.returncode != 0, f"accepted: {refused.stdout}"
        assert case.says in refused.stderr
        for change in case.accepted:
            good = yaml.safe_dump(_manifest(case.kind, name, change))
            cluster.kubectl(*(["replace"] if case.to_existing else ["create", "--dry-run=server"]), "-f-", stdin=good)
    finally:
        if case.to_existing:
            cluster.kubectl("delete", case.kind, name, "-n", "default", "--ignore-not-found")


def test_every_rule_has_a_case() -> None:
    said = {(case.kind, case.says) for case in CASES}
    for definition in _definitions():
        kind = definition["spec"]["names"]["kind"]
        for path, message in _rules(_schema(definition)):
            assert any(says in message for of, says in said if of == kind), f"{kind}{path} has no case: {message}"


def test_every_message_names_a_field_and_a_remedy() -> None:
    for definition in _definitions():
        for path, message in _rules(_schema(definition)):
            named = [part for part in path.split(".") if part not in {"properties", "items"}][-1:] or ["metadata"]
            assert named[0] in message or "metadata.name" in message or "publicKey" in message or "values" in message
            assert any(word in message for word in (":", ";", ",")), f"{path}: no remedy in {message}"


def test_every_field_has_a_description() -> None:
    def walk(schema: dict[str, Any], path: str) -> None:
        # The API server allows no description of metadata.
        assert path.endswith(".metadata") or schema.get("description", "").endswith("."), f"{path} has no description"
        for name, child in schema.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), dict):
                walk(schema[name], f"{path}[]")

    for definition in _definitions():
        walk(_schema(definition), definition["spec"]["names"]["kind"])


def test_routes_of_placements_are_those_of_applications() -> None:
    definitions = {item["spec"]["names"]["kind"]: _schema(item)["properties"]["spec"] for item in _definitions()}
    application = definitions["WasmApplication"]["properties"]["communication"]["properties"]["ros2"]["properties"]
    placement = definitions["Placement"]["properties"]["ros2"]["properties"]
    # A Placement is written by the controller alone; what it copies was judged already.
    application["topics"]["items"].pop("x-kubernetes-validations")
    assert placement == {key: value for key, value in application.items() if key != "enabled"}


def test_placement_takes_routes_as_they_are(cluster: Cluster) -> None:
    good = _manifest("Placement", "routes", {"ros2": {"domainId": 7, **ROUTES}})
    answer = cluster.kubectl("create", "--dry-run=server", "-ojson", "-f-", stdin=yaml.safe_dump(good))
    assert yaml.safe_load(answer.stdout)["spec"]["ros2"] == good["spec"]["ros2"]


def test_kinds_have_short_names_category_columns_and_status() -> None:
    short = {}
    for definition in _definitions():
        names, version = definition["spec"]["names"], definition["spec"]["versions"][0]
        short[names["plural"]] = names["shortNames"]
        assert names["categories"] == ["wasmbed"]
        assert version["subresources"] == {"status": {}}
        assert version["additionalPrinterColumns"]
    assert short == {
        "wasmapplications": ["wasmapp"],
        "edgedevices": ["edev"],
        "gateways": ["wgw"],
        "deviceslices": ["dslice"],
        "placements": ["plc"],
        "enrolmentrequests": ["enr"],
    }


SEED = f"{SEED_APPLICATION}---{SEED_DEVICE}"


@pytest.mark.parametrize("how", [["create", "--dry-run=server"], ["apply", "--server-side", "--dry-run=server"]])
def test_first_published_manifests_apply_unchanged(cluster: Cluster, how: list[str]) -> None:
    done = cluster.kubectl(*how, "-f-", stdin=SEED)
    assert len(done.stdout.splitlines()) == 2


def test_example_manifests_apply(cluster: Cluster) -> None:
    for path in sorted((ROOT / "examples/hello").glob("*.yaml")):
        cluster.kubectl("create", "--dry-run=server", "-f", str(path))


def test_unknown_field_is_refused(cluster: Cluster) -> None:
    manifest = yaml.safe_dump(_manifest("EdgeDevice", "typo", {"deviceKlass": "mcu"}))
    refused = cluster.kubectl("create", "--dry-run=server", "-f-", stdin=manifest, check=False)
    assert 'unknown field "spec.deviceKlass"' in refused.stderr


def test_gateway_limits_have_defaults(cluster: Cluster) -> None:
    manifest = yaml.safe_dump(_manifest("Gateway", "gw-defaults", {}))
    created = yaml.safe_load(cluster.kubectl("create", "--dry-run=server", "-oyaml", "-f-", stdin=manifest).stdout)
    assert created["spec"]["limits"] == {"maxArtifactBytes": 8388608, "maxModules": 64}
