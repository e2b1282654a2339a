"""A device's line between sockets: the test holds QEMU's end and the gateway's."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.qemu import host
from wasmbed.qemu.config import DeviceConfig, EndpointConfig, FaultConfig, load_devices
from wasmbed.qemu.host import Devices
from wasmbed.qemu.line import Line
from wasmbed.qemu.pacing import Faults, Pace
from wasmbed.qemu.sensors import feed
from wasmbed.service import ConfigError
from wasmbed.tools.sensors import frames

from tests.support.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the line has no event for it
            await asyncio.sleep(0.005)


class Machine:
    """QEMU's end of the line."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.streams.get()


@asynccontextmanager
async def machine(folder: Path) -> AsyncIterator[Machine]:
    """Listen as QEMU does; connections that are open at the end are closed."""
    end = Machine()
    writers = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        end.streams.put_nowait((reader, writer))

    server = await asyncio.start_unix_server(connected, str(folder / "serial.sock"))
    try:
        yield end
    finally:
        for writer in writers:
            writer.close()
        server.close()
        (folder / "serial.sock").unlink(missing_ok=True)


@asynccontextmanager
async def line_of(folder: Path, *, baud: int = 4_000_000) -> AsyncIterator[Line]:
    line = Line(DeviceConfig("mcu1", EndpointConfig(0, baud=baud)), folder / "serial.sock")
    task = asyncio.create_task(line.run())
    async with asyncio.timeout(DEADLINE_S):
        await line.ready.wait()
    try:
        yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def connect(line: Line) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    before = line.statistics.connections
    streams = await asyncio.open_connection("127.0.0.1", line.port)
    await until(lambda: line.statistics.connections > before)
    return streams


async def connect_deaf(line: Line, machine: asyncio.StreamWriter) -> socket.socket:
    """Connect and read nothing, until the line loses bytes for it."""
    before, lost = line.statistics.connections, line.statistics.lost
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", line.port))
    await until(lambda: line.statistics.connections > before)
    async with asyncio.timeout(3 * DEADLINE_S):
        while line.statistics.lost == lost:
            machine.write(bytes(65536))
            await machine.drain()
    return peer


