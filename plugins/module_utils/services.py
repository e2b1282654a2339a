# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""The desired state of a host's services: users, folders, files, and systemd units that run with them."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import grp
import hashlib
import os
import pwd
import shutil
import time

MAX_TEXT_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024


class ServicesError(Exception):
    """A host cannot be brought to its state; the message names the object, the cause and the remedy."""


@dataclasses.dataclass(frozen=True)
class Attributes:
    """Mode and owner of a file or folder."""

    mode: int
    owner: str
    group: str

    def ids(self) -> tuple[int, int]:
        try:
            return pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError as error:
            raise ServicesError(f"{error.args[0]}; list it under users before it owns anything") from error

    def differ(self, path: str) -> bool:
        try:
            ids = self.ids()
        except ServicesError:
            return True
        status = os.stat(path)
        return (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (self.mode, *ids)

    def apply(self, path: str) -> None:
        os.chown(path, *self.ids())
        os.chmod(path, self.mode)


@dataclasses.dataclass(frozen=True)
class Unit:
    """State of a unit: whether it is enabled and active, and when it began to start, in seconds of time.time().

    One that waits to be started anew after a failure is neither active nor down.
    """

    enabled: bool
    active: bool
    started: float
    needs_reload: bool
    down: bool = True


def digest(path: str) -> str | None:
    """Return the sha256 of a file, or None when there is none."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def same_content(one: str, other: str) -> bool:
    """Compare two files byte by byte, which is several times as fast as hashing both."""
    try:
        with open(one, "rb") as left, open(other, "rb") as right:
            if os.fstat(left.fileno()).st_size != os.fstat(right.fileno()).st_size:
                return False
            while piece := left.read(PIECE_BYTES):
                if piece != right.read(PIECE_BYTES):
                    return False
            return True
    except FileNotFoundError:
        return False


def read_text(path: str) -> str | None:
    """Return the text of a file, or None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_TEXT_BYTES)
    except FileNotFoundError:
        return None


def replace(path: str, attributes: Attributes, *, content: str | None = None, source: str | None = None) -> None:
    """Write a file from a text or another file: whole, synchronized, with its owner and mode, then renamed."""
    temporary = f"{path}.wasmbed-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        if source is not None:
            with open(source, "rb") as original:
                shutil.copyfileobj(original, stream, PIECE_BYTES)
        else:
            stream.write((content or "").encode())
        stream.flush()
        os.fsync(stream.fileno())
    attributes.apply(temporary)
    os.replace(temporary, path)


def newest(patterns: list[str]) -> float:
    """Return the latest change of the files that the patterns match, through links; 0 when nothing matches."""
    times = [os.stat(path).st_mtime for pattern in patterns for path in glob.glob(pattern)]
    return max(times, default=0.0)


def parse_units(output: str, now: float, monotonic: float) -> dict[str, Unit]:
    """Read the output of C(systemctl show) with Id, ActiveState, UnitFileState, NeedDaemonReload and start time."""
    units = {}
    for block in output.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        began = int(fields.get("InactiveExitTimestampMonotonic") or 0) / 1e6
        units[fields["Id"]] = Unit(
            enabled=fields.get("UnitFileState") in ("enabled", "static", "linked"),
            active=fields.get("ActiveState") == "active",
            started=now - monotonic + began if began else 0.0,
            needs_reload=fields.get("NeedDaemonReload") == "yes",
            down=fields.get("ActiveState", "inactive") in ("inactive", "failed"),
        )
    return units


def missing_packages(names: list[str], output: str) -> list[str]:
    """Return the packages that dpkg-query's lines C(name status) do not show as installed."""
    installed = {fields[0] for fields in map(str.split, output.splitlines()) if len(fields) > 1 and fields[1] == "ii"}
    return [name for name in names if name not in installed]


