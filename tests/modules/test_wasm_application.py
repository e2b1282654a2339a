"""wasm_application and wasm_application_info against a real API server; the test plays the controller."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.modules.conftest import Play
    from tests.support.cluster import Cluster

SPEC: dict[str, Any] = {
    "wasmImage": "registry.wasmbed.io/examples/hello:v1.0.0",
    "targetDevices": [{"deviceType": "drone", "selector": {"matchLabels": {"drone-type": "quadcopter"}}}],
    "resources": {"limits": {"memory": "16Mi"}},
    "runtime": {"config": {"maxStack": 65536}},
    "communication": {"px4": {"enabled": True, "systemId": 1}},
    "env": [{"name": "LOG_LEVEL", "value": "debug"}],
}
MANIFEST: dict[str, Any] = {
    "apiVersion": "wasmbed.io/v1",
    "kind": "WasmApplication",
    "metadata": {"name": "hello", "labels": {"team": "a"}},
    "spec": SPEC,
}
PENDING = {"phase": "Pending", "reason": "NoMatchingDevice", "message": "no device has drone-type=quadcopter"}
DEPLOYING = {"phase": "Deploying", "counts": {"selected": 2, "running": 1, "failed": 0, "pending": 1}}
RUNNING = {"phase": "Running", "counts": {"selected": 2, "running": 2, "failed": 0, "pending": 0}}
INVALID = {
    "phase": "Failed",
    "reason": "InvalidModule",
    "message": "import wasmbed:nope is not granted",
    "counts": {"selected": 1, "running": 0, "failed": 1, "pending": 0},
    "devices": [
        {
            "name": "drone-7",
            "gateway": "gw1",
            "state": "Failed",
            "reason": "InvalidModule",
            "message": "import wasmbed:nope is not granted",
        }
    ],
}


def task(check: bool = False, **options: Any) -> dict[str, Any]:
    return {"wasmbed.edge.wasm_application": options, "check_mode": check}


class Controller:
    """Writes the status as wasmbed-controller does: a step each time a line that has the step's word is printed."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def write(self, status: dict[str, Any]) -> None:
        item = self.read()
        patch = {
            "status": {"observedGeneration": item["metadata"]["generation"], "reason": "", "message": "", **status}
        }
        arguments = ("patch", "wasmapplication/hello", "-n", self._namespace, "--subresource=status", "--type=merge")
        self._cluster.kubectl(*arguments, "-p", json.dumps(patch))

    def read(self) -> dict[str, Any]:
        output = self._cluster.kubectl("get", "wasmapplication/hello", "-n", self._namespace, "-o", "json").stdout
        return dict(json.loads(output))

    def steps(self, *steps: tuple[str, dict[str, Any]]) -> Callable[[str], None]:
        """Return a function for lines; each step (word of a line, status) is taken once, in order."""
        left = list(steps)

        def on_line(line: str) -> None:
            if left and f" s: {left[0][0]}" in line:
                self.write(left.pop(0)[1])

        return on_line


@pytest.fixture
def controller(cluster: Cluster, namespace: str) -> Controller:
    return Controller(cluster, namespace)


def test_waits_until_it_runs_and_prints_each_change(kube_play: Play, controller: Controller, namespace: str) -> None:
    (result,) = kube_play.run(
        task(definition=MANIFEST), on_line=controller.steps(("Pending", DEPLOYING), ("Deploying", RUNNING))
    )
    assert result["changed"] is True
    assert result["phase"] == "Running"
    assert result["application"]["status"]["counts"]["running"] == 2
    assert [entry["phase"] for entry in result["progress"]] == ["Pending", "Deploying", "Running"]
    assert result["progress"][1]["counts"] == DEPLOYING["counts"]
    assert [entry["at_s"] for entry in result["progress"]] == sorted(entry["at_s"] for entry in result["progress"])
    printed = [line for line in kube_play.lines if line.startswith(f"{namespace}/hello")]
    assert [line.split("s: ", 1)[1].strip() for line in printed] == [
        "Pending",
        "Deploying, 1 of 2 devices running",
        "Running, 2 of 2 devices running",
    ]


