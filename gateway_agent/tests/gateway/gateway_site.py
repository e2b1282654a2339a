"""A gateway for tests: a real agent and a real runtime as processes, the agent with exactly the rights of its role."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import requests
import wasmtime
import yaml

from tests.support.artifacts import push
from tests.support.processes import ROOT, Service, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

OBJECTS = ROOT / "roles/gateway/templates/objects.yml.j2"
API = "/apis/wasmbed.io/v1"

# Says a random word of eight letters, made when it starts, five times a second: two running ones say two words.
GOOD = """
(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "random" (func $random (param i32 i32) (result i32)))
  (import "wasmbed:sys" "timer_set" (func $timer_set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "VERSION ")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32) (local $at i32)
    (drop (call $random (i32.const 8) (i32.const 8)))
    (local.set $at (i32.const 8))
    (loop $letters
      (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.and (i32.load8_u (local.get $at)) (i32.const 15))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $letters (i32.lt_u (local.get $at) (i32.const 16))))
    (call $timer_set (i32.const 0) (i32.const 200) (i32.const 200)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 16))
    (i32.const 0)))
"""


def wat(text: str, **words: str) -> bytes:
    for name, word in words.items():
        text = text.replace(name, word)
    return bytes(wasmtime.wat2wasm(text))


def good(version: str = "version") -> bytes:
    """The good module, saying `version` (7 letters)."""
    assert len(version) == 7
    return wat(GOOD, VERSION=version)


def eventually(check: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The first true result of `check`; it is asked until then."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Line:
    """One line an application logged."""

    application: str
    device: str
    text: str

    @property
    def word(self) -> str:
        return self.text.rpartition(" ")[2]


@dataclass
class Site:
    """One gateway in a namespace of its own."""

    cluster: Cluster
    registry: Registry
    cache: Path
    name: str
    limits: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """Further sections of agent.yaml."""
    ready_s: float = 60.0
    """How long the agent may take to be ready."""

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wbg-"))
        self.namespace = f"wasmbed-gw-{self.name}"
        self.log = self.folder / "agent.log"
        (self.http_port,) = free_ports(1)
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.verify = str(self.cluster.authority.ca_file)
        admin = self.cluster.folder / "kubernetes-admin"
        self.http.cert = (f"{admin}.crt", f"{admin}.key")
        self.agent: Service | None = None
        self.runtime: Service | None = None
        self._offset = 0
        self._make_objects()
        self.write_config()

    def _make_objects(self) -> None:
        """What the role makes in the cluster, from its own template."""
        user = f"wasmbed:gateway:{self.name}"
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        environment.filters["to_json"] = json.dumps
        text = environment.from_string(OBJECTS.read_text()).render(
            gateway_name=self.name,
            gateway_endpoint=f"{self.name}.wasmbed.local:8080",
            gateway_max_artifact_bytes=self.limits.get("maxArtifactBytes", 8388608),
            gateway_max_modules=self.limits.get("maxModules", 64),
            __gateway_user=user,
        )
        self.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
        self.kubeconfig = self.cluster.user(user, "wasmbed:gateways")

    def write_config(self, *, mirror: str | None = None, **sections: Any) -> None:
        """Write the agent's and the runtime's configuration; `sections` are added to the agent's."""
        self.config = self.folder / "agent.yaml"
        document = {
            "gateway": self.name,
            "kubeconfig": str(self.kubeconfig),
            "state_directory": str(self.folder / "state"),
            "runtime_socket": str(self.folder / "runtime.sock"),
            "http": {"address": "127.0.0.1", "port": self.http_port},
            "registry": {
                "mirrors": {"registry.wasmbed.io": mirror or self.registry.address},
                "ca_file": str(self.registry.ca_file),
                "credentials_file": str(self.registry.credentials_file),
            },
            "lease": {"duration_s": 4, "renew_s": 1},
            **self.settings,
            **sections,
        }
        self.config.write_text(yaml.safe_dump(document))
        (self.folder / "runtime.yaml").write_text(
            yaml.safe_dump({"socket": str(self.folder / "runtime.sock"), "cache_directory": str(self.cache)})
        )

    def start_runtime(self) -> None:
        command = [sys.executable, "-m", "wasmbed.runtime.main", "--config", str(self.folder / "runtime.yaml")]
        self.runtime = Service("wasmbed-runtime", command, self.folder / "runtime.log")

    def start_agent(self) -> None:
        command = [sys.executable, "-m", "wasmbed.gateway.main", "--config", str(self.config)]
        self.agent = Service("wasmbed-agent", command, self.log)

    def start(self) -> None:
        self.start_runtime()
        self.start_agent()
        assert self.agent is not None
        self.agent.wait_ready(lambda: self.readyz()[0] == 200, timeout_s=self.ready_s)

    def close(self) -> None:
        for service in (self.agent, self.runtime):
            if service is not None:
                service.stop()
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def readyz(self) -> tuple[int, str]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.http_port}/readyz", timeout=30)
        except requests.RequestException as error:
            return 0, str(error)
        return answer.status_code, answer.text

    def metrics(self) -> str:
        return requests.get(f"http://127.0.0.1:{self.http_port}/metrics", timeout=30).text

    def metric(self, name: str) -> float:
        lines = self.metrics().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def get(self, path: str) -> dict[str, Any]:
        answer = self.http.get(self.cluster.url + path, timeout=30)
        return {} if answer.status_code == 404 else dict(answer.json())

    def apply(self, kind: str, plural: str, name: str, spec: dict[str, Any], namespace: str | None = None) -> None:
        metadata = {"name": name}
        scope = f"/namespaces/{namespace}" if namespace else ""
        if namespace:
            metadata["namespace"] = namespace
        answer = self.http.patch(
            f"{self.cluster.url}{API}{scope}/{plural}/{name}?fieldManager=test&force=true",
            data=json.dumps({"apiVersion": "wasmbed.io/v1", "kind": kind, "metadata": metadata, "spec": spec}),
            headers={"Content-Type": "application/apply-patch+yaml"},
            timeout=30,
        )
        assert answer.status_code in (200, 201), answer.text

    def push(self, name: str, module: bytes, **options: Any) -> str:
        return push(self.registry, f"{self.name}/{name}", "v1", module, **options)

    def place(
        self, name: str, digest: str, *, image: str | None = None, device: str | None = None, **changes: Any
    ) -> None:
        """Apply the Placement of application default/`name`; `changes` replace fields of its spec."""
        limits = {"memoryBytes": 1 << 20, "stackBytes": 65536, "cpuMillisPerCall": 1000}
        devices = [device_of(device or f"{name}-drone")]
        spec = {
            "gateway": self.name,
            "application": {"namespace": "default", "name": name, "uid": f"uid-{name}", "generation": 1},
            "image": image or f"registry.wasmbed.io/{self.name}/{name}:v1",
            "digest": digest,
            "devices": devices,
            "limits": limits,
            "grants": ["wasmbed:sys"],
            "env": [],
            **changes,
        }
        self.apply("Placement", "placements", name, spec, self.namespace)

    def remove(self, name: str) -> None:
        url = f"{self.cluster.url}{API}/namespaces/{self.namespace}/placements/{name}"
        assert self.http.delete(url, timeout=30).status_code == 200

    def placement(self, name: str) -> dict[str, Any]:
        return self.get(f"{API}/namespaces/{self.namespace}/placements/{name}")

    def device_state(self, name: str, at: int = 0) -> dict[str, Any]:
        """The state of one device of a Placement whose status is up to date, else nothing."""
        item = self.placement(name)
        status = item.get("status", {})
        if status.get("observedGeneration") != item.get("metadata", {}).get("generation"):
            return {}
        devices = status.get("devices", [])
        return dict(devices[at]) if at < len(devices) else {}

    def wait_state(self, name: str, state: str, *, digest: str = "", at: int = 0) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            device = self.device_state(name, at)
            return device if device.get("state") == state and digest in ("", device.get("digest")) else None

        try:
            return dict(eventually(check, f"{name} {state}"))
        except AssertionError as error:
            log = self.log.read_text(errors="replace").splitlines()[-15:]
            raise AssertionError(
                "\n".join([str(error), json.dumps(self.placement(name).get("status")), *log])
            ) from None

    def new_lines(self) -> list[Line]:
        """The application lines since the last call."""
        with self.log.open(errors="replace") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._offset += len(whole.encode())
        pattern = re.compile(r'msg="?([^"]*)"? wasmbed_application=(\S+) wasmbed_device=(\S+)')
        return [Line(found[2], found[3], found[1]) for found in map(pattern.search, whole.splitlines()) if found]

    def wait_line(self, application: str, text: str = "") -> Line:
        """A line that the application logs from now on."""
        self.new_lines()

        def check() -> Line | None:
            lines = [line for line in self.new_lines() if line.application == f"default/{application}"]
            return next((line for line in lines if text in line.text), None)

        return eventually(check, f"a line of {application}")  # type: ignore[no-any-return]

    def lines_beside(self, application: str, count: int = 4) -> list[Line]:
        """The lines of all others from now on, until an application has logged so many."""
        self.new_lines()
        lines: list[Line] = []

        def check() -> bool:
            lines.extend(self.new_lines())
            return sum(line.application == f"default/{application}" for line in lines) >= count

        eventually(check, f"{count} lines of {application}")
        return [line for line in lines if line.application != f"default/{application}"]


def device_of(name: str, device_class: str = "gateway") -> dict[str, Any]:
    return {"name": name, "namespace": "default", "uid": f"uid-{name}", "class": device_class, "capabilities": []}