async def test_bytes_arrive_in_order_both_ways(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40

    async with machine(tmp_path) as end, line_of(tmp_path) as line:
        inner_reader, inner_writer = await end.accept()
        reader, writer = await connect(line)
        writer.write(data)
        inner_writer.write(data[::-1])
        async with asyncio.timeout(DEADLINE_S):
            assert await inner_reader.readexactly(len(data)) == data
            assert await reader.readexactly(len(data)) == data[::-1]
        assert (line.statistics.to_device, line.statistics.from_device) == (len(data), len(data))
        writer.close()


def test_a_line_is_never_faster_than_its_baud_rate(tmp_path: Path) -> None:
    baud, size = 115_200, 8_000

    async def run() -> float:
        async with machine(tmp_path) as end, line_of(tmp_path, baud=baud) as line:
            inner_reader, _ = await end.accept()
            _, writer = await connect(line)
            began = time.monotonic()
            writer.write(bytes(size))
            async with asyncio.timeout(DEADLINE_S):
                await inner_reader.readexactly(size)
            took = time.monotonic() - began
            writer.close()
            return took

    # Slower is a busy machine's right; a piece of 5 ms and what a late caller may catch up are ahead of time.
    assert asyncio.run(run()) >= size * 10 / baud - 0.011


@given(baud=st.integers(300, 4_000_000), waits=st.lists(st.floats(0, 0.02), max_size=50))
def test_pace_holds_over_any_schedule(baud: int, waits: list[float]) -> None:
    pace = Pace(baud)
    now = start = 100.0
    total = 0
    for late in waits:
        wait_s = pace.sent(pace.piece_bytes, now)
        total += pace.piece_bytes
        now += wait_s + late
        # All sent so far fits into the time until the line is free, but for one piece of catching up.
        assert total <= pace.bytes_per_s * (now - start + 0.005) + 1
    assert total == len(waits) * pace.piece_bytes


@given(st.binary(max_size=2000), st.integers(0, 1 << 32))
def test_faults_are_the_same_for_the_same_seed(data: bytes, seed: int) -> None:
    config = FaultConfig(drop_per_million=100_000, corrupt_per_million=100_000, seed=seed)
    one, other = Faults(config, "to device"), Faults(config, "to device")
    arrived = one.apply(data)
    assert arrived == other.apply(data)
    assert len(arrived) == len(data) - one.dropped
    assert one.dropped + one.altered <= len(data)


def test_faults_lose_and_alter_at_their_rates() -> None:
    faults = Faults(FaultConfig(drop_per_million=50_000, corrupt_per_million=20_000, seed=7), "from device")
    arrived = faults.apply(bytes(100_000))
    assert 4_500 <= faults.dropped <= 5_500
    assert 1_700 <= faults.altered <= 2_300
    assert len(arrived) - arrived.count(0) == faults.altered


async def test_a_new_peer_takes_the_line_from_the_one_before(tmp_path: Path) -> None:
    async with machine(tmp_path) as end, line_of(tmp_path) as line:
        inner_reader, inner_writer = await end.accept()
        old_reader, old_writer = await connect(line)
        reader, writer = await connect(line)
        async with asyncio.timeout(DEADLINE_S):
            assert await old_reader.read() == b""
            writer.write(b"new")
            assert await inner_reader.readexactly(3) == b"new"
            inner_writer.write(b"back")
            assert await reader.readexactly(4) == b"back"
        old_writer.close()
        writer.close()


async def test_who_connects_again_and_again_is_no_faster_than_the_line(tmp_path: Path) -> None:
    baud, piece, times = 9600, 5, 40

    async with machine(tmp_path) as end, line_of(tmp_path, baud=baud) as line:
        inner_reader, _ = await end.accept()
        began = time.monotonic()
        for _ in range(times):
            _, writer = await connect(line)
            writer.write(bytes(piece))
            async with asyncio.timeout(DEADLINE_S):
                await inner_reader.readexactly(piece)
            writer.close()
    # The last piece is on the line when it is here, and one piece may be ahead of its time.
    assert time.monotonic() - began >= (times - 1) * piece * 10 / baud - 0.011


async def test_a_peer_that_does_not_read_is_gone_when_another_takes_the_line(tmp_path: Path) -> None:
    async with machine(tmp_path) as end, line_of(tmp_path) as line:
        _, inner_writer = await end.accept()
        deaf = [await connect_deaf(line, inner_writer) for _ in range(3)]
        # The one that has the line now.
        await until(lambda: sum("_serve_peer" in repr(task) for task in asyncio.all_tasks()) == 1)
        for one in deaf:
            one.close()


async def test_a_machine_that_takes_nothing_is_let_go_of_at_once_when_its_device_is_changed(tmp_path: Path) -> None:
    async with machine(tmp_path) as end:
        async with line_of(tmp_path) as line:
            _, inner_writer = await end.accept()
            inner_writer.transport.pause_reading()
            _, writer = await connect(line)
            writer.write(bytes(4 << 20))
            # Neither the socket nor the line takes more.
            sent = 0
            while not sent or sent != line.statistics.to_device:
                sent = line.statistics.to_device
                await asyncio.sleep(0.2)
            assert sent < 4 << 20
        # Its end of the socket is closed, though what was on its way has not been read.
        poll = select.poll()
        poll.register(inner_writer.get_extra_info("socket"), 0)
        await until(lambda: any(event & select.POLLHUP for _, event in poll.poll(0)))
        writer.transport.abort()


@pytest.mark.parametrize("turns", range(6))
def test_who_connects_while_the_line_ends_is_not_left_at_a_dead_end(tmp_path: Path, turns: int) -> None:
    """A reload that met a gateway that came back left it at a line that nobody served, for as long as it waited."""

    async def run() -> None:
        async with line_of(tmp_path) as line:
            with socket.create_connection(("127.0.0.1", line.port)) as peer:
                peer.setblocking(False)
                for _ in range(turns):
                    await asyncio.sleep(0)
                (task,) = [task for task in asyncio.all_tasks() if "Line.run" in repr(task)]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                async with asyncio.timeout(DEADLINE_S):
                    with contextlib.suppress(ConnectionResetError):
                        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""

    # The service's loop: what is between the acceptance and the line depends on it.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_the_line_finds_a_machine_that_starts_again(tmp_path: Path) -> None:
    async with line_of(tmp_path) as line:
        reader, writer = await connect(line)
        for text in (b"first boot", b"second boot"):
            async with machine(tmp_path) as end:
                _, inner_writer = await end.accept()
                inner_writer.write(text)
                async with asyncio.timeout(DEADLINE_S):
                    assert await reader.readexactly(len(text)) == text
        writer.close()


async def test_bytes_nobody_is_there_for_are_lost_and_counted(tmp_path: Path) -> None:
    async with machine(tmp_path) as end, line_of(tmp_path) as line:
        _, inner_writer = await end.accept()
        inner_writer.write(bytes(300))
        await until(lambda: line.statistics.lost >= 300)
        assert line.statistics.from_device == 0


async def test_a_peer_that_does_not_read_costs_bounded_memory(tmp_path: Path) -> None:
    async with machine(tmp_path) as end, line_of(tmp_path) as line:
        _, inner_writer = await end.accept()
        deaf = await connect_deaf(line, inner_writer)
        # What the line keeps for it, the kernel included, by 4 KiB of its own.
        assert line.statistics.from_device <= 512 * 1024
        deaf.close()


async def test_a_change_of_one_device_leaves_the_others_lines_up(tmp_path: Path) -> None:
    def device(name: str, baud: int = 115_200) -> DeviceConfig:
        return DeviceConfig(name, EndpointConfig(0, baud=baud), silence_reset_s=0)

    devices = Devices(tmp_path)
    changes: asyncio.Queue[Mapping[str, DeviceConfig]] = asyncio.Queue()
    task = asyncio.create_task(devices.run({"a": device("a"), "b": device("b")}, changes))
    async with asyncio.timeout(DEADLINE_S):
        await until(lambda: len(devices.lines) == 2)
        await devices.lines["a"].ready.wait()
        kept, changed = devices.lines["a"], devices.lines["b"]
        changes.put_nowait({"a": device("a"), "b": device("b", baud=9600), "c": device("c")})
        await until(lambda: "c" in devices.lines)
        await devices.lines["c"].ready.wait()
        assert devices.lines["a"] is kept
        assert devices.lines["b"] is not changed
        reader, writer = await asyncio.open_connection("127.0.0.1", kept.port)
        changes.put_nowait({})
        assert await reader.read() == b""
        writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "a..b"])
