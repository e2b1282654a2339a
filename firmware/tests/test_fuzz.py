"""A minute of each fuzz target, with wasmtime as the second opinion."""

from __future__ import annotations

import os

import pytest

from tests.support.firmware import BUILD, build, make

SECONDS = int(os.environ.get("WASMBED_FUZZ_SECONDS", "60"))


@pytest.mark.timeout(SECONDS * 2 + 600)
@pytest.mark.parametrize("target", ["load", "exec"])
def test_fuzz_target_finds_nothing(target: str) -> None:
    build(BUILD / "fuzz" / target)
    make(f"fuzz-{target}", f"SECONDS={SECONDS}")
