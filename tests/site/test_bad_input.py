"""Each bad application gets its phase and reason, and none disturbs its neighbour on the same gateway."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.site import artifacts
from tests.site.conftest import Site, application, device

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
# name -> (module or reference, further spec, phase, reason, what the message says)
CASES: dict[str, tuple[bytes | str, dict[str, Any], str, str, str]] = {
    "unknown-image": ("registry.wasmbed.io/site/none:v1", {}, "Failed", "ImagePullFailed", "not found"),
    "wrong-digest": (f"registry.wasmbed.io/site/good@sha256:{'0' * 64}", {}, "Failed", "ImagePullFailed", "not found"),
    "not-wasm": (artifacts.NOT_WASM, {}, "Failed", "InvalidModule", "WebAssembly"),
    "unknown-import": (artifacts.UNKNOWN_IMPORT, {}, "Failed", "InvalidModule", "wasmbed:warp"),
    "never-returns": (
        artifacts.NEVER_RETURNS,
        {"runtime": {"config": {"maxCpuMillisPerCall": 500}}},
        "Failed",
        "DeviceError",
        "CPU",
    ),
    "allocates": (
        artifacts.ALLOCATES,
        {"resources": {"limits": {"memory": "4Mi"}}},
        "Failed",
        "DeviceError",
        "memory",
    ),
    "recurses": (artifacts.RECURSES, {}, "Failed", "DeviceError", "stack"),
    "no-device": ("registry.wasmbed.io/site/good:v1", {}, "Pending", "NoMatchingDevice", "EdgeDevice"),
    "too-large": (artifacts.too_large(), {}, "Failed", "ImagePullFailed", "maxArtifactBytes"),
}


@dataclass(frozen=True)
class Neighbourhood:
    """The site, and the second of the epoch on gw1 at which the healthy application was deployed."""

    site: Site
    since: int


@pytest.fixture(scope="module")
def neighbour(site: Site) -> Iterator[Neighbourhood]:
    """A healthy application beside which all bad ones are deployed at once."""
    image = site.registry.push("site/good", "v1", artifacts.counting("neighbour"))
    since = int(site.ssh("gw1", "date +%s"))
    site.apply(device("site-bad-1", "bad"), application("neighbour", image, "bad"))
    site.wait_phase("neighbour", "Running")
    manifests = []
    for name, (source, spec, *_) in CASES.items():
        reference = source if isinstance(source, str) else site.registry.push(f"site/{name}", "v1", source)
        manifests.append(application(f"bad-{name}", reference, "nowhere" if name == "no-device" else "bad", **spec))
    site.apply(*manifests)
    yield Neighbourhood(site, since)
    site.kubectl("delete", "wasmapplications", *(f"bad-{name}" for name in CASES), "neighbour", "--timeout=40s")
    site.kubectl("delete", "edgedevice", "site-bad-1")


@pytest.mark.parametrize("name", CASES)
def test_bad_application_gets_its_phase_and_reason(neighbour: Neighbourhood, name: str) -> None:
    _, _, phase, reason, words = CASES[name]
    status = neighbour.site.wait(
        f"bad-{name} in {phase}/{reason}",
        lambda: (
            (found := neighbour.site.application(f"bad-{name}")).get("reason") == reason
            and found.get("phase") == phase
            and found
        ),
    )
    assert words in status["message"]
    description = neighbour.site.kubectl("describe", "wasmapplication", f"bad-{name}")
    assert reason in description
    assert words in description


def test_neighbour_ran_on_beside_all_of_them(neighbour: Neighbourhood) -> None:
    """It neither stopped nor was started again, and missed no more than a tick or two of its second."""
    status = neighbour.site.application("neighbour")
    assert status["phase"] == "Running"
    placement = next(
        item
        for item in neighbour.site.get("placements", "--namespace=wasmbed-gw-gw1")["items"]
        if item["spec"]["application"]["name"] == "neighbour"
    )
    assert [entry.get("restarts", 0) for entry in placement["status"]["devices"]] == [0]

    def lines() -> list[dict[str, str]]:
        return neighbour.site.log("neighbour", f"@{neighbour.since}")

    neighbour.site.wait("ten ticks", lambda: [line["MESSAGE"] for line in lines()].count("neighbour tick") >= 10)
    found = lines()
    assert [line["MESSAGE"] for line in found].count("neighbour started") == 1
    ticks = [int(line["__REALTIME_TIMESTAMP"]) / 1e6 for line in found if line["MESSAGE"] == "neighbour tick"]
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 3.0
