"""The process wasmbed-controller."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import socket
import sys
from pathlib import Path

from wasmbed import __version__
from wasmbed.controller.config import ControllerConfig
from wasmbed.controller.controller import Controller
from wasmbed.controller.election import LeaderElector
from wasmbed.controller.metrics import Metrics
from wasmbed.kube import Kube, Recorder
from wasmbed.oci import Reference, Registry
from wasmbed.service import ConfigError, Health, load_config, notify, run, serve_http, setup_logging, watchdog

DEFAULT_CONFIG = Path("/etc/wasmbed/controller.yaml")


async def serve(config: ControllerConfig) -> None:
    """Run a controller until cancelled: it waits to become leader, and works while it is."""
    health, metrics = Health(), Metrics()
    identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    registry = Registry(config.registry.mirrors, config.registry.ca_file, config.registry.credentials_file)

    async def resolve(image: str) -> str:
        return await registry.resolve(Reference.parse(image))

    def leading(is_leader: bool) -> None:
        metrics.leader.set(is_leader)
        health.set("watches", not is_leader, "starting" if is_leader else "")

    async with (
        Kube.from_kubeconfig(config.kubeconfig, user_agent=f"wasmbed-controller/{__version__}") as kube,
        serve_http(config.http.address, config.http.port, health, metrics.registry),
    ):
        recorder = Recorder(kube, controller="wasmbed.io/controller", instance=identity)
        elector = LeaderElector(kube, config.leader_election.namespace, config.leader_election.name, identity)

        async def lead() -> None:
            await Controller(kube, resolve, recorder, metrics, health).run()

        health.set("watches", ok=True)
        notify("READY=1")
        async with asyncio.TaskGroup() as group:
            group.create_task(watchdog(), name="watchdog")
            group.create_task(elector.run(lead, leading), name="election")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="wasmbed-controller", description="Places WebAssembly applications on devices."
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="configuration file (%(default)s)")
    parser.add_argument("--version", action="version", version=f"wasmbed {__version__}")
    arguments = parser.parse_args()
    setup_logging("wasmbed-controller")
    try:
        config = load_config(arguments.config, ControllerConfig)
    except ConfigError as error:
        sys.exit(f"wasmbed-controller: {error}")
    run(lambda: serve(config))


if __name__ == "__main__":
    main()