async def test_an_endpoint_that_cannot_be_opened_costs_its_own_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Its port is another's, or its address is none; it is tried again."""
    monkeypatch.setattr(host, "RETRY_S", 0.05)
    devices = Devices(tmp_path)
    (port,) = free_ports(1)
    endpoint = EndpointConfig(port, address)
    with socket.create_server(("127.0.0.1", port)):
        both = {"bad": DeviceConfig("bad", endpoint), "good": DeviceConfig("good", EndpointConfig(0))}
        changes: asyncio.Queue[Mapping[str, DeviceConfig]] = asyncio.Queue()
        task = asyncio.create_task(devices.run(both, changes))
        await until(lambda: len(devices.lines) == 2 and devices.lines["good"].ready.is_set())
        await asyncio.sleep(0.2)
        assert not devices.lines["bad"].ready.is_set()
        assert not task.done()
    if address == "127.0.0.1":
        await until(devices.lines["bad"].ready.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_folder_of_devices_that_is_gone_is_an_error_and_not_a_host_without_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        load_devices(tmp_path / "gone")


def test_a_reset_of_no_name_does_not_start_the_service(tmp_path: Path) -> None:
    config = tmp_path / "serial.yaml"
    config.write_text(f"run_directory: {tmp_path}\n")
    command = [sys.executable, "-m", "wasmbed.qemu.main", "--config", str(config), "--reset", ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "control.sock" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: other\nserial: {port: 1}\n", "must be 'mcu1'"),
        ("name: mcu1\nserial: {port: 70000}\n", "port must be 0 to 65535"),
        ("name: mcu1\nserial: {port: 1, baud: 3}\n", "baud must be"),
        ("name: mcu1\nserial: {port: 1}\nsilence_reset_s: 1\n", "silence_reset_s must be"),
        ("name: mcu1\nserial: {port: 1}\nsensor_rate: 2\n", "sensor_rate must be"),
        ("name: mcu1\nserial: {port: 1}\nfaults: {drop_per_million: -1}\n", "drop_per_million"),
    ],
)
def test_a_bad_device_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mcu1.yaml").write_text("name: mcu1\nserial: {port: 1}\n")
    (tmp_path / "mcu2.yaml").write_text("name: mcu2\nserial: {port: 2}\n")
    before, wrong = load_devices(tmp_path)
    assert not wrong
    (tmp_path / "mcu1.yaml").write_text(text)
    # Left out at the start, as it was when it is read again; the other device is there all the same.
    for known, names in ((None, {"mcu2"}), (before, {"mcu1", "mcu2"})):
        devices, wrong = load_devices(tmp_path, known)
        assert devices.keys() == names
        assert all(devices[name] == before[name] for name in names)
        assert re.search(f"mcu1.yaml.*{message}", "".join(wrong))


