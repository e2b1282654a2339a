"""What every unit of ours on the site's hosts is allowed, as systemd itself judges it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.site.conftest import Site

CLUSTER_UNITS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
UNITS = {
    "cp1": (*CLUSTER_UNITS, "docker-registry", "wasmbed-controller"),
    "gw1": ("wasmbed-agent", "wasmbed-runtime"),
}


@pytest.mark.parametrize(("host", "unit"), [(host, unit) for host, units in UNITS.items() for unit in units])
def test_exposure_of_unit_is_at_most_2(site: Site, host: str, unit: str) -> None:
    output = site.ssh(host, f"systemd-analyze security --no-pager {unit}.service")
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", output)
    assert level, output
    assert float(level[1]) <= 2.0, output


@pytest.mark.parametrize("host", UNITS)
def test_hosts_have_no_route_out(site: Site, host: str) -> None:
    assert "default" not in site.ssh(host, "ip route show")


@pytest.mark.parametrize("host", UNITS)
def test_private_keys_are_read_by_their_owner_alone(site: Site, host: str) -> None:
    output = site.ssh(
        host, r"find -L /etc/wasmbed /etc/kubernetes /etc/etcd -name '*.key' -perm /0077 2>/dev/null; true"
    )
    assert output == ""


def test_secrets_are_in_no_process_list(site: Site) -> None:
    for host in UNITS:
        arguments = site.ssh(host, "ps axww -o args")
        assert site.registry.password not in arguments
