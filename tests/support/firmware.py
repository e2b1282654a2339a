"""Programs and images of the firmware, built by its Makefile for whichever test asks first."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
BUILD = Path(os.environ.get("WASMBED_FIRMWARE_BUILD", FIRMWARE.parent / "build/firmware"))


def build(*targets: Path | str) -> None:
    """Bring files of BUILD, or targets by their name, up to date, while no other process of the tests does."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(*map(str, targets))


def make(*arguments: str) -> None:
    """Run the Makefile; the caller fails with what it printed."""
    command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={BUILD}", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
