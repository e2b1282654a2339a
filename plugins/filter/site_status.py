# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Turn what hosts and the cluster report into the tables and problems of a site's status."""

from __future__ import annotations

import datetime

EXPIRY_WARNING_DAYS = 7


def _days_left(not_after, now):
    end = datetime.datetime.fromisoformat(not_after.replace("Z", "+00:00"))
    return (end - now).total_seconds() / 86400


def _name(item):
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]


def _condition(item, kind):
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == kind:
            return condition
    return {"status": "Unknown", "reason": "NotReported", "message": "the agent has not reported yet"}


def _host_rows(hosts, now, problems):
    services, certificates = [], []
    for host, report in sorted(hosts.items()):
        if report["system"] != "running":
            problems.append(f"host {host}: systemd is {report['system']}; run systemctl --failed there")
        for unit, state in sorted(report["units"].items()):
            services.append([host, unit, f"{state['active']}/{state['sub']}", str(state["restarts"])])
            if state["active"] != "active":
                problems.append(f"host {host}: {unit} is {state['active']}; run journalctl -u {unit} there")
        for path, state in sorted(report["certificates"].items()):
            if "error" in state:
                problems.append(f"host {host}: certificate {path}: {state['error']}")
                continue
            days = _days_left(state["not_after"], now)
            certificates.append([host, path, state["subject"], state["not_after"], f"{days:.0f}"])
            if days < EXPIRY_WARNING_DAYS:
                problems.append(f"host {host}: certificate {path} ends in {days:.1f} days; run the site playbook")
    return services, certificates


def _application_rows(applications, problems):
    rows = []
    for item in applications:
        status = item.get("status", {})
        counts = status.get("counts", {})
        rows.append(
            [
                _name(item),
                item["spec"]["wasmImage"],
                status.get("resolvedDigest", "")[:19],
                status.get("phase", "Pending"),
                f"{counts.get('running', 0)}/{counts.get('selected', 0)}",
            ]
        )
        if status.get("phase") != "Running":
            reason = status.get("reason") or "not reconciled yet"
            problems.append(
                f"application {_name(item)}: {status.get('phase', 'Pending')}: {reason}: {status.get('message', '')}"
            )
    return rows


def site_status(hosts, gateways, devices, applications, versions, now=None):
    """Return C(sections) (title, header, rows of strings) and C(problems) (one sentence each) of a site.

    hosts: host name -> return value of host_status_info; gateways, devices, applications: Kubernetes objects;
    versions: component name -> version.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    problems = []
    services, certificates = _host_rows(hosts, now, problems)
    gateway_rows = []
    for item in gateways:
        ready = _condition(item, "Ready")
        agent = item.get("status", {}).get("versions", {})
        gateway_rows.append(
            [_name(item), item["spec"]["endpoint"], ready["status"], agent.get("agent", ""), agent.get("wasmtime", "")]
        )
        if ready["status"] != "True":
            problems.append(f"gateway {_name(item)} is not ready: {ready['reason']}: {ready['message']}")
    device_rows = []
    for item in devices:
        phase = item.get("status", {}).get("phase", "Pending")
        device_rows.append([_name(item), item["spec"]["deviceType"], item.get("status", {}).get("gateway", ""), phase])
        if phase != "Connected":
            problems.append(f"device {_name(item)} is {phase}: {item.get('status', {}).get('message', '')}")
    if not gateways:
        problems.append("there is no gateway; add a host to the group gateways")
    if not applications:
        problems.append("there is no application; run the deploy playbook")
    sections = [
        (
            "Hosts",
            ["host", "system", "state"],
            [[host, report["os"], report["system"]] for host, report in sorted(hosts.items())],
        ),
        ("Services", ["host", "unit", "state", "restarts"], services),
        ("Versions", ["component", "version"], [[name, version] for name, version in sorted(versions.items())]),
        ("Certificates", ["host", "file", "subject", "not after (UTC)", "days"], certificates),
        ("Gateways", ["name", "endpoint", "ready", "agent", "wasmtime"], gateway_rows),
        ("Devices", ["name", "type", "gateway", "phase"], device_rows),
        ("Applications", ["name", "image", "digest", "phase", "running"], _application_rows(applications, problems)),
    ]
    return {
        "sections": [{"title": title, "header": header, "rows": rows} for title, header, rows in sections],
        "problems": problems,
    }


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        return {"site_status": site_status}
