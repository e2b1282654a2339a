"""The process `wasmbed-runtime`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import wasmbed
from wasmbed import service
from wasmbed.runtime.artifacts import Artifacts
from wasmbed.runtime.engine import WASMTIME_VERSION
from wasmbed.runtime.server import Server

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeConfig:
    """/etc/wasmbed/runtime.yaml."""

    socket: Path
    cache_directory: Path


async def serve(config: RuntimeConfig) -> None:
    """Serve until cancelled."""
    owners = config.socket.parent / "owners"
    owners.mkdir(mode=0o700, exist_ok=True)
    server = Server(Artifacts(config.cache_directory), owners)
    async with server.serving(config.socket):
        log.info("ready socket=%s wasmtime=%s", config.socket, WASMTIME_VERSION)
        service.notify("READY=1")
        async with asyncio.TaskGroup() as group:
            group.create_task(service.watchdog())
            group.create_task(asyncio.Event().wait())


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="wasmbed-runtime", description="WebAssembly runtime of a Wasmbed gateway.")
    parser.add_argument("--config", type=Path, default=Path("/etc/wasmbed/runtime.yaml"), help="default: %(default)s")
    parser.add_argument("--version", action="version", version=wasmbed.__version__)
    arguments = parser.parse_args()
    service.setup_logging("wasmbed-runtime")

    async def load_and_serve() -> None:
        await serve(service.load_config(arguments.config, RuntimeConfig))

    service.run(load_and_serve)


if __name__ == "__main__":
    main()
