"""The process wasmbed-device."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wasmbed import __version__
from wasmbed.device.check import run_check
from wasmbed.device.config import DeviceConfig
from wasmbed.device.service import serve
from wasmbed.service import ConfigError, load_config, run, setup_logging


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("wasmbed-device", description="Runs the applications placed on this Linux device.")
    parser.add_argument("--config", type=Path, default=Path("/etc/wasmbed/device.yaml"), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="say what keeps this device from its gateway, and end")
    parser.add_argument("--version", action="version", version=f"wasmbed-device {__version__}")
    arguments = parser.parse_args()
    setup_logging("wasmbed-device")
    try:
        config = load_config(arguments.config, DeviceConfig)
    except ConfigError as error:
        sys.exit(f"wasmbed-device: {error}")
    if arguments.check:
        sys.exit(0 if run_check(config) else 1)
    run(lambda: serve(config))


if __name__ == "__main__":
    main()