def test_a_running_application_is_left_alone(kube_play: Play, controller: Controller) -> None:
    kube_play.run(task(definition=MANIFEST, wait=False))
    controller.write(RUNNING)
    check, real = kube_play.run(task(definition=MANIFEST, check=True), task(definition=MANIFEST))
    assert check["changed"] is real["changed"] is False
    assert [entry["phase"] for entry in real["progress"]] == ["Running"]


def test_the_status_of_an_earlier_spec_is_not_believed(kube_play: Play, controller: Controller) -> None:
    kube_play.run(task(definition=MANIFEST, wait=False))
    controller.write(RUNNING)
    newer = {**MANIFEST, "spec": {**SPEC, "wasmImage": "registry.wasmbed.io/examples/hello:v2.0.0"}}
    (result,) = kube_play.run(task(definition=newer), on_line=controller.steps(("Pending", RUNNING)))
    assert result["changed"] is True
    assert [entry["phase"] for entry in result["progress"]] == ["Pending", "Running"]
    assert result["diff"]["before"]["spec"]["wasmImage"].endswith(":v1.0.0")
    assert result["diff"]["after"]["spec"]["wasmImage"].endswith(":v2.0.0")


def test_an_invalid_module_fails_at_once_with_the_clusters_reason(kube_play: Play, controller: Controller) -> None:
    started = time.monotonic()
    (result,) = kube_play.run(
        task(definition=MANIFEST, wait_timeout=115), on_line=controller.steps(("Pending", INVALID))
    )
    assert time.monotonic() - started < 100
    assert result["failed"]
    assert "Failed, 0 of 1 devices running: InvalidModule: import wasmbed:nope is not granted" in result["msg"]
    assert "drone-7 on gw1: InvalidModule" in result["msg"]
    assert result["phase"] == "Failed"


def test_a_phase_that_does_not_come_is_reported_with_the_reason(kube_play: Play, controller: Controller) -> None:
    unseen, waiting = kube_play.run(
        task(definition=MANIFEST, wait_timeout=1),
        task(definition=MANIFEST, wait_timeout=5),
        on_line=lambda line: controller.write(PENDING) if " s: Pending" in line and "NoMatching" not in line else None,
    )
    assert unseen["failed"]
    assert waiting["failed"]
    assert "not Running after 5 s: it is Pending: NoMatchingDevice: no device has" in waiting["msg"]
    pending = kube_play.run(task(definition=MANIFEST, wait_phase="Pending"))[0]
    assert not pending.get("failed")


def test_without_a_controller_it_is_asked_for(kube_play: Play) -> None:
    (result,) = kube_play.run(task(definition=MANIFEST, wait_timeout=0.5))
    assert "is wasmbed-controller running?" in result["msg"]
    assert result["changed"] is True


def test_the_module_waits_itself_where_nothing_can_be_printed(
    kube_play: Play, controller: Controller, cluster: Cluster, namespace: str
) -> None:
    stop = threading.Event()

    def play_controller() -> None:
        arguments = ("get", "wasmapplication/hello", "-n", namespace)
        while not stop.wait(0.1):
            if cluster.kubectl(*arguments, check=False).returncode == 0:
                controller.write(RUNNING)
                return

    thread = threading.Thread(target=play_controller)
    thread.start()
    try:
        # The callback keeps the first answer of an asynchronous task, not the last.
        shown = kube_play.run(
            {**task(definition=MANIFEST), "async": 60, "poll": 1, "register": "result"},
            {"ansible.builtin.debug": {"var": "result"}},
        )[1]
    finally:
        stop.set()
        thread.join()
    result = shown["result"]
    assert result["phase"] == "Running"
    assert result["progress"][-1]["phase"] == "Running"
    assert not [line for line in kube_play.lines if line.startswith(namespace)]


