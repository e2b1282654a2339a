# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""A Python environment made of a bundle's wheels: built beside the old one, tried, then switched to by a link."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import platform
import shutil

NEEDED_BYTES = 1024**3
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
KEY_FILE = ".wasmbed-key"


class PythonEnvironmentError(Exception):
    """An environment cannot be built; the message names the cause and the remedy."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """The link C(path), the bundle it is made of, and the Python it stands on.

    C(requirements_file) is in the bundle, the wheels are beside it.
    """

    path: str
    bundle: str
    python: str
    requirements_file: str = "wheels/requirements.txt"

    @property
    def uv(self) -> str:
        return os.path.join(self.bundle, "bin", "uv")

    @property
    def wheels(self) -> str:
        return os.path.dirname(self.requirements)

    @property
    def requirements(self) -> str:
        return os.path.join(self.bundle, self.requirements_file)

    def key(self) -> str:
        """Return a name for what the environment is made of: every wheel's hash is in the requirements."""
        with open(self.requirements, "rb") as stream:
            content = stream.read()
        return hashlib.sha256(content + self.python.encode()).hexdigest()[:16]

    def folder(self, key: str) -> str:
        return f"{self.path}-{key}"

    def current(self) -> str | None:
        """Return the folder that the link leads to when it holds a whole environment."""
        try:
            folder = os.path.join(os.path.dirname(self.path), os.readlink(self.path))
        except OSError:
            return None
        return folder if os.path.isfile(os.path.join(folder, KEY_FILE)) else None

    def others(self, folder: str) -> list[str]:
        """Return the environments beside the wanted one, finished or not."""
        return sorted(set(glob.glob(f"{glob.escape(self.path)}-*")) - {folder})

    def problems(self) -> list[str]:
        """Return why this host cannot have the environment, each with its remedy."""
        found = []
        try:
            with open(os.path.join(self.bundle, "manifest.json"), "rb") as stream:
                architecture = json.loads(stream.read(MAX_MANIFEST_BYTES)).get("architecture", "unknown")
            if MACHINES.get(architecture) != platform.machine():
                found.append(
                    f"the bundle is for {architecture} and this host is {platform.machine()}; "
                    "make a bundle with the host's bundle_architecture"
                )
        except (OSError, ValueError) as error:
            found.append(f"{self.bundle}/manifest.json: {error}; bring the bundle to the host (role bundle_host)")
        if not os.access(self.python, os.X_OK):
            found.append(f"{self.python} does not exist; install it or set python_environment_python")
        folder = os.path.dirname(self.path)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            found.append(
                f"{folder} has {free // 1024**2} MiB free and the environment may need {NEEDED_BYTES // 1024**2}; "
                "free some, or set python_environment_path"
            )
        return found

    def build(self, folder: str, run, verify: list[list[str]]) -> list[str]:
        """Build the environment in its folder and try it; return what the tried programs said.

        C(run) is AnsibleModule.run_command. Raises PythonEnvironmentError and leaves the link as it was.
        """
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
        common = ["--offline", "--no-config", "--no-cache", "--quiet"]
        python = os.path.join(folder, "bin", "python")
        self._run(run, [self.uv, "venv", *common, "--python-preference=only-system", "--python", self.python, folder])
        self._run(
            run,
            [
                *(self.uv, "pip", "install", *common, "--no-index", "--no-deps", "--require-hashes"),
                *("--link-mode=copy", "--compile-bytecode", f"--python={python}"),
                *(f"--find-links={self.wheels}", f"--requirement={self.requirements}"),
            ],
        )
        # uv leaves its lock writable for everybody.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, ".lock"))
        return [self._run(run, [os.path.join(folder, "bin", program), *rest]) for program, *rest in verify]

    @staticmethod
    def _run(run, command: list[str]) -> str:
        code, out, err = run(command, umask=0o022)
        if code != 0:
            raise PythonEnvironmentError(f"{' '.join(command[:3])}: {(err or out).strip()[-1500:]}")
        return out.strip()

    def switch(self, folder: str, key: str) -> None:
        """Let the link lead to the folder, in one step. The key is written last: units watch it to be restarted."""
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(os.path.basename(folder), temporary)
        os.replace(temporary, self.path)
        with open(os.path.join(folder, KEY_FILE), "w", encoding="ascii") as stream:
            stream.write(f"{key}\n")
