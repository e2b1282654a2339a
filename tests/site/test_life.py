"""An application's life on a real site: the seed's manifests, update, scale, deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.site import artifacts
from tests.site.conftest import ROOT, application, device
from tests.support.seed import SEED_APPLICATION, SEED_DEVICE

if TYPE_CHECKING:
    from tests.site.conftest import Site


def test_seed_manifests_wait_for_the_label_and_then_run(site: Site) -> None:
    """Word for word as the platform's description has them, in a namespace of their own."""
    space = "--namespace=seed"
    site.kubectl("create", "namespace", "seed")
    try:
        site.kubectl("apply", space, "-f", "-", text=SEED_DEVICE)
        site.kubectl("apply", space, "-f", "-", text=SEED_APPLICATION)
        wanted = ("wasmapplication/drone-monitoring-app", space, "--timeout=40s")
        site.kubectl("wait", *wanted, "--for=jsonpath={.status.reason}=NoMatchingDevice")
        site.kubectl("wait", *wanted, "--for=jsonpath={.status.phase}=Pending")
        site.kubectl("label", space, "edgedevice", "drone-alpha-001", "drone-type=quadcopter")
        site.kubectl("wait", *wanted, "--for=jsonpath={.status.phase}=Running")
        lines = site.wait("a line in the journal", lambda: site.log("drone-monitoring-app", namespace="seed"))
        assert lines[0]["WASMBED_DEVICE"] == "seed/drone-alpha-001"
    finally:
        site.kubectl("delete", "namespace", "seed", "--timeout=40s")


def test_update_runs_the_new_digest_and_ends_the_old(site: Site) -> None:
    first = site.registry.push("site/update", "v1", artifacts.counting("update-one"))
    second = site.registry.push("site/update", "v2", artifacts.counting("update-two"))
    site.apply(device("site-update", "update"), application("update", first, "update"))
    old = site.wait_phase("update", "Running")["resolvedDigest"]
    site.apply(application("update", second, "update"))
    status = site.wait(
        "the second digest running",
        lambda: (
            (found := site.application("update"))["resolvedDigest"] != old and found["phase"] == "Running" and found
        ),
    )
    assert status["counts"] == {"selected": 1, "running": 1, "failed": 0, "pending": 0}
    site.wait("ticks of the new", lambda: "update-two tick" in [line["MESSAGE"] for line in site.log("update")])
    lines = [line["MESSAGE"] for line in site.log("update")]
    assert "update-one tick" not in lines[lines.index("update-two started") :]


def test_moved_tag_changes_nothing_until_the_image_is_changed(site: Site) -> None:
    image = site.registry.push("site/moved", "v1", artifacts.counting("moved-one"))
    site.apply(device("site-moved", "moved"), application("moved", image, "moved"))
    before = site.wait_phase("moved", "Running")["resolvedDigest"]
    site.registry.push("site/moved", "v1", artifacts.counting("moved-two"))
    site.kubectl("label", "edgedevice", "site-moved", "touched=yes")
    site.kubectl("annotate", "wasmapplication", "moved", "touched=yes")
    site.apply(device("site-moved-2", "moved"))
    status = site.wait(
        "two devices", lambda: (found := site.application("moved"))["counts"].get("running") == 2 and found
    )
    assert status["resolvedDigest"] == before
    assert "moved-two started" not in [line["MESSAGE"] for line in site.log("moved")]


def test_labels_scale_an_application_and_deletion_leaves_nothing(site: Site) -> None:
    image = site.registry.push("site/scale", "v1", artifacts.counting("scale"))
    modules = site.get("gateway", "gw1")["status"]["modules"]
    devices = [device(f"site-scale-{number}", "scale") for number in range(5)]
    site.apply(*devices, application("scale", image, "scale"))
    site.wait("5 running", lambda: site.application("scale").get("counts", {}).get("running") == 5)
    site.kubectl("label", "--overwrite", "edgedevice", "site-scale-4", "wasmbed-test=off")
    site.wait(
        "4 running",
        lambda: site.application("scale")["counts"] == {"selected": 4, "running": 4, "failed": 0, "pending": 0},
    )
    site.wait("4 modules more", lambda: site.get("gateway", "gw1")["status"]["modules"] == modules + 4)
    site.kubectl("delete", "wasmapplication", "scale", "--timeout=40s")
    site.wait("as many modules as before", lambda: site.get("gateway", "gw1")["status"]["modules"] == modules)
    left = site.get("placements", "--all-namespaces")["items"]
    assert not [item for item in left if item["spec"]["application"]["name"] == "scale"]
    moment = site.ssh("gw1", "date +%s").strip()
    site.wait("two more seconds on the gateway", lambda: int(site.ssh("gw1", "date +%s")) >= int(moment) + 2)
    assert site.log("scale", f"@{moment}") == []


def test_examples_of_the_repository_run(site: Site) -> None:
    """What the demo deployed, and what the README tells a newcomer to apply by hand."""
    site.kubectl("apply", "-f", str(ROOT / "examples/hello/application.yaml"))
    site.wait_phase("hello", "Running")
    assert any("hello from" in line["MESSAGE"] for line in site.log("hello"))
