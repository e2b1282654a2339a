"""The official tests, on the host with sanitizers and on both cores in QEMU, with the firmware's own library."""

from __future__ import annotations

import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from suite import data_folder

from tests.support.firmware import BUILD, FIRMWARE, build

QEMU = {
    "m4": ["qemu-system-arm", "-M", "mps2-an386"],
    "rv32": ["qemu-system-riscv32", "-M", "virt", "-cpu", "sifive-e31", "-m", "128M", "-bios", "none"],
}
SEMIHOSTING = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]


def run_suite(kind: str) -> str:
    """Converts the suite and runs it; the runner's output."""
    build(BUILD / kind / "spec", BUILD / kind / "libwbi.a")
    folder = BUILD / "spec" / kind
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            sys.executable,
            str(FIRMWARE / "tests" / "spec" / "convert.py"),
            str(folder / "spec.bin"),
            str(data_folder()),
            "--exclude",
            str(FIRMWARE / "tests" / "spec" / "exclude.json"),
            "--text-only",
            str(folder / "text-only.txt"),
            "--target",
            kind,
        ],
        check=True,
    )
    program = [str(BUILD / kind / "spec")]
    command = [*QEMU[kind], *SEMIHOSTING, "-kernel", *program] if kind in QEMU else program
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    return done.stdout + done.stderr


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", ["asan", "m4", "rv32"])
def test_official_tests_pass(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_suite(kind)
    digest = sha256((BUILD / kind / "libwbi.a").read_bytes()).hexdigest()[:16]
    last = output.rstrip().splitlines()[-1]
    with capsys.disabled():
        print(f"\n{kind}: {last} (library {digest}; skipped ones are named in {BUILD}/spec/{kind}/output.txt)")
    failures = [line for line in output.splitlines() if line.startswith("FAILED")]
    assert not failures, "\n".join(failures[:20])
    found = re.fullmatch(r"(\d+) passed, 0 failed, (\d+) skipped", last)
    assert found, last
    assert int(found[1]) > 52_000


def test_every_skipped_test_of_version_1_has_a_reason() -> None:
    """Version 1 and custom page sizes run whole but for what needs more memories, 64-bit memories or RAM."""
    for kind in ("asan", "m4", "rv32"):
        output = Path(BUILD / "spec" / kind / "output.txt")
        if not output.exists():
            pytest.skip("the suites did not run")
        names = [line for line in output.read_text().splitlines() if re.match(r"SKIPPED (wasm-v1|custom)", line)]
        known = r"multiple memories|64-bit memory|refused as unsupported|the machine has 16 MiB|needs the 803 pages"
        assert all(re.search(known, line) for line in names), names
