"""Processes that tests start: free ports, waiting for readiness, an end by pid."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "build/bundle"
# No seeded one: tests that run at the same time would be given the same ports.
_RANDOM = random.SystemRandom()
# PR_SET_PDEATHSIG is about the thread that started a process, so that must be one that stays.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="starter")


def bundle_file(pattern: str) -> Path:
    """The file of the bundle that matches `pattern`; the test fails with what to do if there is none."""
    found = sorted(BUNDLE.glob(pattern))
    if not found:
        pytest.fail(f"{BUNDLE / pattern} does not exist; make the bundle first: make bundle", pytrace=False)
    return found[-1]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses, all different.

    They are below those that the kernel gives to clients, which would take one before its server has it.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = _RANDOM.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)


class Service:
    """A process with its output in a file. It dies with the test run even if that is killed."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        prefix = [setpriv, "--pdeathsig", "KILL"] if (setpriv := shutil.which("setpriv")) else []
        with log.open("ab") as output:
            self._process = _STARTER.submit(
                subprocess.Popen,
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ).result()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Wait until `ready` says so; a process that ends before is an error that shows its last lines."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                state = f"ended with {status}" if status is not None else f"was not ready within {timeout_s} s"
                lines = self.log.read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("\n".join([f"{self.name} {state}; the end of {self.log}:", *lines]))
            time.sleep(0.03)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL, 10)

    def stop(self, timeout_s: float = 5) -> None:
        """End it, by force after `timeout_s`."""
        self._end(signal.SIGTERM, timeout_s)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
