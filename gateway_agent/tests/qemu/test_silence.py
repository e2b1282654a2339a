"""Machines that say nothing are reset: real ones in QEMU, as the module qemu_device runs them, with guests of our own.

Their limit is the shortest that can be set; the waits are for that time itself to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from ansible_collections.wasmbed.edge.plugins.module_utils import qemu
from qemu.qmp import QMPClient
from wasmbed.qemu import machine
from wasmbed.qemu.machine import MachineError, Silence, reset, watch_silence

from tests.support.processes import Service, free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

HERE = Path(__file__).parent
LIMIT_S = 5
DEADLINE_S = 60.0
DEVICE = {"board": "stm32", "baud": 115_200}


def until(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def guests() -> Iterator[Path]:
    """A folder with the images of the guests `hangs` and `speaks`."""
    if any(shutil.which(tool) is None for tool in ("arm-none-eabi-gcc", "qemu-system-arm")):
        pytest.skip("the firmware's tools are not installed; scripts/install-firmware-tools does it")
    with tempfile.TemporaryDirectory(prefix="wbm-") as folder:
        flags = ["-mcpu=cortex-m4", "-mthumb", "-nostdlib", "-Os", "-fno-builtin", "-T", HERE / "guest.ld"]
        for name, define in (("hangs", "HANGS"), ("speaks", "SPEAKS")):
            image = Path(folder) / name
            command = ["arm-none-eabi-gcc", *flags, f"-D{define}", "-o", image, HERE / "guest.c"]
            subprocess.run(command, check=True, timeout=60)
        yield Path(folder)


class Machine:
    """One device of the host, with its machine when that is on, and the other end of its line."""

    def __init__(self, host: Host, name: str, guest: str, silence_reset_s: int) -> None:
        self.host, self.name = host, name
        (self.port,) = free_ports(1)
        self.run = host.folder / "run" / name
        self.run.mkdir(parents=True)
        self.flash = host.folder / f"{name}.flash"
        shutil.copyfile(host.guests / guest, self.flash)
        device = {
            "name": name,
            "serial": {"port": self.port},
            "silence_reset_s": silence_reset_s,
            "sensor_rate": 0,
        }
        (host.settings / f"{name}.yaml").write_text(json.dumps(device))
        self.process: subprocess.Popen[bytes] | None = None
        self.said: list[float] = []
        self._peer: socket.socket | None = None

    def on(self) -> None:
        """Start it by the command of the module qemu_device, but for the change of its root, which is its last."""
        words = qemu.command({**DEVICE, "name": self.name}, qemu.Paths(run=str(self.host.folder / "run")))
        assert words[-2] == "-chroot"
        words = [word.replace("flash.bin", self.flash.name) for word in words[:-2]]
        for path in self.run.iterdir():
            path.unlink()
        self.process = subprocess.Popen(words, cwd=self.host.folder, stdin=subprocess.DEVNULL)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def off(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def connect(self) -> None:
        self._peer = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self._peer.setblocking(False)

    def heard(self) -> bytes:
        """What came since it was asked last."""
        assert self._peer is not None
        with contextlib.suppress(BlockingIOError):
            return self._peer.recv(65536)
        return b""

    def wait_byte(self, byte: bytes) -> float:
        """Wait for what the guest says; when it came."""
        until(lambda: byte in self.heard(), f"{self.name} says {byte!r}")
        return time.monotonic()

    def qmp(self, command: str) -> None:
        """Give a command to its other monitor, as an operator does."""

        async def give() -> None:
            client = QMPClient("test")
            await client.connect(str(self.run / "control.sock"))
            await client.execute(command)
            await client.disconnect()

        asyncio.run(give())

    @property
    def resets(self) -> float:
        return self.host.metric(f'wasmbed_serial_resets_total{{device="{self.name}"}}')

    def lines(self) -> list[str]:
        """What the host says in its journal of this device's silence."""
        text = self.host.log.read_text()
        return [line for line in text.splitlines() if "no sign of life" in line and f"device={self.name} " in line]

    def close(self) -> None:
        self.off()
        if self._peer is not None:
            self._peer.close()


