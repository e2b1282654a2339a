# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Memory, distribution, ports, limits and data of a host."""

from __future__ import annotations

import socket

from ansible_collections.wasmbed.edge.plugins.module_utils import preflight

MEMINFO = "MemTotal:        2097152 kB\nMemFree: 1 kB\n"
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'


def test_memory_is_compared_in_mib():
    assert preflight.memory(2048, MEMINFO) == []
    assert "2048 MiB of memory and 2049" in preflight.memory(2049, MEMINFO)[0]


def test_distribution_is_told_by_its_id_and_version():
    assert preflight.distribution(["debian 12"], RELEASE) == []
    assert "debian 12" in preflight.distribution(["debian 13"], RELEASE)[0]
    assert preflight.distribution([], RELEASE) == []


def test_port_that_nobody_has_is_free_and_one_that_a_process_has_names_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (problem,) = preflight.ports([{"port": port, "unit": "no-such.service"}])
        assert f"port {port} is taken by" in problem
    assert preflight.ports([{"port": port, "unit": "no-such.service"}]) == []


def test_connection_from_a_port_does_not_take_it():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert preflight.ports([{"port": client.getsockname()[1], "unit": "x.service"}]) == []


def test_limits_are_enforced_where_the_controllers_are(tmp_path):
    assert preflight.enforces_limits(str(tmp_path)) is False
    (tmp_path / "memory/system.slice").mkdir(parents=True)
    assert preflight.enforces_limits(str(tmp_path)) is True
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    assert preflight.enforces_limits(str(tmp_path)) is False
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert preflight.enforces_limits(str(tmp_path)) is True


def test_data_of_another_site_is_foreign_and_no_data_is_nobodys(tmp_path):
    entry = {"path": str(tmp_path / "member"), "site_file": str(tmp_path / "site"), "site": "mine"}
    assert preflight.foreign_data([entry]) == []
    (tmp_path / "member").mkdir()
    assert preflight.foreign_data([entry]) == [entry["path"]]
    (tmp_path / "site").write_text("theirs\n")
    assert preflight.foreign_data([entry]) == [entry["path"]]
    (tmp_path / "site").write_text("mine\n")
    assert preflight.foreign_data([entry]) == []
