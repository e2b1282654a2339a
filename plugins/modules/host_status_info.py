#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Report the state of systemd units, programs and certificates of one host in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_status_info
short_description: Report units, program versions and certificate expiry of one host
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Reads what a status page needs from a host in one task, and changes nothing.
requirements:
  - systemd and openssl on the host
extends_documentation_fragment:
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.info
options:
  units:
    description: The systemd units to report.
    type: list
    elements: str
    default: []
  certificates:
    description: PEM files to report, with wildcards. Of a chain the first certificate is read.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Report the gateway's services
  wasmbed.edge.host_status_info:
    units:
      - wasmbed-agent.service
      - wasmbed-runtime.service
    certificates:
      - /etc/wasmbed/pki/*.crt
"""

RETURN = r"""
units:
  description: State of each unit by its name.
  returned: success
  type: dict
  sample: {"wasmbed-agent.service": {"active": "active", "sub": "running", "restarts": 0}}
certificates:
  description: Subject and end of validity (UTC, ISO 8601) of each file, or the error met while reading it.
  returned: success
  type: dict
  sample: {"/etc/wasmbed/pki/gateway.crt": {"subject": "CN=gw1", "not_after": "2027-11-24T12:00:00Z"}}
os:
  description: The operating system's own name of itself.
  returned: success
  type: str
  sample: Debian GNU/Linux 12 (bookworm)
system:
  description: What C(systemctl is-system-running) says.
  returned: success
  type: str
  sample: running
"""

import glob
import time

from ansible.module_utils.basic import AnsibleModule

MAX_FILE_BYTES = 64 * 1024


def unit_states(module: AnsibleModule, units: list) -> dict:
    """Return the state of every unit with one systemctl call; blocks are separated by an empty line."""
    if not units:
        return {}
    command = ["systemctl", "show", "--property=Id,ActiveState,SubState,NRestarts", *units]
    _rc, out, _err = module.run_command(command, check_rc=True)
    states = {}
    for unit, block in zip(units, out.strip().split("\n\n"), strict=False):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        states[unit] = {
            "active": fields.get("ActiveState", "unknown"),
            "sub": fields.get("SubState", "unknown"),
            "restarts": int(fields.get("NRestarts") or 0),
        }
    return states


def certificate_state(module: AnsibleModule, path: str) -> dict:
    """Return subject and end of one certificate, or C(error) with the reason it cannot be read."""
    command = ["openssl", "x509", "-noout", "-subject", "-enddate", "-nameopt", "RFC2253", "-in", path]
    rc, out, err = module.run_command(command)
    if rc != 0:
        return {"error": err.strip()[:200] or "unreadable certificate"}
    fields = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    end = time.strptime(fields["notAfter"], "%b %d %H:%M:%S %Y %Z")
    return {"subject": fields.get("subject", ""), "not_after": time.strftime("%Y-%m-%dT%H:%M:%SZ", end)}


def certificate_paths(patterns: list) -> list:
    """Return the files that the patterns match; one without wildcards stands for itself, missing or not."""
    found = (glob.glob(pattern) or ([] if glob.has_magic(pattern) else [pattern]) for pattern in patterns)
    return sorted({path for paths in found for path in paths})


def os_name() -> str:
    """Return PRETTY_NAME of os-release(5)."""
    try:
        with open("/etc/os-release", encoding="utf-8") as stream:
            for line in stream.read(MAX_FILE_BYTES).splitlines():
                if line.startswith("PRETTY_NAME="):
                    return line.split("=", 1)[1].strip('"')
    except OSError:
        return "unknown"
    return "unknown"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "certificates": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    _rc, system, _err = module.run_command(["systemctl", "is-system-running"])
    module.exit_json(
        changed=False,
        os=os_name(),
        system=system.strip() or "unknown",
        units=unit_states(module, module.params["units"]),
        certificates={
            path: certificate_state(module, path) for path in certificate_paths(module.params["certificates"])
        },
    )


if __name__ == "__main__":
    main()
