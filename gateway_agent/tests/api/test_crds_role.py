"""The role crds against the real API server: it creates nothing twice and its check mode says what would change."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import Cluster

PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  roles: [wasmbed.edge.crds]
"""


class Role:
    """Runs the role and reads its recap."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._playbook = folder / "play.yml"
        self._playbook.write_text(PLAYBOOK)

    def run(self, *arguments: str, kubeconfig: Path | None = None) -> dict[str, Any]:
        environment = os.environ | {
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        variables = {
            "crds_kubeconfig": str(kubeconfig or self._cluster.kubeconfig),
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(self._playbook)]
        done = subprocess.run(
            [*command, "-e", json.dumps(variables), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        result = json.loads(done.stdout[done.stdout.index("{") :])
        return {"stats": result["stats"]["localhost"], "text": done.stdout}


@pytest.fixture
def role(cluster: Cluster, tmp_path: Path) -> Role:
    return Role(cluster, tmp_path)


def test_role_changes_nothing_twice_and_repairs_what_was_changed(cluster: Cluster, role: Role) -> None:
    assert role.run()["stats"]["failures"] == 0
    assert role.run()["stats"]["changed"] == 0
    patch = '[{"op": "replace", "path": "/spec/names/shortNames", "value": ["other"]}]'
    cluster.kubectl("patch", "crd", "gateways.wasmbed.io", "--type=json", "-p", patch)
    names = ("get", "crd", "gateways.wasmbed.io", "-o", "jsonpath={.spec.names.shortNames}")
    checked = role.run("--check", "--diff")
    assert checked["stats"]["changed"] == 1
    assert "wgw" in checked["text"]
    assert cluster.kubectl(*names).stdout == '["other"]'
    assert role.run()["stats"]["changed"] == 1
    assert cluster.kubectl(*names).stdout == '["wgw"]'


def test_missing_kubeconfig_fails_with_what_to_do_but_not_in_check_mode(role: Role, tmp_path: Path) -> None:
    failed = role.run(kubeconfig=tmp_path / "nothing")
    assert failed["stats"]["failures"] == 1
    assert "run the role wasmbed.edge.control_plane first" in failed["text"]
    checked = role.run("--check", kubeconfig=tmp_path / "nothing")
    assert (checked["stats"]["failures"], checked["stats"]["changed"]) == (0, 0)