class Host:
    """wasmbed-serial with the machines of a test."""

    def __init__(self, guests: Path) -> None:
        self.guests = guests
        self.folder = Path(tempfile.mkdtemp(prefix="wbq-"))
        self.settings = self.folder / "serial.d"
        self.settings.mkdir()
        self.log = self.folder / "serial.log"
        self.machines: list[Machine] = []
        (self._http_port,) = free_ports(1)
        self._session = requests.Session()
        self._session.trust_env = False
        self.service: Service | None = None

    def machine(self, name: str, guest: str = "hangs", silence_reset_s: int = LIMIT_S) -> Machine:
        self.machines.append(Machine(self, name, guest, silence_reset_s))
        return self.machines[-1]

    def begin(self) -> None:
        """Start the service and connect to every line."""
        config = self.folder / "serial.yaml"
        document = {
            "devices_directory": str(self.settings),
            "run_directory": str(self.folder / "run"),
            "http": {"address": "127.0.0.1", "port": self._http_port},
        }
        config.write_text(json.dumps(document))
        command = [sys.executable, "-m", "wasmbed.qemu.main", "--config", str(config)]
        self.service = Service("wasmbed-serial", command, self.log)
        for one in self.machines:
            self.service.wait_ready(lambda one=one: self._connected(one))  # type: ignore[misc]

    @staticmethod
    def _connected(one: Machine) -> bool:
        with contextlib.suppress(OSError):
            one.connect()
            return True
        return False

    def metric(self, name: str) -> float:
        text = self._session.get(f"http://127.0.0.1:{self._http_port}/metrics", timeout=10).text
        (found,) = [line for line in text.splitlines() if line.startswith(name)]
        return float(found.rpartition(" ")[2])

    def close(self) -> None:
        for one in self.machines:
            one.close()
        if self.service is not None:
            self.service.stop()
        shutil.rmtree(self.folder)


@pytest.fixture
def host(guests: Path) -> Iterator[Host]:
    found = Host(guests)
    yield found
    found.close()


@pytest.mark.slow
def test_a_machine_that_hangs_is_reset_each_time_and_the_journal_says_which_and_why(host: Host) -> None:
    hangs, speaks = host.machine("hangs"), host.machine("speaks", "speaks")
    never, late = host.machine("never", silence_reset_s=0), host.machine("late")
    host.begin()
    hangs.on()
    speaks.on()
    never.on()
    # The line may not have been there for what it said first.
    first = hangs.wait_byte(b"B")
    before = hangs.resets
    boots = [first, hangs.wait_byte(b"B"), hangs.wait_byte(b"B")]
    # It spoke after each reset: the limit begins anew, and is not doubled.
    for one, other in itertools.pairwise(boots):
        assert LIMIT_S * 0.9 <= other - one < LIMIT_S * 1.9
    assert hangs.resets == before + 2
    assert len(hangs.lines()) == hangs.resets
    for line in hangs.lines():
        assert re.search(r"level=error msg=.*machine reset device=hangs silent_s=5 limit_s=5", line), line
    # It is the button of the machine, not its end.
    assert hangs.process is not None
    assert hangs.process.poll() is None
    hangs.off()

    assert b"." in speaks.heard()
    assert never.process is not None
    assert never.process.poll() is None
    assert (speaks.resets, never.resets) == (0, 0)
    assert not speaks.lines()
    assert not never.lines()

    # One that was off all the time is no machine that hangs, and has its whole time from when it is on.
    assert not late.lines()
    on_at = time.monotonic()
    late.on()
    until(lambda: late.resets == 1, "it is reset")
    assert time.monotonic() - on_at >= LIMIT_S * 0.9


@pytest.mark.slow
def test_a_machine_that_is_held_by_its_monitor_is_left_alone(host: Host) -> None:
    one = host.machine("held", "speaks")
    host.begin()
    one.on()
    one.wait_byte(b".")
    one.qmp("stop")
    until(lambda: len(one.lines()) == 2, "the journal tells of it, again and again")
    assert all("machine that is held device=held state=paused" in line for line in one.lines())
    one.heard()
    one.qmp("cont")
    # It goes on where it was.
    until(lambda: one.heard().startswith(b"."), "it speaks again")
    assert one.resets == 0


@pytest.mark.slow
def test_a_host_that_was_suspended_does_not_take_its_machines_for_hung(host: Host) -> None:
    one = host.machine("mcu1", "speaks")
    host.begin()
    one.on()
    one.wait_byte(b".")
    assert host.service is not None
    one.send(signal.SIGSTOP)
    os.kill(host.service.pid, signal.SIGSTOP)
    time.sleep(LIMIT_S + 1)
    # The service first: nothing of the machine is there yet when it looks.
    os.kill(host.service.pid, signal.SIGCONT)
    assert host.metric("wasmbed_serial_machine_up") == 1
    one.send(signal.SIGCONT)
    one.heard()
    one.wait_byte(b".")
    assert one.resets == 0
    assert not one.lines()


