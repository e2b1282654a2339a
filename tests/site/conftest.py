"""The site that the demo brought up: its cluster by kubectl, its hosts by ssh, its registry by HTTPS."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.site.artifacts import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build/site"
KUBECONFIG = SITE / "admin.kubeconfig"
TYPE = "drone"


def lab_hosts() -> dict[str, str]:
    """Host name -> address, of the lab's inventory."""
    inventory = yaml.safe_load((ROOT / "inventory/lab/group_vars/all/lab.yml").read_text())
    return {host["name"]: host["address"] for host in inventory["lab_hosts"]}


@dataclass(frozen=True)
class Site:
    """A running site."""

    registry: Registry

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; return what it printed."""
        command = [ROOT / "build/bundle/bin/kubectl", "--kubeconfig", KUBECONFIG, "--request-timeout=20s", *arguments]
        result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        if check and result.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result.stdout + (result.stderr if not check else "")

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return one object, or {} when there is none."""
        output = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        return json.loads(output) if output else {}

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(manifests))

    def ssh(self, host: str, *command: str) -> str:
        """Run a command on a host of the lab as root; return what it printed."""
        options = ["-i", ROOT / "build/lab/id_ed25519", "-o", f"UserKnownHostsFile={ROOT}/build/lab/known_hosts"]
        result = subprocess.run(
            ["ssh", *options, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", f"root@{lab_hosts()[host]}", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, f"{host}: {' '.join(command)}: {result.stderr}"
        return result.stdout

    def application(self, name: str) -> dict[str, Any]:
        """Return the status of an application in the namespace default."""
        return self.get("wasmapplication", name).get("status", {})

    def wait(self, what: str, condition: Callable[[], Any], timeout_s: float = 40.0) -> Any:
        """Wait until condition() is true and return its value; fail with what was waited for."""
        deadline = time.monotonic() + timeout_s
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout_s:.0f} s: {what}")
            time.sleep(0.2)

    def wait_phase(self, name: str, phase: str, timeout_s: float = 40.0) -> dict[str, Any]:
        """Wait until an application has a phase; return its status."""

        def reached() -> dict[str, Any] | None:
            status = self.application(name)
            return status if status.get("phase") == phase else None

        try:
            return self.wait(f"application {name} in phase {phase}", reached, timeout_s)
        except BaseException:
            print(json.dumps(self.application(name), indent=1))
            raise

    def log(self, application: str, since: str = "-1h", namespace: str = "default") -> list[dict[str, str]]:
        """Return an application's lines in the journal of its gateway."""
        field = f"WASMBED_APPLICATION={namespace}/{application}"
        output = self.ssh("gw1", f"journalctl -u wasmbed-agent {field} --since={since} -o json --no-pager")
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The site, as `make demo` leaves it; what the tests made in the namespace default is deleted again."""
    if not KUBECONFIG.exists():
        pytest.fail("there is no site; run `make demo` first")
    password = (SITE / "secrets/registry-push").read_text().strip()
    registry = Registry(f"{lab_hosts()['cp1']}:5000", "push", password, SITE / "pki/site-ca.crt")
    found = Site(registry)
    yield found
    for kind in ("wasmapplications", "edgedevices"):
        found.kubectl("delete", kind, "--selector=wasmbed-test", "--timeout=40s")


def application(name: str, image: str, label: str, **spec: Any) -> dict[str, Any]:
    """Return a WasmApplication for the devices of type drone with the label wasmbed-test=<label>."""
    return {
        "apiVersion": "wasmbed.io/v1",
        "kind": "WasmApplication",
        "metadata": {"name": name, "labels": {"wasmbed-test": "yes"}},
        "spec": {
            "wasmImage": image,
            "targetDevices": [{"deviceType": TYPE, "selector": {"matchLabels": {"wasmbed-test": label}}}],
            **spec,
        },
    }


def device(name: str, label: str) -> dict[str, Any]:
    """Return an EdgeDevice served by gw1 with the label wasmbed-test=<label>."""
    return {
        "apiVersion": "wasmbed.io/v1",
        "kind": "EdgeDevice",
        "metadata": {"name": name, "labels": {"wasmbed-test": label}},
        "spec": {
            "deviceType": TYPE,
            "hardware": {"cpu": "arm64"},
            "network": {"gatewayEndpoint": "gateway.wasmbed.local:8080"},
        },
    }
