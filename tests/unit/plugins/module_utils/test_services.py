# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Files, packages and units of a host, without root and without systemd."""

from __future__ import annotations

import grp
import os
import pwd
import time

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import services

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name
MINE = services.Attributes(0o640, ME, MY_GROUP)

SHOWN = """\
Id=etcd.service
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
InactiveExitTimestampMonotonic=90000000

Id=other.service
ActiveState=failed
UnitFileState=
NeedDaemonReload=yes
InactiveExitTimestampMonotonic=0
"""


class Systemctl:
    """Answers for systemctl, which needs a systemd, from a text; keeps the commands that would change something."""

    def __init__(self, shown, fails=()):
        self.shown = shown
        self.fails = fails
        self.commands = []

    def __call__(self, command):
        if command[:2] == ["systemctl", "show"]:
            return 0, self.shown, ""
        self.commands.append(" ".join(command))
        if command[0] == "journalctl":
            return 0, "listen tcp: address already in use", ""
        return (1, "", "Job failed.") if command[1] in self.fails else (0, "", "")


def shown(active="active", enabled="enabled", began_s=1.0):
    return (
        f"Id=a.service\nActiveState={active}\nUnitFileState={enabled}\nNeedDaemonReload=no\n"
        f"InactiveExitTimestampMonotonic={int(began_s * 1e6)}\n"
    )


def test_units_are_read_with_the_time_they_began_to_start():
    units = services.parse_units(SHOWN, now=1000.0, monotonic=100.0)
    assert units["etcd.service"] == services.Unit(True, True, 990.0, False, down=False)
    assert units["other.service"] == services.Unit(False, False, 0.0, True)


def test_packages_that_are_installed_are_not_missing():
    output = "openssl ii \npython3 ii \ndocker-registry rc \n"
    assert services.missing_packages(["openssl", "docker-registry", "curl"], output) == ["docker-registry", "curl"]


def test_file_is_written_once_with_its_mode(tmp_path):
    path = str(tmp_path / "settings")
    first = services.Host(Systemctl(""), check_mode=False)
    first.file(path, MINE, "a: 1\n", secret=False)
    assert first.changes == [path]
    assert (tmp_path / "settings").read_text() == "a: 1\n"
    assert (tmp_path / "settings").stat().st_mode & 0o7777 == 0o640
    second = services.Host(Systemctl(""), check_mode=False)
    second.file(path, MINE, "a: 1\n", secret=False)
    assert second.changes == []


def test_wrong_mode_is_mended_without_writing(tmp_path):
    path = tmp_path / "settings"
    path.write_text("x")
    path.chmod(0o666)
    before = path.stat().st_ino
    host = services.Host(Systemctl(""), check_mode=False)
    host.file(str(path), MINE, "x", secret=False)
    assert host.changes == [f"attributes of {path}"]
    assert (path.stat().st_mode & 0o7777, path.stat().st_ino) == (0o640, before)


def test_check_mode_writes_nothing(tmp_path):
    host = services.Host(Systemctl(""), check_mode=True)
    host.directories([(str(tmp_path / "folder"), MINE)])
    host.file(str(tmp_path / "folder/file"), MINE, "x", secret=False)
    host.copy(str(tmp_path / "no-source"), str(tmp_path / "copy"), MINE)
    assert len(host.changes) == 3
    assert list(tmp_path.iterdir()) == []


def test_text_of_a_secret_is_in_no_diff(tmp_path):
    path = tmp_path / "token"
    path.write_text("planted-old")
    host = services.Host(Systemctl(""), check_mode=False)
    host.file(str(path), MINE, "planted-new", secret=True)
    assert "planted" not in str(host.before) + str(host.after)
    assert path.read_text() == "planted-new"


def test_copy_follows_a_change_of_the_same_size(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"one")
    services.Host(Systemctl(""), check_mode=False).copy(str(source), str(target), MINE)
    source.write_bytes(b"two")
    host = services.Host(Systemctl(""), check_mode=False)
    host.copy(str(source), str(target), MINE)
    assert target.read_bytes() == b"two"
    assert host.changes == [str(target)]


def test_missing_source_is_named_with_the_remedy(tmp_path):
    host = services.Host(Systemctl(""), check_mode=False)
    with pytest.raises(services.ServicesError, match="bundle_host"):
        host.copy(str(tmp_path / "bin"), str(tmp_path / "target"), MINE)


def test_owner_that_does_not_exist_is_named(tmp_path):
    host = services.Host(Systemctl(""), check_mode=False)
    with pytest.raises(services.ServicesError, match="no-such-user"):
        host.file(str(tmp_path / "x"), services.Attributes(0o600, "no-such-user", MY_GROUP), "x", secret=False)


def test_unit_that_runs_with_all_it_reads_is_left_alone(tmp_path):
    (tmp_path / "settings").write_text("x")
    systemctl = Systemctl(shown(began_s=time.clock_gettime(time.CLOCK_MONOTONIC) + 60))
    host = services.Host(systemctl, check_mode=False)
    host.units([{"name": "a.service", "watches": [str(tmp_path / "*")]}])
    assert (host.changes, systemctl.commands) == ([], [])


def test_unit_older_than_a_watched_file_is_restarted_even_when_this_run_wrote_nothing(tmp_path):
    (tmp_path / "settings").write_text("x")
    systemctl = Systemctl(shown(began_s=1.0))
    host = services.Host(systemctl, check_mode=False)
    host.units([{"name": "a.service", "watches": [str(tmp_path / "*")]}])
    assert host.changes == ["restart a.service"]


def test_watched_file_counts_through_its_link(tmp_path):
    (tmp_path / "new").write_text("x")
    (tmp_path / "link").symlink_to("new")
    os.utime(tmp_path / "new", (5000, 5000))
    assert services.newest([str(tmp_path / "link")]) == 5000


def test_unit_that_does_not_start_fails_with_the_end_of_its_journal():
    host = services.Host(Systemctl(shown(active="failed"), fails=("restart",)), check_mode=False)
    with pytest.raises(services.ServicesError, match="address already in use"):
        host.units([{"name": "a.service", "watches": []}])


def test_units_of_a_package_stay_masked_while_it_is_installed(tmp_path):
    source = tmp_path / "bundle.sources"
    source.write_text("")
    systemctl = Systemctl("")
    host = services.Host(systemctl, check_mode=False)
    host.packages(["docker-registry"], str(source), ["docker-registry.service"])
    steps = [command.split()[1] for command in systemctl.commands if "dpkg-query" not in command]
    assert steps == ["update", "mask", "DEBIAN_FRONTEND=noninteractive", "unmask"]
    assert all(str(source) in command for command in systemctl.commands if "apt-get" in command)


def test_packages_without_a_source_come_of_all_that_the_host_knows():
    systemctl = Systemctl("")
    services.Host(systemctl, check_mode=False).packages(["ros-jazzy-ros-base"], "", [])
    commands = [command for command in systemctl.commands if "apt-get" in command]
    assert len(commands) == 2
    assert not any("Dir::Etc" in command for command in commands)


def test_units_of_a_package_are_unmasked_when_its_installation_fails(tmp_path):
    source = tmp_path / "bundle.sources"
    source.write_text("")
    systemctl = Systemctl("", fails=("DEBIAN_FRONTEND=noninteractive",))
    host = services.Host(systemctl, check_mode=False)
    with pytest.raises(services.ServicesError):
        host.packages(["docker-registry"], str(source), ["docker-registry.service"])
    assert "unmask" in systemctl.commands[-1]
