# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""A bundle: one folder with everything a site installs, and a manifest with the sha256 of every file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


class BundleError(Exception):
    """The bundle cannot be made or read; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """What stands between a folder and its manifest, as sorted relative paths."""

    changed: list[str]
    missing: list[str]
    unlisted: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.unlisted)

    def sentences(self) -> list[str]:
        return [
            *(f"{path}: its sha256 is not the manifest's" for path in self.changed),
            *(f"{path}: missing" for path in self.missing),
            *(f"{path}: not in the manifest" for path in self.unlisted),
        ]


def sha256(path: str) -> str:
    """Return the hexadecimal sha256 of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(directory: str) -> list[str]:
    """Return the relative paths of all files below a folder, without the manifest."""
    found = []
    for folder, _folders, names in os.walk(directory):
        found.extend(os.path.relpath(os.path.join(folder, name), directory) for name in names)
    return sorted(path for path in found if path != MANIFEST)


def read_manifest(directory: str) -> dict:
    """Return the manifest of a bundle; raise BundleError when there is none or it is not one."""
    path = os.path.join(directory, MANIFEST)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
        manifest = json.loads(text) if len(text) <= MAX_MANIFEST_BYTES else None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: {error}; make the bundle with playbooks/bundle.yml") from error
    if not isinstance(manifest, dict) or manifest.get("version") != 1 or not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{path} is no manifest of version 1; make the bundle again with playbooks/bundle.yml")
    return manifest


class Stamp:
    """Remembers the sha256 of files by what changes whenever their content does: inode, size and change times.

    The change time cannot be set by a program, so a file that looks the same has the same content. Kept outside the
    bundle, which may be read-only. Without a path nothing is remembered.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._known: dict[str, list] = {}
        self._used: dict[str, list] = {}
        if path is not None:
            with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as stream:
                known = json.loads(stream.read(MAX_MANIFEST_BYTES))
                self._known = known if isinstance(known, dict) else {}

    def sha256(self, path: str) -> str:
        status = os.stat(path)
        signature = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(path)
        digest = known[-1] if isinstance(known, list) and known[:-1] == signature else sha256(path)
        self._used[path] = [*signature, digest]
        return digest

    def save(self) -> None:
        """Keep what was asked for, when it is news."""
        if self._path is not None and self._used != self._known:
            write_json(self._path, self._used, 0o600)


def write_json(path: str, value: dict, mode: int) -> None:
    """Write a JSON file whole and synchronized, then rename it to its place."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=2, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def compare(directory: str, listed: dict[str, str], stamp: Stamp) -> Difference:
    """Compare every file of a folder with the listed relative paths and their sha256."""
    found = set(files_below(directory)) if os.path.isdir(directory) else set()
    digests = {path: stamp.sha256(os.path.join(directory, path)) for path in sorted(found & set(listed))}
    return Difference(
        changed=sorted(path for path, digest in digests.items() if digest != listed[path]),
        missing=sorted(set(listed) - found),
        unlisted=sorted(found - set(listed)),
    )


def verify(directory: str) -> Difference:
    """Compare every file of a bundle with its manifest."""
    return compare(directory, read_manifest(directory)["files"], Stamp(None))


def receive(directory: str, manifest: dict, stamp: Stamp) -> bool:
    """Take files that were copied to a host as its bundle: all are there, no other is, and the manifest goes last.

    Returns whether something changed; raises BundleError naming the files that are not what the manifest says.
    """
    difference = compare(directory, manifest["files"], stamp)
    wrong = dataclasses.replace(difference, unlisted=[])
    if wrong:
        raise BundleError(f"bundle {directory}: {'; '.join(wrong.sentences()[:5])}; copy it again")
    for path in difference.unlisted:
        os.unlink(os.path.join(directory, path))
    stamp.save()
    with contextlib.suppress(BundleError):
        if read_manifest(directory) == manifest:
            return bool(difference)
    write_json(os.path.join(directory, MANIFEST), manifest, 0o644)
    return True


def sources(entries: list[dict]) -> dict[str, str]:
    """Return relative path in the bundle -> source file, for entries C(src) (file or folder) and C(dest)."""
    wanted = {}
    for entry in entries:
        src, dest = entry["src"], entry["dest"]
        if os.path.isdir(src):
            for path in files_below(src):
                wanted[os.path.normpath(os.path.join(dest, path))] = os.path.join(src, path)
        elif os.path.isfile(src):
            wanted[os.path.normpath(dest)] = src
        else:
            raise BundleError(f"{src} does not exist; it was to become {dest} of the bundle")
    for path in wanted:
        if path.startswith("..") or os.path.isabs(path):
            raise BundleError(f"{path} lies outside the bundle; use a dest below it")
    return wanted


def plan(directory: str, entries: list[dict], metadata: dict) -> tuple[dict[str, str], Difference, dict]:
    """Return the sources, what differs from them in the folder, and the manifest to be written."""
    wanted = sources(entries)
    digests = {path: sha256(src) for path, src in sorted(wanted.items())}
    difference = compare(directory, digests, Stamp(None))
    return wanted, difference, {"version": 1, **metadata, "files": digests}


def write(directory: str, wanted: dict[str, str], difference: Difference, manifest: dict) -> None:
    """Make the folder equal to the plan. The manifest goes last, so a bundle that was cut short does not verify."""
    os.makedirs(directory, exist_ok=True)
    for path in difference.changed + difference.missing:
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.new"
        shutil.copyfile(wanted[path], temporary)
        os.chmod(temporary, 0o755 if os.access(wanted[path], os.X_OK) else 0o644)
        os.replace(temporary, target)
    for path in difference.unlisted:
        os.unlink(os.path.join(directory, path))
    write_json(os.path.join(directory, MANIFEST), manifest, 0o644)
