"""The published vectors of the link's handshake: crate `snow`, fetched by cargo into the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SNOW = "0.10.0"
PATTERN = "Noise_IK_25519_AESGCM_SHA256"


def _folder() -> Path:
    """The folder of vectors in the crate; cargo fetches it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wasmbed" / "noise-vectors"
    (cache / "src").mkdir(parents=True, exist_ok=True)
    (cache / "src" / "main.rs").write_text("fn main() {}\n")
    (cache / "Cargo.toml").write_text(
        f'[package]\nname = "fetch"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nsnow = "={SNOW}"\n'
    )
    command = ["cargo", "metadata", "--format-version", "1"]
    done = subprocess.run([*command, "--offline"], cwd=cache, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        subprocess.run(["cargo", "fetch", "--quiet"], cwd=cache, check=True)
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=True)
    for package in json.loads(done.stdout)["packages"]:
        if package["name"] == "snow":
            return Path(package["manifest_path"]).parent / "tests" / "vectors"
    raise RuntimeError("cargo knows no snow")


def vectors() -> list[dict[str, Any]]:
    """The published vectors of our pattern, from cacophony's and snow's files; skips where there is no cargo."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed; scripts/install-firmware-tools does it")
    found: list[dict[str, Any]] = []
    for name in ("cacophony.txt", "snow.txt"):
        rows = json.loads((_folder() / name).read_text())["vectors"]
        found += [row for row in rows if row.get("protocol_name", row.get("name")) == PATTERN]
    return found
