# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What a host must be, and what the message says to change."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import preflight


def test_a_supported_architecture_is_no_problem():
    assert preflight.architecture(["amd64", "arm64"], "aarch64") == []


def test_another_architecture_is_named():
    assert "riscv64" in preflight.architecture(["amd64"], "riscv64")[0]


@pytest.mark.parametrize(("now", "word"), [(1100.0, "ahead of"), (900.0, "behind")])
def test_a_clock_that_is_off_is_a_problem(now, word):
    (problem,) = preflight.clock(1000.0, 60.0, now)
    assert f"100 s {word}" in problem


def test_a_clock_within_the_limit_is_no_problem():
    assert preflight.clock(1000.0, 60.0, 1059.0) == []


def test_a_folder_that_does_not_exist_yet_stands_for_the_one_above(tmp_path):
    assert preflight.disk({str(tmp_path / "not" / "yet"): 1}) == []
    (problem,) = preflight.disk({str(tmp_path / "not" / "yet"): 10**12})
    assert "MiB free" in problem


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:x"])
def test_an_endpoint_without_host_or_port_is_a_problem(text):
    (problem,) = preflight.endpoints([text])
    assert "is not host:port" in problem


def test_an_ipv6_endpoint_is_split():
    assert preflight.split("[fd00::1]:6443") == ("fd00::1", 6443)


def test_an_endpoint_that_accepts_is_no_problem_and_one_that_refuses_is():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
        assert preflight.endpoints([endpoint]) == []
    assert "no connection to" in preflight.endpoints([endpoint])[0]


def test_a_name_that_does_not_resolve_is_a_problem():
    assert preflight.names(["localhost"]) == []
    assert "does not resolve" in preflight.names(["does-not-exist.invalid"])[0]
