"""The hosts of the lab: real ones, closed ones, without a way out."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_site import ROOT, check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site


@pytest.fixture(scope="module")
def hosts(site: Site) -> list[str]:
    return site.group("site")


def test_systemd_runs_every_host(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        assert site.run(host, "ps -p 1 -o comm= 2>/dev/null || cat /proc/1/comm").strip() == "systemd"
        assert site.host(host).run("systemctl is-system-running --wait").stdout.strip() == "running"


def test_hosts_have_no_way_out(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        assert "default" not in site.run(host, "ip route show")
        assert site.host(host).run("ip route get 192.0.2.1").rc != 0


def test_names_resolve_to_the_inventorys_addresses(site: Site, hosts: list[str]) -> None:
    wanted = {host["name"]: host["address"] for host in site.variable("lab_hosts")}
    wanted |= {name: address for address, names in site.variable("lab_etc_hosts").items() for name in names}
    for host in hosts:
        for name, address in wanted.items():
            assert site.run(host, f"getent ahostsv4 {name}").split()[0] == address


def test_hosts_reach_each_other(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        for other in set(hosts) - {host}:
            site.run(host, f"timeout 5 bash -c '</dev/tcp/{other}/22'")


def test_sshd_takes_no_password(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        options = f"{site.variable('ansible_ssh_common_args', host)} -o PubkeyAuthentication=no -o BatchMode=yes"
        target = f"root@{site.variable('ansible_host', host)}"
        result = subprocess.run(
            ["ssh", *options.split(), target], capture_output=True, text=True, check=False, timeout=20
        )
        assert result.returncode == 255
        assert "Permission denied (publickey)" in result.stderr


def test_hosts_see_the_bundle_and_cannot_change_it(site: Site, hosts: list[str]) -> None:
    manifest = ROOT / site.variable("bundle_dir", default="build/bundle") / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    for host in hosts:
        assert site.run(host, "sha256sum /var/lib/wasmbed/bundle/manifest.json").split()[0] == digest
        assert site.host(host).run("touch /var/lib/wasmbed/bundle/manifest.json").rc != 0


def test_private_keys_of_the_lab_are_closed(site: Site) -> None:
    directory = Path(site.variable("lab_directory"))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "id_ed25519").stat().st_mode & 0o777 == 0o600


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("lab") == {}
