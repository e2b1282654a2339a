"""Many devices in one process, each with all that a device has; arguments: device.yaml files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from wasmbed.device.config import DeviceConfig
from wasmbed.device.service import serve
from wasmbed.runtime.main import RuntimeConfig
from wasmbed.runtime.main import serve as serve_runtime
from wasmbed.service import load_config, run, setup_logging


async def main() -> None:
    async with asyncio.TaskGroup() as tasks:
        for argument in sys.argv[1:]:
            path = Path(argument)
            tasks.create_task(serve_runtime(load_config(path.with_name("runtime.yaml"), RuntimeConfig)))
            tasks.create_task(serve(load_config(path, DeviceConfig)))


if __name__ == "__main__":
    setup_logging("fleet")
    run(main)
