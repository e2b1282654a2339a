# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""When an environment is built anew, and what a failure leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import python_environment
from ansible_collections.wasmbed.edge.plugins.module_utils.python_environment import (
    Environment,
    PythonEnvironmentError,
)


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(python_environment.platform, "machine", lambda: "x86_64")
    (tmp_path / "bundle/wheels").mkdir(parents=True)
    (tmp_path / "bundle/wheels/requirements.txt").write_text("one==1 --hash=sha256:00\n")
    (tmp_path / "bundle/manifest.json").write_text(json.dumps({"architecture": "amd64"}))
    (tmp_path / "opt").mkdir()
    return Environment(str(tmp_path / "opt/venv"), str(tmp_path / "bundle"), sys.executable)


def folder(environment, key):
    path = Path(environment.folder(key))
    path.mkdir()
    return str(path)


def test_the_key_follows_the_requirements(environment):
    before = environment.key()
    Path(environment.requirements).write_text("two==2 --hash=sha256:01\n")
    assert environment.key() != before


def test_other_requirements_have_their_wheels_beside_them(environment, tmp_path):
    (tmp_path / "bundle/ros2/jazzy").mkdir(parents=True)
    (tmp_path / "bundle/ros2/jazzy/requirements.txt").write_text("three==3 --hash=sha256:02\n")
    other = Environment(environment.path, environment.bundle, environment.python, "ros2/jazzy/requirements.txt")
    assert other.key() != environment.key()
    assert other.wheels == str(tmp_path / "bundle/ros2/jazzy")


def test_a_switch_moves_the_link(environment):
    first, second = folder(environment, "aa"), folder(environment, "bb")
    assert environment.current() is None
    environment.switch(first, "aa")
    assert environment.current() == first
    environment.switch(second, "bb")
    assert environment.current() == second
    assert environment.others(second) == [first]


def test_a_run_that_was_cut_off_before_the_key_was_written_is_not_current(environment):
    Path(environment.path).symlink_to(Path(folder(environment, "aa")).name)
    assert environment.current() is None


def test_a_build_that_fails_leaves_the_link(environment):
    first = folder(environment, "aa")
    environment.switch(first, "aa")

    def run(command, umask=None):
        return (1, "", "hash mismatch") if "install" in command else (0, "", "")

    with pytest.raises(PythonEnvironmentError, match="hash mismatch"):
        environment.build(environment.folder("bb"), run, [])
    assert environment.current() == first


def test_every_wheel_is_checked_and_nothing_is_downloaded(environment):
    commands = []

    def run(command, umask=None):
        commands.append(command)
        return 0, "wasmbed-agent 1", ""

    assert environment.build(environment.folder("aa"), run, [["wasmbed-agent", "--version"]]) == ["wasmbed-agent 1"]
    install = next(command for command in commands if "install" in command)
    assert {"--offline", "--no-index", "--require-hashes"} <= set(install)


def test_another_architecture_is_a_problem(environment, monkeypatch):
    assert environment.problems() == []
    monkeypatch.setattr(python_environment.platform, "machine", lambda: "aarch64")
    assert "bundle is for amd64" in environment.problems()[0]
