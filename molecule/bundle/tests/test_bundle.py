"""The bundle as a site takes it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_site import ROOT, ansible, check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site


@pytest.fixture(scope="module")
def bundle(site: Site) -> Path:
    return ROOT / site.variable("bundle_dir", default="build/bundle")


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> dict[str, object]:
    return json.loads((bundle / "manifest.json").read_text())


def test_binaries_are_the_versions_of_the_manifest(bundle: Path, manifest: dict[str, object]) -> None:
    for program, key in (("kube-apiserver", "kubernetes_version"), ("etcd", "etcd_version")):
        output = subprocess.run(
            [bundle / "bin" / program, "--version"], capture_output=True, text=True, check=True
        ).stdout
        assert str(manifest[key]).lstrip("v") in output


def test_every_wheel_is_one_that_the_lock_file_names(bundle: Path) -> None:
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", (bundle / "wheels/requirements.txt").read_text()))
    wheels = list((bundle / "wheels").glob("*.whl"))
    assert wheels
    assert [wheel.name for wheel in wheels if hashlib.sha256(wheel.read_bytes()).hexdigest() not in hashes] == []


def test_every_package_of_the_index_is_there(bundle: Path) -> None:
    names = re.findall(r"^Filename: (.+)$", (bundle / "debs/Packages").read_text(), re.MULTILINE)
    assert any("docker-registry" in name for name in names)
    assert [name for name in names if not (bundle / "debs" / name).is_file()] == []


def test_example_modules_are_webassembly(bundle: Path) -> None:
    modules = list((bundle / "modules").glob("*.wasm"))
    assert modules
    assert {module.read_bytes()[:8] for module in modules} == {b"\0asm\1\0\0\0"}


def test_a_whole_bundle_is_verified_and_one_with_a_changed_file_is_refused_by_name(
    bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy, copy_function=lambda source, target: Path(target).hardlink_to(source))
    assert ansible("localhost", "wasmbed.edge.bundle_manifest", path=str(copy), state="verified").returncode == 0
    module = next((copy / "modules").glob("*.wasm"))
    content = module.read_bytes()
    module.unlink()
    module.write_bytes(content + b"\0")
    refused = ansible("localhost", "wasmbed.edge.bundle_manifest", path=str(copy), state="verified")
    assert refused.returncode != 0
    assert module.name in refused.stdout


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("bundle") == {}
