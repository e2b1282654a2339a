"""What a host installs from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lab_site import ROOT, ansible, check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site


@pytest.fixture(scope="module")
def hosts(site: Site) -> list[str]:
    return site.group("site")


def test_the_bundle_is_the_hosts_only_source_of_packages(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        sources = site.run(host, "apt-get indextargets --format '$(REPO_URI)'").split()
        assert set(sources) == {"file:/var/lib/wasmbed/bundle/debs/"}


def test_the_registrys_package_can_be_installed_without_a_network(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        output = site.run(host, "apt-get --simulate install --no-install-recommends docker-registry")
        assert "docker-registry" in output


def test_modules_have_what_they_need(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        site.run(host, "python3 -c 'import cryptography' && openssl version")


def test_a_host_with_a_changed_file_is_refused_by_name(site: Site, hosts: list[str]) -> None:
    """The copy claims to be the bundle, as one does that was changed on the host after it had been received."""
    host = hosts[0]
    site.run(
        host,
        "rm -rf /tmp/changed && mkdir /tmp/changed && cp -r /var/lib/wasmbed/bundle/modules /tmp/changed"
        " && for file in /tmp/changed/modules/*.wasm; do printf x >> $file; break; done",
    )
    try:
        manifest = json.loads((ROOT / site.variable("bundle_dir") / "manifest.json").read_text())
        manifest["files"] = {name: digest for name, digest in manifest["files"].items() if name.startswith("modules/")}
        changed = site.run(host, "ls /tmp/changed/modules/*.wasm").split()[0].rsplit("/", 1)[1]
        site.run(host, f"cat > /tmp/changed/manifest.json <<'END'\n{json.dumps(manifest)}\nEND")
        result = ansible(
            host,
            "wasmbed.edge.bundle_manifest",
            path="/tmp/changed",
            state="compared",
            manifest=manifest,
            stamp="/tmp/changed.stamp",
        )
        assert changed in result.stdout
    finally:
        site.run(host, "rm -rf /tmp/changed /tmp/changed.stamp")


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("bundle_host") == {}
