"""The site that the scenarios test: its inventory's variables, its hosts over ssh, its cluster."""

from __future__ import annotations

import functools
import json
import os
import re
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import testinfra
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = ROOT / os.environ.get("WASMBED_LAB_INVENTORY", "inventory/lab")
EXPOSURE = re.compile(r"Overall exposure level for \S+: ([\d.]+)")


class Site:
    """What the inventory says, with its templates filled in by Ansible itself."""

    def __init__(self) -> None:
        self._loader = DataLoader()
        self._loader.set_basedir(str(ROOT))
        self._inventory = InventoryManager(loader=self._loader, sources=[str(INVENTORY)])
        self._variables = VariableManager(loader=self._loader, inventory=self._inventory)
        self._sockets = tempfile.TemporaryDirectory(prefix="wasmbed-ssh-")

    def group(self, name: str) -> list[str]:
        """Return the names of a group's hosts."""
        return [host.name for host in self._inventory.get_hosts(name)]

    @functools.cache  # noqa: B019
    def variable(self, name: str, host: str = "localhost", default: Any = None) -> Any:
        """Return a variable of a host."""
        variables = self._variables.get_vars(host=self._inventory.get_host(host))
        if name not in variables:
            return default
        return Templar(loader=self._loader, variables=variables).template(variables[name])

    @property
    def directory(self) -> Path:
        """The site's folder on this machine."""
        return ROOT / self.variable("site_dir", default="build/site")

    @functools.cache  # noqa: B019
    def host(self, name: str) -> Host:
        """Return a host as testinfra sees it, over the ssh options of the inventory and one shared connection."""
        options = f"{self.variable('ansible_ssh_common_args', name)} -o BatchMode=yes -o ConnectTimeout=10"
        return testinfra.get_host(
            f"ssh://root@{self.variable('ansible_host', name)}",
            ssh_identity_file=self.variable("ansible_ssh_private_key_file", name),
            ssh_extra_args=options,
            controlpersist=60,
            control_path=f"{self._sockets.name}/%C",
        )

    def run(self, host: str, command: str) -> str:
        """Run a command on a host; fail with its words when it fails."""
        result = self.host(host).run(command)
        assert result.rc == 0, f"{host}: {command}: {result.stderr or result.stdout}"
        return result.stdout

    def kubectl(
        self, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the bundle's kubectl as the site's administrator."""
        kubectl = Path(self.variable("bundle_dir", default="build/bundle")) / "bin/kubectl"
        return subprocess.run(
            [ROOT / kubectl, "--kubeconfig", self.directory / "admin.kubeconfig", "--request-timeout=15s", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def get(self, *arguments: str) -> Any:
        """Return what kubectl get says, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def exposure(self, host: str, unit: str) -> float:
        """Return what systemd-analyze security says of a unit: 0 is shut off, 10 is open."""
        output = self.run(host, f"systemd-analyze security --no-pager {unit}")
        found = EXPOSURE.search(output)
        assert found, output
        return float(found[1])

    def main_pid(self, host: str, unit: str) -> int:
        """Return the main process of a unit; 0 when there is none."""
        return int(self.run(host, f"systemctl show --property=MainPID --value {unit}"))

    def process(self, host: str, unit: str) -> dict[str, str]:
        """Return proc(5) status of a unit's main process."""
        lines = self.run(host, f"cat /proc/{self.main_pid(host, unit)}/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def kill(self, host: str, unit: str) -> int:
        """Kill a unit's main process by signal 9 and wait until another one is active; return its pid."""
        before = self.main_pid(host, unit)
        assert before > 0, f"{unit} does not run"
        self.run(host, f"kill -9 {before}")

        def another() -> int:
            # An exit of the old process may not have been seen yet.
            active = self.host(host).run(f"systemctl is-active {unit}").stdout.strip() == "active"
            now = self.main_pid(host, unit)
            return now if active and now not in (0, before) else 0

        return wait(f"{unit} runs again", another)

    def metrics(self, host: str, port: int) -> dict[str, float]:
        """Return the figures of a service of a host by name and labels."""
        url = f"http://127.0.0.1:{port}/metrics"
        script = f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())"
        lines = self.run(host, f'python3 -c "{script}"').splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in "# ")}

    def modes(self, host: str, pattern: str) -> dict[str, str]:
        """Return C(mode owner:group) of the files that a shell pattern names, by path."""
        output = self.run(host, f"stat --dereference --format='%n %a %U:%G' {pattern}")
        return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in output.splitlines()}


def wait(what: str, condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Wait until condition() is true and return its value; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands with the repository's configuration and the site's inventory."""
    settings = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", **environment}
    command = [command[0], "-i", str(INVENTORY), *command[1:]]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=170)


def ansible(
    host: str, module: str, *options: str, variables: dict[str, Any] | None = None, **arguments: Any
) -> subprocess.CompletedProcess[str]:
    """Run one module on a host, with options of the command `ansible`."""
    more = [
        *(["-a", json.dumps(arguments)] if arguments else []),
        *(["-e", json.dumps(variables)] if variables else []),
    ]
    return _run(["ansible", host, "-m", module, *options, *more])


def playbook(path: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the repository."""
    return _run(["ansible-playbook", *arguments, path], **environment)


def check_mode_changes(scenario: str) -> dict[str, int]:
    """Run a scenario's converge in check mode; return the hosts that would change with their number of changes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        result = playbook(
            f"molecule/{scenario}/converge.yml",
            "--check",
            "--diff",
            ANSIBLE_CALLBACKS_ENABLED="wasmbed.edge.rollout_report",
            WASMBED_ROLLOUT_REPORT=str(report),
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
        hosts = json.loads(report.read_text())["hosts"]
    changes = {host: counts["changed"] for host, counts in hosts.items() if counts["changed"]}
    assert not changes, f"{changes}\n{result.stdout[-4000:]}"
    return changes


def https_status(
    url: str,
    authority: Path | None = None,
    *,
    pair: tuple[Path, Path] | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    """Return the HTTP status of a URL; raise OSError when there is no TLS connection."""
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    if pair:
        context.load_cert_chain(*pair)
    request = urllib.request.Request(url, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
