"""Descriptions of lines, and the serial port on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os

import pytest
from wasmbed.link.line import Endpoint, LineError, open_line


@pytest.mark.parametrize(
    "text",
    ["serial:/dev/ttyUSB0@115200", "serial:/dev/ttyACM1@57600", "unix:/run/x.sock", "tcp:host:7000", "tcp:::1:7000"],
)
def test_a_description_comes_back(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "serial:", "serial:ttyUSB0", "serial:/dev/x@123", "serial:/dev/x@x", "unix:x", "tcp:host", "tcp::1", "tcp:h:0",
     "tcp:h:70000", "udp:h:1"],
)  # fmt: skip
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(LineError, match="is no line"):
        Endpoint.parse(text)


async def test_a_line_that_is_not_there_is_told() -> None:
    with pytest.raises(LineError, match="cannot open serial:/dev/does-not-exist@115200"):
        await open_line(Endpoint.parse("serial:/dev/does-not-exist"), lambda _: None, lambda _: None)


async def test_a_file_that_is_no_port_is_refused(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(LineError):
        await open_line(Endpoint("serial", "/dev/null"), lambda _: None, lambda _: None)


async def test_bytes_pass_a_serial_port_both_ways_unchanged_and_its_end_is_told() -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    lost: asyncio.Queue[str] = asyncio.Queue()
    line = await open_line(Endpoint("serial", name), received.put_nowait, lost.put_nowait)
    os.close(slave)
    data = bytes(range(256))
    line.write(data)
    assert os.read(master, 1000) == data
    os.write(master, data)
    got = b""
    async with asyncio.timeout(60):
        while len(got) < 256:
            got += await received.get()
        assert got == data
        assert line.backlog_bytes == 0
        os.close(master)
        assert "serial port" in await lost.get()
    line.write(b"x")
    line.close()
