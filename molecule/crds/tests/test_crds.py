"""The API's kinds as the cluster serves them. Their rules have tests of their own in gateway_agent/tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab_site import ROOT, check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site

KINDS = {
    "wasmapplications": ("wasmapp", True),
    "edgedevices": ("edev", True),
    "gateways": ("wgw", False),
    "deviceslices": ("dslice", True),
    "placements": ("plc", True),
    "enrolmentrequests": ("enr", True),
}


@pytest.mark.parametrize("plural", KINDS)
def test_kind_is_served_with_short_name_and_status(site: Site, plural: str) -> None:
    short, namespaced = KINDS[plural]
    definition = site.get("crd", f"{plural}.wasmbed.io")
    conditions = {condition["type"]: condition["status"] for condition in definition["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    names = definition["status"]["acceptedNames"]
    assert names["shortNames"] == [short]
    assert (definition["spec"]["scope"] == "Namespaced") is namespaced
    (version,) = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    site.kubectl("get", short)


def test_every_field_is_explained(site: Site) -> None:
    assert "wasmImage" in site.kubectl("explain", "wasmapplications.spec").stdout
    for plural in KINDS:
        assert "<none>" not in site.kubectl("explain", f"{plural}.spec", "--recursive=false").stdout


@pytest.mark.parametrize("manifest", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("examples/*/*.yaml")))
def test_examples_are_accepted(site: Site, manifest: str) -> None:
    site.kubectl("apply", "--dry-run=server", "-f", str(ROOT / manifest))


def test_a_manifest_without_image_is_refused_by_the_fields_name(site: Site) -> None:
    manifest = (
        "apiVersion: wasmbed.io/v1\nkind: WasmApplication\nmetadata: {name: broken}\n"
        "spec: {targetDevices: [{deviceType: drone}]}\n"
    )
    result = site.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest, check=False)
    assert result.returncode != 0
    assert "wasmImage" in result.stderr


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("crds") == {}
