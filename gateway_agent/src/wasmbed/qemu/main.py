"""The process wasmbed-serial."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from wasmbed import __version__
from wasmbed.qemu.config import SerialConfig, load_devices
from wasmbed.qemu.host import CONTROL_SOCKET, Devices
from wasmbed.qemu.machine import MachineError, reset
from wasmbed.service import ConfigError, Health, load_config, notify, run, serve_http, setup_logging, watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.qemu.config import DeviceConfig

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/wasmbed/serial.yaml")


async def serve(config: SerialConfig) -> None:
    """Serve the lines of all devices until cancelled; SIGHUP reads the devices' files again."""
    devices = Devices(config.run_directory)
    health, registry = Health(), CollectorRegistry()
    registry.register(devices)
    changes: asyncio.Queue[Mapping[str, DeviceConfig]] = asyncio.Queue()

    def read(before: Mapping[str, DeviceConfig] | None = None) -> Mapping[str, DeviceConfig]:
        found, wrong = load_devices(config.devices_directory, before)
        for text in wrong:
            log.error("device not taken error=%s", text)
        health.set("configuration", not wrong, "; ".join(wrong))
        return found

    current = read()

    def reload() -> None:
        nonlocal current
        try:
            current = read(current)
            changes.put_nowait(current)
        except ConfigError as error:
            # What is there goes on; the message says what to mend.
            log.error("configuration not taken error=%s", error)
            health.set("configuration", False, str(error))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    async with (
        serve_http(config.http.address, config.http.port, health, registry),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(watchdog(), name="watchdog")
        group.create_task(devices.run(current, changes), name="devices")
        notify("READY=1")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="wasmbed-serial",
        description="Serves the serial lines of this host's emulated devices by TCP and watches over their machines.",
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="configuration file (%(default)s)")
    parser.add_argument("--reset", metavar="DEVICE", help="press the reset button of a device's machine, and end")
    parser.add_argument("--version", action="version", version=f"wasmbed {__version__}")
    arguments = parser.parse_args()
    setup_logging("wasmbed-serial")
    try:
        config = load_config(arguments.config, SerialConfig)
        if arguments.reset is not None:
            asyncio.run(reset(config.run_directory / Path(arguments.reset).name / CONTROL_SOCKET))
            return
    except (ConfigError, MachineError) as error:
        sys.exit(f"wasmbed-serial: {error}")
    run(lambda: serve(config))


if __name__ == "__main__":
    main()