class Host:
    """Applies a desired state and keeps what it changed. C(run) is AnsibleModule.run_command."""

    def __init__(self, run, check_mode: bool) -> None:
        self._run = run
        self._check_mode = check_mode
        self.changes: list[str] = []
        self.before: dict[str, str] = {}
        self.after: dict[str, str] = {}

    def command(self, *command: str, data: str | None = None) -> str:
        """Run a command that changes something, with this as its input; raise ServicesError with its last words."""
        code, out, err = self._run(list(command)) if data is None else self._run(list(command), data=data)
        if code != 0:
            raise ServicesError(f"{' '.join(command)}: {(err or out).strip()[-600:]}")
        return out

    def packages(self, names: list[str], source: str, units: list[str]) -> None:
        """Install the packages that are missing, without starting the given units.

        They come of one apt source alone, or of all that the host knows when source is empty.
        """
        if not names:
            return
        _code, out, _err = self._run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n", *names])
        missing = missing_packages(names, out)
        if not missing:
            return
        self.changes.extend(f"package {name}" for name in missing)
        if self._check_mode:
            return
        if source and not os.path.isfile(source):
            raise ServicesError(f"{source} does not exist; the role bundle_host writes it, run that first")
        only = [f"--option=Dir::Etc::SourceList={source}", "--option=Dir::Etc::SourceParts=-"] if source else []
        self.command("apt-get", "update", "--quiet", *only, "--option=APT::Get::List-Cleanup=false")
        # A package starts its service as soon as it is unpacked, with settings of its own; a masked unit stays down.
        if units:
            self.command("systemctl", "mask", "--runtime", "--quiet", *units)
        try:
            options = ["--yes", "--quiet", "--no-install-recommends", "--option=Dpkg::Options::=--force-confold"]
            self.command("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *options, *only, *missing)
        finally:
            if units:
                self.command("systemctl", "unmask", "--runtime", "--quiet", *units)

    def users(self, users: list[dict]) -> None:
        """Make system users, each with a group of its own name, without a shell."""
        for user in users:
            name = user["name"]
            groups = set(user["groups"])
            try:
                pwd.getpwnam(name)
            except KeyError:
                self.changes.append(f"user {name}")
                if not self._check_mode:
                    home = ("--home-dir", user["home"], "--no-create-home")
                    self.command("useradd", "--system", "--user-group", *home, "--shell", "/usr/sbin/nologin", name)
            missing = sorted(group for group in groups if not self._is_member(name, group))
            if missing:
                self.changes.append(f"user {name} in {', '.join(missing)}")
                if not self._check_mode:
                    self.command("usermod", "--append", "--groups", ",".join(missing), name)

    @staticmethod
    def _is_member(user: str, group: str) -> bool:
        try:
            return user in grp.getgrnam(group).gr_mem
        except KeyError:
            return False

    def directories(self, directories: list[tuple[str, Attributes]]) -> None:
        """Make folders, and give existing ones their mode and owner."""
        for path, attributes in directories:
            if os.path.isdir(path) and not attributes.differ(path):
                continue
            self.changes.append(f"folder {path}")
            if not self._check_mode:
                os.makedirs(path, exist_ok=True)
                attributes.apply(path)

    def file(self, path: str, attributes: Attributes, content: str, secret: bool) -> None:
        """Give a file its text, mode and owner. The text of a secret never reaches the diff."""
        current = read_text(path)
        if current != content:
            self.changes.append(path)
            self.before[path] = "(secret)" if secret and current is not None else current or ""
            self.after[path] = "(a new secret)" if secret else content
            if not self._check_mode:
                replace(path, attributes, content=content)
        elif attributes.differ(path):
            self.changes.append(f"attributes of {path}")
            if not self._check_mode:
                attributes.apply(path)

    def copy(self, source: str, path: str, attributes: Attributes) -> None:
        """Make a file equal to another one of the host."""
        if not os.path.isfile(source):
            if self._check_mode:
                self.changes.append(path)
                return
            raise ServicesError(
                f"{source} does not exist, it was to become {path}; is the bundle there (role bundle_host)?"
            )
        if not same_content(source, path):
            self.changes.append(path)
            self.before[path], self.after[path] = f"sha256:{digest(path)}\n", f"sha256:{digest(source)}\n"
            if not self._check_mode:
                replace(path, attributes, source=source)
        elif attributes.differ(path):
            self.changes.append(f"attributes of {path}")
            if not self._check_mode:
                attributes.apply(path)

    def show(self, names: list[str]) -> dict[str, Unit]:
        """Return the state of units."""
        properties = "Id,ActiveState,UnitFileState,NeedDaemonReload,InactiveExitTimestampMonotonic"
        out = self.command("systemctl", "show", f"--property={properties}", *names)
        return parse_units(out, time.time(), time.clock_gettime(time.CLOCK_MONOTONIC))

    def units(self, units: list[dict]) -> None:
        """Enable and start units in their order; restart one that began before the latest change of what it watches."""
        if not units:
            return
        names = [unit["name"] for unit in units]
        states = self.show(names)
        if (any(state.needs_reload for state in states.values()) or self.changes) and not self._check_mode:
            self.command("systemctl", "daemon-reload")
            states = self.show(names)
        for unit in units:
            name = unit["name"]
            state = states.get(name, Unit(False, False, 0.0, False))
            stale = newest(unit["watches"]) > state.started
            actions = []
            if not state.enabled:
                actions.append("enable")
            if not state.active:
                actions.append("start")
            elif stale:
                actions.append("restart")
            for action in actions:
                self.changes.append(f"{action} {name}")
                if self._check_mode:
                    continue
                try:
                    # restart also leaves a failed start-limit behind; a start after reset-failed does the same.
                    self.command("systemctl", "restart" if action == "start" else action, name)
                except ServicesError as error:
                    log = self._run(["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", name])[1]
                    raise ServicesError(f"{error}\nthe end of the journal of {name}:\n{log.strip()[-2000:]}") from error
