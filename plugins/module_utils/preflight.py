# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What a host must be before something is installed on it. Each check returns problems, each with its remedy."""

from __future__ import annotations

import contextlib
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


def memory(wanted_mib: int, meminfo: str | None = None) -> list[str]:
    """Check the host's memory. C(meminfo) is the text of proc(5) meminfo."""
    if meminfo is None:
        with open("/proc/meminfo", encoding="ascii") as stream:
            meminfo = stream.read(65536)
    total = next(int(line.split()[1]) // 1024 for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    if total >= wanted_mib:
        return []
    return [f"this host has {total} MiB of memory and {wanted_mib} MiB are needed; give it more"]


def distribution(wanted: list[str], release: str | None = None) -> list[str]:
    """Check the distribution by C(ID VERSION_ID) of os-release(5). None given, none refused."""
    if release is None:
        try:
            with open("/etc/os-release", encoding="utf-8") as stream:
                release = stream.read(65536)
        except FileNotFoundError:
            release = ""
    fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    name = f"{fields.get('ID', 'unknown')} {fields.get('VERSION_ID', '')}".replace('"', "").strip()
    if not wanted or name in wanted:
        return []
    return [
        f"this host runs {name}, and the bundle is for {', '.join(wanted)}; use another host, or make a bundle for it"
    ]


def _listeners(text: str, port: int) -> set[str]:
    """Return the socket inodes that listen on a port, from the text of proc(5) net/tcp or net/tcp6."""
    lines = [line.split() for line in text.splitlines()[1:]]
    return {f[9] for f in lines if len(f) > 9 and f[3] == "0A" and int(f[1].rpartition(":")[2], 16) == port}


def _owner(inodes: set[str]) -> tuple[str, str]:
    """Return name and control groups of the process that has one of the sockets, or empty strings."""
    targets = {f"socket:[{inode}]" for inode in inodes}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if any(os.readlink(entry.path) in targets for entry in os.scandir(f"/proc/{process}/fd")):
                with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as stream:
                    name = stream.read(64).strip()
                with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="replace") as stream:
                    return name, stream.read(65536)
    return "", ""


def ports(wanted: list[dict]) -> list[str]:
    """Check that TCP ports are free, or listened on by the unit that is to have them: C(port) and C(unit)."""
    texts = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as stream:
            texts.append(stream.read(16 * MIB))
    problems = []
    for entry in wanted:
        inodes = set().union(*(_listeners(text, int(entry["port"])) for text in texts))
        if not inodes:
            continue
        name, groups = _owner(inodes)
        if f"/{entry['unit']}" not in groups:
            problems.append(
                f"port {entry['port']} is taken by {name or 'another process'}; stop that, or choose another port"
            )
    return problems


def foreign_data(wanted: list[dict]) -> list[str]:
    """Return the paths whose data belongs to another site: C(path), C(site_file) and what it must say, C(site)."""
    foreign = []
    for entry in wanted:
        if not os.path.exists(entry["path"]):
            continue
        try:
            with open(entry["site_file"], encoding="utf-8", errors="replace") as stream:
                site = stream.read(4096).strip()
        except FileNotFoundError:
            site = ""
        if site != entry["site"].strip():
            foreign.append(entry["path"])
    return foreign


def enforces_limits(root: str = "/sys/fs/cgroup") -> bool:
    """Tell whether systemd's MemoryMax and the like are enforced here; in a container they may be accepted in vain."""
    with contextlib.suppress(OSError), open(f"{root}/cgroup.controllers", encoding="ascii") as stream:
        return {"memory", "pids"} <= set(stream.read(4096).split())
    return os.path.isdir(f"{root}/memory/system.slice")