def test_check_mode_asks_the_server_and_keeps_nothing(kube_play: Play, cluster: Cluster, namespace: str) -> None:
    bad = {**MANIFEST, "spec": {**SPEC, "wasmImage": "registry.wasmbed.io/hello"}}
    typo = {**MANIFEST, "spec": {**SPEC, "targetDevice": []}}
    check, refused, unknown = kube_play.run(
        task(definition=MANIFEST, check=True), task(definition=bad, check=True), task(definition=typo, check=True)
    )
    assert check["changed"] is True
    assert "application" not in check
    assert "spec.wasmImage must be host/repository:tag" in refused["msg"]
    assert "targetDevice" in unknown["msg"]
    assert cluster.kubectl("get", "wasmapplications", "-n", namespace, "-o", "name").stdout == ""
    real = kube_play.run(task(definition=MANIFEST, wait=False))[0]
    assert real["diff"] == check["diff"]


def test_options_and_file_say_the_same_as_a_manifest(kube_play: Play, tmp_path: Path) -> None:
    file = tmp_path / "application.yaml"
    file.write_text(yaml.safe_dump(MANIFEST))
    two = tmp_path / "two.yaml"
    two.write_text(f"{yaml.safe_dump(MANIFEST)}---\n{yaml.safe_dump(MANIFEST)}")
    device = {**MANIFEST, "kind": "EdgeDevice"}
    by_options, by_file, by_manifest, twice, other, both, nothing = kube_play.run(
        task(name="hello", labels={"team": "a"}, spec=SPEC, wait=False),
        task(src=str(file), wait=False),
        task(definition={**MANIFEST, "status": {"phase": "Running"}}, wait=False),
        task(src=str(two), wait=False),
        task(definition=device, wait=False),
        task(definition=MANIFEST, spec=SPEC, wait=False),
        task(name="hello", wait=False),
    )
    assert by_options["changed"] is True
    assert by_file["changed"] is by_manifest["changed"] is False
    assert "2 documents" in twice["msg"]
    assert "EdgeDevice, not wasmbed.io/v1 WasmApplication" in other["msg"]
    assert "mutually exclusive" in both["msg"]
    assert "has no spec" in nothing["msg"]


def test_the_manifests_namespace_goes_first(kube_play: Play) -> None:
    named = {**MANIFEST, "metadata": {"name": "hello", "namespace": "default"}}
    result, info, gone = kube_play.run(
        task(definition=named, wait=False),
        {"wasmbed.edge.wasm_application_info": {"name": "hello", "namespace": "default"}},
        task(definition=named, state="absent"),
    )
    assert result["application"]["metadata"]["namespace"] == "default"
    assert [item["metadata"]["name"] for item in info["applications"]] == ["hello"]
    assert gone["changed"] is True


def test_absent_waits_until_it_is_gone_and_says_what_holds_it(
    kube_play: Play, controller: Controller, cluster: Cluster, namespace: str
) -> None:
    held = {**MANIFEST, "metadata": {"name": "hello", "finalizers": ["wasmbed.io/placements"]}}
    created, check, stuck = kube_play.run(
        task(definition=held, wait=False),
        task(name="hello", state="absent", check=True),
        task(name="hello", state="absent", wait_timeout=1),
    )
    assert created["changed"] is check["changed"] is True
    assert "still there after 1 s, held by wasmbed.io/placements" in stuck["msg"]
    assert "deletionTimestamp" in controller.read()["metadata"]
    patch = '{"metadata":{"finalizers":null}}'
    timer = threading.Timer(
        1.0,
        cluster.kubectl,
        ("patch", "wasmapplication/hello", "-n", namespace, "--type=merge", "-p", patch),
    )
    timer.start()
    gone, again = kube_play.run(task(name="hello", state="absent"), task(name="hello", state="absent"))
    timer.join()
    assert not gone.get("failed")
    assert again["changed"] is False
    assert "application" not in gone
