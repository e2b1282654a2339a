"""The controller: what it does, what it may, and what it is allowed on its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab_site import check_mode_changes, playbook, wait

if TYPE_CHECKING:
    from lab_site import Site

UNIT = "wasmbed-controller.service"
APPLICATION = """
apiVersion: wasmbed.io/v1
kind: WasmApplication
metadata: {name: molecule-nobody}
spec:
  wasmImage: registry.wasmbed.io/molecule/nobody:v1
  targetDevices: [{deviceType: a-type-that-no-device-has}]
"""


def may(site: Site, verb: str, resource: str, namespace: str) -> bool:
    where = ["--all-namespaces"] if namespace == "*" else ["--namespace", namespace]
    # kubectl would take what follows a slash for an object's name.
    resource, _, subresource = resource.partition("/")
    what = [resource, f"--subresource={subresource}"]
    result = site.kubectl("auth", "can-i", verb, *what, "--as=wasmbed:controller", *where, check=False)
    return result.stdout.strip() == "yes"


def is_ready(site: Site, host: str) -> bool:
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9081/readyz', timeout=5).status)"
    return site.host(host).run(f'python3 -c "{script}"').stdout.strip() == "200"


def test_controller_is_ready_and_holds_the_lease(site: Site, controller_host: str) -> None:
    wait("the controller is ready", lambda: is_ready(site, controller_host))
    assert site.get("lease", "wasmbed-controller", "-n", "wasmbed-system")["spec"]["holderIdentity"]


def test_an_application_without_devices_is_pending_and_goes_without_trace(site: Site) -> None:
    site.kubectl("apply", "-f", "-", stdin=APPLICATION)
    try:

        def reconciled() -> bool:
            status = site.get("wasmapplication", "molecule-nobody").get("status", {})
            return (status.get("phase"), status.get("reason")) == ("Pending", "NoMatchingDevice")

        wait("phase Pending, reason NoMatchingDevice", reconciled)
    finally:
        site.kubectl("delete", "wasmapplication", "molecule-nobody", "--timeout=20s")
    assert site.get("placements", "-A", "-l", "wasmbed.io/application=molecule-nobody")["items"] == []


def test_controller_works_again_after_a_kill(site: Site, controller_host: str) -> None:
    site.kill(controller_host, UNIT)
    wait("the controller is ready", lambda: is_ready(site, controller_host), 60)


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("list", "wasmapplications.wasmbed.io", "*", True),
        ("patch", "edgedevices.wasmbed.io/status", "default", True),
        ("patch", "placements.wasmbed.io", "wasmbed-gw-x", True),
        ("patch", "placements.wasmbed.io/status", "wasmbed-gw-x", False),
        ("list", "secrets", "*", False),
        ("get", "secrets", "kube-system", False),
        ("create", "pods", "default", False),
        ("approve", "certificatesigningrequests.certificates.k8s.io", "*", False),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", "*", False),
        ("impersonate", "users", "*", False),
    ],
)
def test_controller_may_do_its_work_and_no_more(
    site: Site, verb: str, resource: str, namespace: str, allowed: bool
) -> None:
    assert may(site, verb, resource, namespace) is allowed


def test_unit_is_shut_off(site: Site, controller_host: str) -> None:
    assert site.exposure(controller_host, UNIT) <= 2.0
    process = site.process(controller_host, UNIT)
    assert int(process["CapBnd"], 16) == 0
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    assert (
        site.run(controller_host, f"systemctl show --property=MemoryDenyWriteExecute --value {UNIT}").strip() == "yes"
    )


def test_credentials_are_read_by_the_unit_alone(site: Site, controller_host: str) -> None:
    paths = "/etc/wasmbed/pki/controller.key /etc/wasmbed/controller-registry.json"
    assert set(site.modes(controller_host, paths).values()) == {"600 root:root"}
    paths = "/etc/wasmbed/controller.yaml /etc/wasmbed/controller.kubeconfig"
    assert set(site.modes(controller_host, paths).values()) == {"640 root:wasmbed-controller"}
    key = f"/run/credentials/{UNIT}/controller.key"
    for user in ("nobody", "docker-registry"):
        assert site.host(controller_host).run(f"setpriv --reuid={user} --clear-groups cat {key}").rc != 0


def test_a_password_is_in_no_log_and_no_process_list(site: Site, controller_host: str) -> None:
    password = (site.directory / "secrets/registry-pull").read_text().strip()
    assert password not in site.run(controller_host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true")
    assert site.host(controller_host).run(f"journalctl --no-pager | grep -c -e {password}").stdout.strip() == "0"


def test_preflight_says_what_to_change() -> None:
    result = playbook(
        "molecule/controller/converge.yml",
        "--tags=controller_install",
        "-e",
        "controller_registry_host=nowhere.invalid:5000",
    )
    assert result.returncode != 0
    words = " ".join(result.stdout.split())
    assert "the name nowhere.invalid does not resolve" in words
    assert "add it to the site's DNS or to /etc/hosts" in words


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("controller") == {}
