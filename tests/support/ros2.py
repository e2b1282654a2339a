"""Real ROS 2 nodes in processes of their own, for tests of whole applications."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).parent / "ros2_shaker.py"
ROOT = Path(__file__).resolve().parents[2]


def rclpy_python(distribution: str) -> str | None:
    """The interpreter with rclpy that WASMBED_ROS2_<DISTRIBUTION> names or scripts/test-ros2 has made, else None."""
    if named := os.environ.get(f"WASMBED_ROS2_{distribution.upper()}"):
        return named
    key = hashlib.sha256((ROOT / f"roles/ros2/files/{distribution}.txt").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = cache / f"wasmbed/ros2/{distribution}-{key}"
    return str(made / "bin/python") if (made / ".complete").exists() else None


class Shaker:
    """The process of ros2_shaker.py, and the alarms it heard by device. With a python that has rclpy it uses that."""

    def __init__(
        self,
        *devices: str,
        domain: int,
        interface: str,
        rclpy: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [rclpy or sys.executable, str(SCRIPT), "rclpy" if rclpy else "ours", str(domain), interface, *devices]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.alarms: defaultdict[str, list[str]] = defaultdict(list)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            said = json.loads(line)
            if "device" in said:
                self.alarms[said["device"]].append(said["alarm"])

    def shake(self, device: str, z: float = 60.0) -> None:
        """From now on the device feels this acceleration."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{device} {z}\n")
        self._process.stdin.flush()

    def rest(self, device: str) -> None:
        self.shake(device, 9.81)

    def last(self, device: str) -> str:
        """The newest alarm of a device, empty when none came; the first one it hears is the latched one."""
        return (self.alarms[device][-1:] or [""])[0]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(timeout=20)

    def __enter__(self) -> Shaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
