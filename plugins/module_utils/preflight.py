# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What a host must be before something is installed on it. Each check returns problems, each with its remedy."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time

MIB = 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture(wanted: list[str], machine: str | None = None) -> list[str]:
    """Check the host's architecture, by Debian's names."""
    machine = machine or platform.machine()
    name = MACHINES.get(machine, machine)
    if not wanted or name in wanted:
        return []
    return [f"the architecture is {name}, supported are {', '.join(wanted)}; use another host"]


def services_manager() -> list[str]:
    """Check that systemd runs the host."""
    if os.path.isdir("/run/systemd/system"):
        return []
    return ["systemd does not run this host; use a host whose first process is systemd"]


def disk(wanted_mib: dict[str, int]) -> list[str]:
    """Check free space, C(path) to MiB. A path that does not exist yet stands for the nearest folder above it."""
    problems = []
    for path, need in wanted_mib.items():
        folder = path
        while not os.path.isdir(folder) and folder != "/":
            folder = os.path.dirname(folder) or "/"
        free = shutil.disk_usage(folder).free // MIB
        if free < int(need):
            problems.append(f"{path} has {free} MiB free and {need} MiB are needed; free some, or mount a larger disk")
    return problems


def clock(reference_s: float | None, limit_s: float, now_s: float | None = None) -> list[str]:
    """Check the clock against another one's time, both in seconds since 1970."""
    if reference_s is None:
        return []
    difference = (time.time() if now_s is None else now_s) - reference_s
    if abs(difference) <= limit_s:
        return []
    return [
        f"the clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the control machine's; "
        "set it (timedatectl) and keep it with an NTP service, or certificates will not be valid here"
    ]


def split(endpoint: str) -> tuple[str, int]:
    """Split C(host:port) or C([address]:port); raise ValueError when it is neither."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{endpoint!r} is not host:port")
    return host.strip("[]"), int(port)


def names(wanted: list[str]) -> list[str]:
    """Check that names resolve."""
    problems = []
    for name in wanted:
        try:
            socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            problems.append(f"the name {name} does not resolve ({error}); add it to the site's DNS or to /etc/hosts")
    return problems


def endpoints(wanted: list[str]) -> list[str]:
    """Check that connections can be opened to C(host:port)."""
    problems = []
    for endpoint in wanted:
        try:
            host, port = split(endpoint)
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            problems.append(
                f"no connection to {endpoint} ({error}); start what serves it, or open the way to it in the firewall"
            )
    return problems
