"""Linux devices for tests: a real wasmbed-device with a real runtime as processes, and what they need of their site."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import yaml
from gateway_site import API, Line, Site, eventually

from tests.support.pki import Authority
from tests.support.processes import Service, free_ports

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

HEARTBEAT_S = 0.5


class LinkSite(Site):
    """A gateway with a listener for devices, and the authorities of both sides."""

    def __init__(self, cluster: Cluster, registry: Registry, cache: Path, name: str, **limits: int) -> None:
        super().__init__(cluster, registry, cache, name, limits)
        self.site_ca = Authority(self.folder, "site-ca")
        self.device_ca = Authority(self.folder, "device-ca")
        (self.link_port,) = free_ports(1)
        certificate, key = self.site_ca.issue("gateway", "gateway")
        self.settings["link"] = {
            "address": "127.0.0.1",
            "port": self.link_port,
            "certificate": str(certificate),
            "key": str(key),
            "client_ca": str(self.device_ca.ca_file),
            "heartbeat_s": HEARTBEAT_S,
        }
        self.devices: dict[str, dict[str, Any]] = {}
        self.write_config()

    def slice(self) -> None:
        """Apply the slice of `devices`."""
        spec = {"gateway": self.name, "devices": list(self.devices.values())}
        self.apply("DeviceSlice", "deviceslices", "devices-0", spec, self.namespace)

    def add(self, name: str, public_key: str = "", **changes: Any) -> None:
        """Have a device in the slice; `changes` replace fields of its entry."""
        entry = {"name": name, "namespace": "default", "uid": f"uid-{name}", "class": "mpu", **changes}
        if public_key:
            entry["publicKey"] = public_key
        self.devices[name] = entry
        self.slice()

    def link(self, name: str) -> dict[str, Any]:
        """What the slice's status says of a device."""
        status = self.get(f"{API}/namespaces/{self.namespace}/deviceslices/devices-0").get("status", {})
        return next((dict(item) for item in status.get("devices", []) if item["name"] == name), {})

    def wait_link(self, name: str, state: str) -> dict[str, Any]:
        return dict(eventually(lambda: found if (found := self.link(name)).get("state") == state else None, state))

    def place_on(self, application: str, digest: str, *devices: str, **changes: Any) -> None:
        """Apply the Placement of an application on devices of class mpu."""
        entries = [
            {"name": name, "namespace": "default", "uid": f"uid-{name}", "class": "mpu", "capabilities": []}
            for name in devices
        ]
        self.place(application, digest, devices=entries, **changes)

    def refusals(self, reason: str) -> float:
        return self.metric(f'wasmbed_agent_link_refusals_total{{reason="{reason}"}}')


class LinuxDevice:
    """One device. `port` is where it finds its gateway."""

    def __init__(self, site: LinkSite, name: str, *, port: int | None = None, register: bool = True) -> None:
        self.site = site
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="wbd-"))
        self.log = self.folder / "device.log"
        (self.http_port,) = free_ports(1)
        self.certificate, self.key, self.public_key = site.device_ca.issue_device(
            f"device-{name}", f"wasmbed:device:default/{name}"
        )
        self.gateway_ca = site.site_ca.ca_file
        self.port = port or site.link_port
        self.service: Service | None = None
        self.runtime: Service | None = None
        self.write_config()
        if register:
            site.add(name, self.public_key)

    def write_config(self, **changes: Any) -> None:
        document = {
            "device": f"default/{self.name}",
            "gateway": f"127.0.0.1:{self.port}",
            "certificate": str(self.certificate),
            "key": str(self.key),
            "gateway_ca": str(self.gateway_ca),
            "state_directory": str(self.folder / "state"),
            "runtime_socket": str(self.folder / "runtime.sock"),
            "http": {"address": "127.0.0.1", "port": self.http_port},
            "retry": {"first_s": 0.1, "last_s": 1.0},
            **changes,
        }
        self.config = self.folder / "device.yaml"
        self.config.write_text(yaml.safe_dump(document))
        (self.folder / "runtime.yaml").write_text(
            yaml.safe_dump({"socket": str(self.folder / "runtime.sock"), "cache_directory": str(self.site.cache)})
        )

    def start(self) -> None:
        self.start_runtime()
        self.start_service()

    def start_runtime(self) -> None:
        command = [sys.executable, "-m", "wasmbed.runtime.main", "--config", str(self.folder / "runtime.yaml")]
        self.runtime = Service("wasmbed-runtime", command, self.folder / "runtime.log")

    def start_service(self) -> None:
        command = [sys.executable, "-m", "wasmbed.device.main", "--config", str(self.config)]
        self.service = Service("wasmbed-device", command, self.log)

    def kill(self) -> None:
        """The device loses its power."""
        for service in (self.service, self.runtime):
            if service is not None:
                service.kill()

    def stop(self) -> None:
        for service in (self.service, self.runtime):
            if service is not None:
                service.stop()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self) -> tuple[int, str]:
        command = [sys.executable, "-m", "wasmbed.device.main", "--config", str(self.config), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        return done.returncode, done.stdout + done.stderr

    def readyz(self) -> tuple[int, str]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self.http_port}/readyz", timeout=10)
        except requests.RequestException as error:
            return 0, str(error)
        return answer.status_code, answer.text

    def wait_ready(self) -> None:
        assert self.service is not None
        self.service.wait_ready(lambda: self.readyz()[0] == 200)

    def wait_problem(self, text: str) -> str:
        """Wait until the device says `text` about why it is not ready."""
        return str(eventually(lambda: self.readyz()[1] if text in self.readyz()[1] else "", text))

    def metric(self, name: str) -> float:
        text = requests.get(f"http://127.0.0.1:{self.http_port}/metrics", timeout=30).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def lines_of(site: Site, application: str) -> list[tuple[str, Line]]:
    """Every line of an application that the gateway's journal has, with its number."""
    pattern = re.compile(r'msg="?([^"]*)"? wasmbed_application=(\S+) wasmbed_device=(\S+) .*wasmbed_sequence=(\S+)')
    text = site.log.read_text(errors="replace")
    found = [
        match for match in map(pattern.search, text.splitlines()) if match and match[2] == f"default/{application}"
    ]
    return [(match[4], Line(match[2], match[3], match[1])) for match in found]
