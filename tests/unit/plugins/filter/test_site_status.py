# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What a site's status calls healthy, and what it calls a problem."""

from __future__ import annotations

import copy
import datetime

import pytest
from ansible_collections.wasmbed.edge.plugins.filter.site_status import site_status

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
HOSTS = {
    "gw1": {
        "os": "Debian GNU/Linux 12 (bookworm)",
        "system": "running",
        "units": {"wasmbed-agent.service": {"active": "active", "sub": "running", "restarts": 0}},
        "certificates": {"/etc/a.crt": {"subject": "CN=gw1", "not_after": "2027-11-24T00:00:00Z"}},
    }
}
GATEWAYS = [
    {
        "metadata": {"name": "gw1"},
        "spec": {"endpoint": "gateway.wasmbed.local:8080"},
        "status": {
            "versions": {"agent": "0.1.0", "wasmtime": "50.0.1"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": ""}],
        },
    }
]
DEVICES = [
    {
        "metadata": {"name": "d1", "namespace": "default"},
        "spec": {"deviceType": "drone"},
        "status": {"phase": "Connected", "gateway": "gw1"},
    }
]
APPLICATIONS = [
    {
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"wasmImage": "registry/app:1"},
        "status": {"phase": "Running", "resolvedDigest": "sha256:" + "a" * 64, "counts": {"running": 1, "selected": 1}},
    }
]


def status(change=None):
    """Return the status of a healthy site after change(hosts, gateways, devices, applications)."""
    parts = copy.deepcopy([HOSTS, GATEWAYS, DEVICES, APPLICATIONS])
    if change:
        change(*parts)
    return site_status(*parts, {"kubernetes": "v1.37.2"}, now=NOW)


def test_healthy_site_has_no_problem_and_a_row_of_each_thing():
    result = status()
    assert result["problems"] == []
    rows = {section["title"]: section["rows"] for section in result["sections"]}
    assert rows["Applications"] == [
        ["default/app", "registry/app:1", "sha256:aaaaaaaaaaaa", "Running", "1/1"],
    ]
    assert rows["Certificates"] == [["gw1", "/etc/a.crt", "CN=gw1", "2027-11-24T00:00:00Z", "365"]]
    assert all(len(row) == len(section["header"]) for section in result["sections"] for row in section["rows"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda h, g, d, a: h["gw1"].update(system="degraded"), "host gw1: systemd is degraded"),
        (lambda h, g, d, a: h["gw1"]["units"]["wasmbed-agent.service"].update(active="failed"), "is failed"),
        (lambda h, g, d, a: h["gw1"]["certificates"].update({"/x": {"error": "no such file"}}), "no such file"),
        (
            lambda h, g, d, a: h["gw1"]["certificates"]["/etc/a.crt"].update(not_after="2026-11-25T00:00:00Z"),
            "ends in 1.0 days",
        ),
        (lambda h, g, d, a: g[0]["status"]["conditions"][0].update(status="False"), "gateway gw1 is not ready"),
        (lambda h, g, d, a: g[0].pop("status"), "has not reported"),
        (lambda h, g, d, a: g.clear(), "there is no gateway"),
        (lambda h, g, d, a: d[0]["status"].update(phase="Unreachable"), "device default/d1 is Unreachable"),
        (lambda h, g, d, a: a[0]["status"].update(phase="Failed", reason="InvalidModule"), "Failed: InvalidModule"),
        (lambda h, g, d, a: a[0].pop("status"), "not reconciled yet"),
        (lambda h, g, d, a: a.clear(), "there is no application"),
    ],
)
def test_each_unhealthy_part_is_one_problem_that_names_it(change, expected):
    problems = status(change)["problems"]
    assert len(problems) == 1
    assert expected in problems[0]
