"""How a service starts, tells systemd, and ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasmbed.service import describe_failure, notify, watchdog

PROGRAM = """
import asyncio
from pathlib import Path
from wasmbed.service import notify, run, setup_logging
setup_logging("t", journal_socket=Path("/nonexistent"))
async def main():
    try:
        notify("READY=1")
        {body}
    finally:
        print("cleaned", flush=True)
run(main)
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield server


def start(body: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_cleanly(manager: socket.socket, number: signal.Signals) -> None:
    process = start("await asyncio.sleep(60)")
    assert manager.recv(100) == b"READY=1"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "cleaned\n"), errors
    assert manager.recv(100) == b"STOPPING=1"


def test_a_failure_is_one_line_and_exit_code_1(manager: socket.socket) -> None:
    process = start("raise ExceptionGroup('tasks', [ValueError('port is taken'), ExceptionGroup('x', [OSError('y')])])")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == 'level=critical msg="port is taken; y" logger=wasmbed.service.process\n'


def test_the_traceback_is_there_at_debug(manager: socket.socket) -> None:
    process = start("raise ValueError('port is taken')", WASMBED_LOG_LEVEL="DEBUG")
    _, errors = process.communicate(timeout=60)
    assert "Traceback" in errors


def test_repeated_causes_are_told_once() -> None:
    group = ExceptionGroup("g", [ValueError("a"), ValueError("a"), KeyError()])
    assert describe_failure(group) == "a; KeyError"


def test_notify_without_a_manager_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


async def test_watchdog_sends_at_half_the_interval(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    task = asyncio.ensure_future(watchdog())
    try:
        for _ in range(3):
            assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    finally:
        task.cancel()


async def test_watchdog_of_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    async with asyncio.timeout(60):
        await watchdog()
