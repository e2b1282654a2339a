"""What the role ros2 says of an installation that is to build packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "roles/ros2/files/missing-builders.bash").read_text(encoding="utf-8")


def missing(setup: Path) -> list[str]:
    done = subprocess.run(
        ["/bin/bash", "-c", SCRIPT, str(setup)], capture_output=True, text=True, check=True, timeout=30, env={}
    )
    return done.stdout.split()


def test_every_program_and_package_that_is_missing_is_named(tmp_path: Path) -> None:
    setup = tmp_path / "setup.bash"
    setup.write_text(f"export PATH={tmp_path}/bin AMENT_PREFIX_PATH={tmp_path}/a:{tmp_path}/b\n")
    assert missing(setup) == ["colcon", "cmake", "c++", "ament_cmake", "rosidl_default_generators"]
    (tmp_path / "bin").mkdir()
    for program in ("colcon", "c++"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    (tmp_path / "b/share/ament_cmake").mkdir(parents=True)
    (tmp_path / "b/share/ament_cmake/package.xml").write_text("<package/>")
    assert missing(setup) == ["cmake", "rosidl_default_generators"]