async def test_sensors_of_a_machine_are_fed_from_its_start_whenever_it_starts(tmp_path: Path) -> None:
    expected = b"".join(frame for _, (_, frame) in zip(range(12), frames(1.0), strict=False))
    devices = Devices(tmp_path)
    (tmp_path / "mcu1").mkdir()
    config = DeviceConfig("mcu1", EndpointConfig(0), silence_reset_s=0, sensor_rate=1.0)
    task = asyncio.create_task(devices.run({"mcu1": config}, asyncio.Queue()))
    for _ in range(2):
        port: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        socket = tmp_path / "mcu1" / "sensors.sock"
        server = await asyncio.start_unix_server(lambda *streams, to=port: to.put_nowait(streams), str(socket))
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await port.get()
            assert await reader.readexactly(len(expected)) == expected
        writer.close()
        server.close()
        socket.unlink(missing_ok=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_sensor_does_not_make_up_for_samples_of_a_time_in_which_the_host_was_held(tmp_path: Path) -> None:
    held_s, rate = 3.0, 1.0
    samples: list[float] = []

    async def port(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readexactly(3 + (await reader.readexactly(3))[2] + 1 - 3):
            samples.append(time.monotonic())

    server = await asyncio.start_unix_server(port, str(tmp_path / "sensors.sock"))
    task = asyncio.create_task(feed(tmp_path / "sensors.sock", rate))
    await until(lambda: len(samples) > 50)
    time.sleep(held_s)  # noqa: ASYNC251 - the host's own process is held
    await until(lambda: samples[-1] > samples[50] + held_s + 0.5)
    passed_s = samples[-1] - samples[0]
    assert len(samples) <= (passed_s - held_s + 0.5) * 131 * rate
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()


def test_the_second_of_two_devices_of_one_port_is_left_out(tmp_path: Path) -> None:
    for name in ("mcu1", "mcu2"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nserial: {{port: 5501}}\n")
    devices, wrong = load_devices(tmp_path)
    assert devices.keys() == {"mcu1"}
    assert "port 5501 is taken by mcu1" in "".join(wrong)
