"""Modules as a user runs them: real tasks of ansible-playbook, against a real API server and registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120
Task = dict[str, Any]


class Play:
    """Runs tasks on the control machine with module defaults of their own."""

    def __init__(self, folder: Path, module_defaults: dict[str, Any], environment: dict[str, str]) -> None:
        self._folder = folder
        self._module_defaults = module_defaults
        self._environment = environment
        self.output = ""
        self.lines: list[str] = []

    def run(
        self, *tasks: Task, on_line: Callable[[str], None] | None = None, arguments: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        """Run the tasks in one play; return each one's result. A task that fails does not end the play.

        on_line: called with each line of standard error, where progress is printed.
        """
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "module_defaults": self._module_defaults,
            "tasks": [{"ignore_errors": True, "diff": True, **task} for task in tasks],
        }
        configuration = self._folder / "ansible.cfg"
        configuration.write_text("[defaults]\n")
        path = self._folder / "play.yml"
        path.write_text(yaml.safe_dump([play], sort_keys=False))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_ASYNC_DIR": str(self._folder / "async"),
            **self._environment,
        }
        process = subprocess.Popen(
            ["ansible-playbook", "-i", "localhost,", *arguments, str(path)],
            env=environment,
            cwd=self._folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines = []
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        reader = threading.Thread(target=self._read, args=(process.stderr, on_line))
        watchdog.start()
        reader.start()
        assert process.stdout is not None
        output = process.stdout.read()
        reader.join()
        process.wait()
        watchdog.cancel()
        self.output = output + "".join(self.lines)
        assert output, f"no result; {self.output}"
        # Lines that -v adds come before and after the document.
        document = json.loads(output[output.index("{") : output.rindex("}") + 1])
        return [task["hosts"]["localhost"] for task in document["plays"][0]["tasks"]]

    def _read(self, stream: Any, on_line: Callable[[str], None] | None) -> None:
        for line in stream:
            self.lines.append(line)
            if on_line is not None:
                on_line(line)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that is this test's alone; its objects are removed afterwards, whatever holds them."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**10}"
    cluster.kubectl("create", "namespace", name)
    yield name
    kinds = "edgedevices,wasmapplications"
    cluster.kubectl("delete", kinds, "--all", "-n", name, "--wait=false")
    for item in cluster.kubectl("get", kinds, "-n", name, "-o", "name").stdout.split():
        cluster.kubectl(
            *("patch", item, "-n", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'), check=False
        )


@pytest.fixture
def kube_play(cluster: Cluster, namespace: str, tmp_path: Path) -> Play:
    """Tasks of the modules of the group edge, against the cluster."""
    options = {"kubeconfig": str(cluster.kubeconfig)}
    modules = {f"wasmbed.edge.{name}": {"namespace": namespace} for name in ("edge_device", "wasm_application")}
    infos = {f"{name}_info": value for name, value in modules.items()}
    return Play(tmp_path, {"group/wasmbed.edge.edge": options, **modules, **infos}, {})


@pytest.fixture
def registry_play(registry: Registry, tmp_path: Path) -> Play:
    """Tasks of the modules of the group registry, whose host registry.wasmbed.io is the test's registry."""
    options = {
        "username": registry.username,
        "password": registry.password,
        "ca_path": str(registry.ca_file),
        "mirrors": {"registry.wasmbed.io": registry.address},
    }
    return Play(tmp_path, {"group/wasmbed.edge.registry": options}, {})


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Tasks without module defaults."""
    return Play(tmp_path, {}, {})
