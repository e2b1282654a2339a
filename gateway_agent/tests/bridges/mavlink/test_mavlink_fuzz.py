"""Runs the Atheris targets for WASMBED_FUZZ_SECONDS each (5 when it is not set; 0 leaves them out)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris")
SCRIPT = Path(__file__).with_name("fuzz_mavlink.py")
SECONDS = int(os.environ.get("WASMBED_FUZZ_SECONDS", "5"))
TARGETS = re.findall(r'^    "(\w+)": ', SCRIPT.read_text(), re.MULTILINE)


@pytest.mark.skipif(SECONDS == 0, reason="WASMBED_FUZZ_SECONDS is 0")
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("target", TARGETS)
def test_a_fuzzer_finds_nothing(target: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), target, f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert len(TARGETS) == 9
