"""A while of each fuzz target of the link; `make fuzz` takes longer."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.firmware import BUILD, build, make

SECONDS = int(os.environ.get("WASMBED_FUZZ_SECONDS", "20"))


@pytest.mark.timeout(SECONDS * 2 + 600)
@pytest.mark.parametrize("target", ["link_wire", "link_smp"])
def test_fuzz_target_finds_nothing(target: str) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed; scripts/install-firmware-tools does it")
    build(BUILD / "fuzz" / target)
    make(f"fuzz-{target}", f"SECONDS={SECONDS}")
