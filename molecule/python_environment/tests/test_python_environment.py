"""The services' Python environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab_site import ansible, check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site

LINK = "/opt/wasmbed/venv"


@pytest.fixture(scope="module")
def hosts(site: Site) -> list[str]:
    return site.group("controller:gateways:mpu_devices:qemu_hosts")


@pytest.mark.parametrize("program", ["wasmbed-agent", "wasmbed-controller", "wasmbed-runtime"])
def test_program_tells_the_bundles_version(site: Site, hosts: list[str], program: str) -> None:
    wheel = "ls /var/lib/wasmbed/bundle/wheels/wasmbed-*.whl | xargs basename | cut -d- -f2"
    for host in hosts:
        assert site.run(host, wheel).strip() in site.run(host, f"{LINK}/bin/{program} --version")


def test_the_link_leads_to_the_only_environment(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        target = site.run(host, f"readlink {LINK}").strip()
        assert site.run(host, f"ls -d {LINK}-*").split() == [f"/opt/wasmbed/{target}"]


def test_nobody_but_root_may_change_it(site: Site, hosts: list[str]) -> None:
    for host in hosts:
        found = site.run(host, f"find {LINK}/ -not -type l -not -user root; find {LINK}/ -not -type l -perm /022")
        assert found == ""


def test_every_wheel_is_installed_in_the_locked_version(site: Site, hosts: list[str]) -> None:
    script = (
        "import importlib.metadata as m, re; names = lambda t: re.sub('[-_.]+', '-', t).lower();"
        " have = {names(d.metadata['Name']): d.version for d in m.distributions()};"
        " lines = [l for l in open('/var/lib/wasmbed/bundle/wheels/requirements.txt') if re.match('[A-Za-z0-9]', l)];"
        " want = dict(re.match(r'([^=]+)==([^ \\\\\\\\;]+)', l).groups() for l in lines);"
        " want = {names(n): v.strip() for n, v in want.items()};"
        " print({n: v for n, v in want.items() if have.get(n) != v}, len(want))"
    )
    for host in hosts:
        different, count = site.run(host, f'{LINK}/bin/python -c "{script}"').rsplit(" ", 1)
        assert different == "{}"
        assert int(count) > 20


def test_a_changed_wheel_is_refused_and_the_old_environment_stays(site: Site, hosts: list[str]) -> None:
    host = hosts[0]
    site.run(
        host,
        "rm -rf /tmp/changed && mkdir -p /tmp/changed/bin && cd /var/lib/wasmbed/bundle"
        " && ln -s $PWD/bin/uv /tmp/changed/bin"
        " && cp -r wheels manifest.json /tmp/changed && cd /tmp/changed/wheels"
        " && echo '# another key' >> requirements.txt && printf x >> idna-*.whl",
    )
    before = site.run(host, f"readlink {LINK}")
    try:
        result = ansible(host, "wasmbed.edge.python_environment", bundle="/tmp/changed")
        assert result.returncode != 0
        assert "idna" in result.stdout
        assert site.run(host, f"readlink {LINK}") == before
        site.run(host, f"{LINK}/bin/wasmbed-agent --version")
    finally:
        # What was half built goes with the next run.
        site.run(host, "rm -rf /tmp/changed")
        assert ansible(host, "wasmbed.edge.python_environment").returncode == 0
    assert site.run(host, f"readlink {LINK}") == before


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("python_environment") == {}
