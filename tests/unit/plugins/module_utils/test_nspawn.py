# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What can be said of lab hosts without booting one."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import nspawn


@pytest.fixture
def lab(tmp_path):
    return nspawn.Lab(str(tmp_path), nspawn.Bridge("wbtest", "10.99.0.1/24"))


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_hosts_on_disk_are_listed(lab):
    assert lab.names() == []
    for name in ("gw1", "cp1"):
        pathlib.Path(lab.path(name, "upper")).mkdir(parents=True)
    assert lab.names() == ["cp1", "gw1"]


def test_host_without_pid_file_does_not_run(lab):
    assert lab.pid("cp1") is None


def test_pid_that_another_process_has_now_does_not_count(lab):
    nspawn.write_file(lab.path("cp1", "pid"), f"{os.getpid()}\n")
    assert lab.pid("cp1") is None


@pytest.mark.parametrize("text", ["", "x", "-1", "99999999"])
def test_unreadable_pid_file_is_as_none(lab, text):
    nspawn.write_file(lab.path("cp1", "pid"), text)
    assert lab.pid("cp1") is None


def supervised(lab, script, tmp_path):
    """Start a program the way a host is started."""
    command = ["sh", "-c", nspawn.SUPERVISOR, "host", "sh", "-c", script, f"--directory={lab.path('cp1', 'root')}"]
    process = subprocess.Popen(command, start_new_session=True, cwd=tmp_path)
    nspawn.write_file(lab.path("cp1", "pid"), f"{process.pid}\n")
    return process


def test_host_that_reboots_is_started_again_and_one_that_powers_off_is_not(lab, tmp_path):
    # 133 is what systemd-nspawn ends with when its host reboots.
    process = supervised(lab, "echo boot >>boots; [ $(wc -l <boots) -ge 3 ] && exit 0; exit 133", tmp_path)
    assert process.wait(timeout=10) == 0
    assert (tmp_path / "boots").read_text().split() == ["boot"] * 3


def test_supervisor_outlives_the_signal_until_the_host_is_down(lab, tmp_path):
    stop = "touch stopping; while [ ! -e down ]; do sleep 0.01; done; exit 0"
    script = f"trap '{stop}' TERM; touch up; while :; do sleep 0.01; done"
    process = supervised(lab, script, tmp_path)
    wait((tmp_path / "up").exists)
    os.killpg(process.pid, signal.SIGTERM)
    wait((tmp_path / "stopping").exists)
    assert lab.pid("cp1") == process.pid
    (tmp_path / "down").touch()
    process.wait(timeout=10)
    assert lab.pid("cp1") is None


def test_file_is_written_with_its_mode_and_folder(tmp_path):
    path = tmp_path / "root/.ssh/authorized_keys"
    nspawn.write_file(str(path), "key\n", 0o600)
    assert path.read_text() == "key\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_command_that_fails_is_named_with_its_last_words():
    with pytest.raises(nspawn.LabError, match="no-such-file"):
        nspawn.run("ls", "/no-such-file")


def test_prefix_length_is_that_of_the_bridge():
    assert nspawn.Bridge("wb0", "10.79.0.1/24").prefix_length == "24"


def test_control_groups_are_those_that_a_systemd_manages(tmp_path):
    membership = "9:name=systemd:/a\n4:memory:/x\n0::/b\n"
    for mount in ("systemd", "unified", "memory"):
        (tmp_path / mount).mkdir()
        (tmp_path / mount / "cgroup.procs").touch()
    root = str(tmp_path)
    assert nspawn.control_groups(membership, root) == [f"{root}/systemd/a", f"{root}/unified/b"]


def test_control_group_of_version_2_alone_is_at_the_root(tmp_path):
    (tmp_path / "cgroup.procs").touch()
    assert nspawn.control_groups("0::/user.slice/b\n", str(tmp_path)) == [f"{tmp_path}/user.slice/b"]


def test_hosts_have_control_groups_of_their_own(lab, tmp_path):
    other = nspawn.Lab(str(tmp_path / "other"), lab.bridge)
    groups = [group for of in (lab.groups("a"), lab.groups("b"), other.groups("a")) for group in of]
    assert len(groups) == len(set(groups))
