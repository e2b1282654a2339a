# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Hosts made of systemd-nspawn containers over one read-only base image, on a bridge of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time

# The shell moves itself into the host's control groups. With --keep-unit systemd-nspawn ends with 133 when the host
# reboots, for its unit to start it again: the shell does that too. It outlives the signal that shuts the host down.
SUPERVISOR = (
    'for group in $GROUPS_OF_HOST; do echo $$ >"$group/cgroup.procs"; done; '
    'trap : TERM; while "$@"; [ $? -eq 133 ]; do :; done'
)
STOP_TIMEOUT_S = 20.0
BOOT_TIMEOUT_S = 60.0


class LabError(Exception):
    """A host cannot be made or removed; the message says which, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Bridge:
    """The bridge of the hosts: its name, and the machine's address on it with the prefix length."""

    name: str
    address: str

    @property
    def prefix_length(self) -> str:
        return self.address.split("/")[1]


@dataclasses.dataclass(frozen=True)
class Host:
    """A host: its name, and its address on the bridge without the prefix length."""

    name: str
    address: str


def run(*command: str) -> str:
    """Run a command and return its output; raise LabError with its last words when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if result.returncode != 0:
        raise LabError(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()[-400:]}")
    return result.stdout


def write_file(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file atomically, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), mode)
    os.replace(temporary, path)


def systemd_runs_here() -> bool:
    return os.path.isdir("/run/systemd/system")


def control_groups(membership: str, root: str = "/sys/fs/cgroup") -> list[str]:
    """Return the folders of the process's control groups that a systemd manages: version 2, and version 1's own.

    C(membership) is the text of proc(5) cgroup.
    """
    folders = []
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        mounts = {"name=systemd": ["systemd"], "": ["unified", ""]}.get(controllers, [])
        for mount in mounts:
            if os.path.exists(os.path.join(root, mount, "cgroup.procs")):
                folders.append(os.path.normpath(f"{root}/{mount}/{path}"))
                break
    return folders


class Lab:
    """The hosts under one folder: C(<directory>/hosts/<name>/{upper,work,root}), pid file and console log beside."""

    def __init__(self, directory: str, bridge: Bridge) -> None:
        self.directory = directory
        self.bridge = bridge

    def path(self, host: str, *parts: str) -> str:
        return os.path.join(self.directory, "hosts", host, *parts)

    def pid(self, host: str) -> int | None:
        """Return the pid of the running container, or None. A pid that was taken by another process does not count."""
        try:
            with open(self.path(host, "pid"), encoding="utf-8") as stream:
                pid = int(stream.read(32))
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                arguments = stream.read(65536).split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--directory={self.path(host, 'root')}".encode() in arguments else None

    def groups(self, host: str) -> list[str]:
        """Return the host's own control groups. Hosts that share one would stop each other's units.

        Where systemd runs the machine it gives each host a scope, and there are none of ours.
        """
        if systemd_runs_here():
            return []
        with open("/proc/self/cgroup", encoding="utf-8") as stream:
            membership = stream.read(65536)
        name = f"lab-{hashlib.sha256(self.path(host).encode()).hexdigest()[:12]}"
        return [os.path.join(folder, name) for folder in control_groups(membership)]

    def bridge_is_up(self) -> bool:
        return os.path.isdir(f"/sys/class/net/{self.bridge.name}")

    def make_bridge(self) -> None:
        run("ip", "link", "add", self.bridge.name, "type", "bridge")
        run("ip", "address", "add", self.bridge.address, "dev", self.bridge.name)
        run("ip", "link", "set", self.bridge.name, "up")

    def names(self) -> list[str]:
        """Return the hosts that exist on disk."""
        folder = os.path.join(self.directory, "hosts")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def start(self, host: Host, base: str, binds: list[dict], files: dict[str, dict]) -> None:
        """Make the host's overlay if it has none, write its files, boot it, and return without waiting for it."""
        root, upper, work = (self.path(host.name, part) for part in ("root", "upper", "work"))
        for folder in (root, upper, work):
            os.makedirs(folder, exist_ok=True)
        if not os.path.ismount(root):
            run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={upper},workdir={work}", root)
        network = (
            "[Match]\nName=host0\n\n[Network]\n"
            f"Address={host.address}/{self.bridge.prefix_length}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        write_file(os.path.join(root, "etc/systemd/network/10-host0.network"), network)
        write_file(os.path.join(root, "etc/hostname"), f"{host.name}\n")
        for path, entry in files.items():
            write_file(os.path.join(root, path.lstrip("/")), entry["content"], int(entry.get("mode", "0644"), 8))
        groups = self.groups(host.name)
        for group in groups:
            os.makedirs(group, exist_ok=True)
        command = [
            "sh", "-c", SUPERVISOR, "host", "systemd-nspawn", f"--directory={root}", f"--machine={host.name}",
            "--register=no", *([] if systemd_runs_here() else ["--keep-unit"]), "--boot", "--quiet", "--console=pipe",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off",
            f"--network-bridge={self.bridge.name}",
            *(f"--bind-ro={bind['source']}:{bind['target']}" for bind in binds),
        ]  # fmt: skip
        with open(self.path(host.name, "console.log"), "ab") as console:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "GROUPS_OF_HOST": " ".join(groups)},
            )
        write_file(self.path(host.name, "pid"), f"{process.pid}\n")

    def wait(self, host: Host) -> None:
        """Wait until the host's sshd sends its banner; raise LabError with the console's end when it does not."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((host.address, 22), timeout=1) as connection:
                if connection.recv(64).startswith(b"SSH-"):
                    return
            if self.pid(host.name) is None:
                break
            time.sleep(0.1)
        log = self.path(host.name, "console.log")
        with open(log, "rb") as stream:
            stream.seek(max(0, os.path.getsize(log) - 1500))
            tail = stream.read().decode(errors="replace")
        raise LabError(f"host {host.name} did not boot within {BOOT_TIMEOUT_S:.0f} s; the end of {log}:\n{tail}")

    def remove(self, name: str) -> None:
        """Shut the host down, unmount its overlay and delete its folder."""
        pid = self.pid(name)
        if pid is not None:
            # systemd-nspawn passes SIGTERM on as an orderly shutdown.
            os.killpg(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self.pid(name) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.pid(name) is not None:
                os.killpg(pid, signal.SIGKILL)
                while self.pid(name) is not None and time.monotonic() < deadline + 5:
                    time.sleep(0.05)
        root = self.path(name, "root")
        if os.path.ismount(root):
            run("umount", "--recursive", root)
        if os.path.ismount(root):
            raise LabError(f"{root} is still mounted; find who uses it with `fuser -vm {root}` and run this again")
        for group in self.groups(name):
            for folder, _folders, _files in os.walk(group, topdown=False):
                # A control group that still has a process stays, and does no harm.
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.path(name))

    def remove_bridge(self) -> None:
        run("ip", "link", "delete", self.bridge.name)