@pytest.mark.slow
def test_a_machine_that_is_killed_while_it_is_reset_is_watched_on(host: Host) -> None:
    one = host.machine("mcu1")
    host.begin()
    one.on()
    one.wait_byte(b"B")
    resets, lines = one.resets, len(one.lines())
    # Its monitor takes the connection and says nothing.
    one.send(signal.SIGSTOP)
    path = str(one.run / "monitor.sock")
    until(lambda: connections(path) >= 2, "the monitor is asked")
    one.off()
    until(lambda: len(one.lines()) > lines, "it was not reset")
    assert "machine not reset device=mcu1" in one.lines()[-1]
    assert one.resets == resets
    one.on()
    until(lambda: one.resets == resets + 1, "it is reset")
    one.wait_byte(b"B")


def connections(path: str) -> int:
    """How many sockets have a path as their address: the one that listens, and one for each connection to it."""
    return sum(line.endswith(f" {path}") for line in Path("/proc/net/unix").read_text().splitlines())


@asynccontextmanager
async def monitor(folder: Path, *, ends_at: str) -> AsyncIterator[list[str]]:
    """A monitor that ends when it is told a command, by QMP's specification; real ones end at no chosen moment."""
    told: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ends_at:
            writer.write(
                b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}\r\n'
            )
        text = b""
        while ends_at and (more := await reader.read(4096)):
            text += more
            # A command may end without a line's end; the next one comes after its answer.
            if text.count(b"{") != text.count(b"}"):
                continue
            message, text = json.loads(text), b""
            told.append(message["execute"])
            if told[-1] == ends_at:
                break
            answer = {"status": "running", "running": True} if told[-1] == "query-status" else {}
            message = {key: value for key, value in message.items() if key == "id"}
            writer.write(json.dumps({"return": answer, **message}).encode() + b"\r\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, str(folder / "monitor.sock")):
        yield told


@pytest.mark.parametrize("ends_at", ["", "qmp_capabilities", "query-status", "system_reset"])
async def test_a_monitor_that_goes_in_the_middle_is_an_error_that_says_where_to_look(
    tmp_path: Path, ends_at: str
) -> None:
    async with monitor(tmp_path, ends_at=ends_at) as told:
        with pytest.raises(MachineError, match="look at systemctl status wasmbed-qemu@"):
            await reset(tmp_path / "monitor.sock")
    assert told[-1:] == ([ends_at] if ends_at else [])


async def test_a_monitor_that_goes_in_the_middle_does_not_end_the_watch(tmp_path: Path) -> None:
    resets: list[float] = []
    path = tmp_path / "monitor.sock"
    watch = asyncio.create_task(watch_silence("mcu1", path, 0.2, lambda: 1.0, lambda: resets.append(1)))
    async with asyncio.timeout(DEADLINE_S):
        for ends_at, wanted in (("system_reset", 0), ("never", 1)):
            async with monitor(tmp_path, ends_at=ends_at) as told:
                while "system_reset" not in told or len(resets) < wanted:
                    assert not watch.done()
                    await asyncio.sleep(0.01)
            path.unlink(missing_ok=True)
    assert not watch.done()
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


async def test_a_monitor_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MONITOR_TIMEOUT_S", 0.2)
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        closed.set()

    async with await asyncio.start_unix_server(serve, str(tmp_path / "monitor.sock")):
        with pytest.raises(MachineError, match="no answer"):
            await reset(tmp_path / "monitor.sock")
        async with asyncio.timeout(DEADLINE_S):
            await closed.wait()


def ticks_until_due(
    silence: Silence, heard_at: float | None, now: float, *, at_most: int = 10_000
) -> tuple[int, float]:
    for count in range(1, at_most + 1):
        now += silence.tick_s
        if silence.due(heard_at, now):
            return count, now
    return at_most, now


def test_silence_is_answered_ever_more_rarely_until_the_device_speaks() -> None:
    silence, now = Silence(100, now=0), 0.0
    # The tick that finds it there, and 20 of silence.
    count, now = ticks_until_due(silence, 1.0, now)
    assert count == 21
    for factor in (2, 4, 8, 16, 32, 32):
        silence.was_reset()
        count, now = ticks_until_due(silence, 1.0, now)
        assert count == 20 * factor
    silence.was_reset()
    # It spoke after the reset.
    assert ticks_until_due(silence, now + 1, now)[0] == 21


def test_time_in_which_nobody_listened_is_no_silence() -> None:
    silence = Silence(100, now=0)
    assert not silence.due(1.0, 5)
    # Suspended for a day.
    assert not silence.due(1.0, 86_400)
    assert silence.silent_s == 2 * silence.tick_s


def test_a_machine_that_is_not_there_is_never_due_and_has_its_whole_time_from_its_start() -> None:
    silence = Silence(100, now=0)
    assert ticks_until_due(silence, None, 0, at_most=1000) == (1000, 5000)
    assert ticks_until_due(silence, 5001, 5000)[0] == 21
