"""The process wasmbed-controller with its configuration file, a real registry and its real rights."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from tests.support.artifacts import push
from tests.support.processes import Service, free_ports
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registry import Registry

EMPTY_MODULE = b"\0asm\x01\0\0\0"


class Process:
    """One controller process."""

    def __init__(self, folder: Path, world: Any, registry: Registry) -> None:
        (self.port,) = free_ports(1)
        document = {
            "kubeconfig": str(world.cluster.folder / "wasmbed-controller.kubeconfig"),
            "http": {"address": "127.0.0.1", "port": self.port},
            "registry": {
                "mirrors": {"registry.test.example": registry.address},
                "ca_file": str(registry.ca_file),
                "credentials_file": str(registry.credentials_file),
            },
            "leader_election": {"namespace": "wasmbed-system", "name": "wasmbed-controller"},
        }
        self.config = folder / "controller.yaml"
        self.config.write_text(yaml.safe_dump(document))
        self._log = folder / "controller.log"
        self.service = self._start()

    def _start(self) -> Service:
        command = [sys.executable, "-m", "wasmbed.controller.main", "--config", str(self.config)]
        return Service("wasmbed-controller", command, self._log)

    def restart(self) -> None:
        self.service = self._start()

    async def ask(self, path: str) -> tuple[int, str]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/{path}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def leads(self) -> None:
        async def check() -> bool:
            _, text = await self.ask("metrics")
            status, _ = await self.ask("readyz")
            return "wasmbed_controller_leader 1.0" in text and status == 200

        await eventually(check, "the process leads and is ready")


@pytest.fixture
def process(world: Any, registry: Registry, tmp_path: Path) -> Any:
    process = Process(tmp_path, world, registry)
    yield process
    process.service.stop()


async def test_process_resolves_places_and_hands_over(
    process: Process, world: Any, registry: Registry, run: Any
) -> None:
    digest = push(registry, "apps/hello", "v1", EMPTY_MODULE)
    await process.leads()
    async with run(world.gateway.run()):
        await world.device("drone-1")
        await world.application("hello", "registry.test.example/apps/hello:v1")
        found = await world.application_in("hello", "Running", running=1)
        assert found["status"]["resolvedDigest"] == digest
        await world.application("wrong", "registry.test.example/apps/hello@sha256:" + "0" * 64)
        await world.application_in("wrong", "Failed", "ImagePullFailed")

        process.service.stop()
        before = await world.application_in("hello", "Running", running=1)
        process.restart()
        await process.leads()
        after = await world.application_in("hello", "Running", running=1)
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        _, metrics = await process.ask("metrics")
    for name in ("reconciles_total", "reconcile_errors", "reconcile_seconds_bucket", "queue_depth", "leader"):
        assert f"wasmbed_controller_{name}" in metrics


async def test_configuration_that_is_wrong_ends_the_process_with_one_line(tmp_path: Path) -> None:
    config = tmp_path / "controller.yaml"
    config.write_text("kubeconfg: /nothing\n")
    service = Service(
        "wasmbed-controller",
        [sys.executable, "-m", "wasmbed.controller.main", "--config", str(config)],
        tmp_path / "log",
    )
    with pytest.raises(RuntimeError, match="ended with 1"):
        service.wait_ready(lambda: False)
    assert "kubeconfg" in (tmp_path / "log").read_text()
