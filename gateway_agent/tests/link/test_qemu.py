"""McuSession against the link on the boards' machines in QEMU, over their serial port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from board import BUILD, DEVICE, build, running
from wasmbed.link.line import Endpoint
from wasmbed.runtime import Delivery, HostRequest, StartRequest, abi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.peers

MACHINES = {
    "stm32": ["qemu-system-arm", "-M", "netduinoplus2"],
    "hifive1": ["qemu-system-riscv32", "-M", "sifive_e"],
}
MODULE = b"\0asm" + bytes(range(250)) * 6
DIGEST = f"sha256:{hashlib.sha256(MODULE).hexdigest()}"


@contextlib.asynccontextmanager
async def machine(name: str, path: Path) -> AsyncIterator[None]:
    """QEMU with the test device's image, its serial port at a UNIX socket."""
    if shutil.which(MACHINES[name][0]) is None:
        pytest.skip("QEMU is not installed; scripts/install-firmware-tools does it")
    build(f"{name}/link-board")
    process = await asyncio.create_subprocess_exec(
        *MACHINES[name], "-nographic", "-monitor", "none", "-serial", f"unix:{path},server=on,wait=off",
        "-kernel", str(BUILD / name / "link-board"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("name", sorted(MACHINES))
@pytest.mark.timeout(180)
async def test_a_board_brings_up_its_link_and_works(name: str, tmp_path: Path) -> None:
    request = StartRequest(
        f"uid/{DEVICE}", DIGEST, "default/monitoring", DEVICE, "riscv", grants=("wasmbed:sys", "wasmbed:ros2")
    )
    path = tmp_path / "serial"
    async with machine(name, path), running(Endpoint("unix", str(path)), None, heartbeat_s=30) as at:
        await at.until(lambda: at.mcu.up, 60)
        assert (await at.mcu.info()).board == "test"
        await at.mcu.load(DIGEST, MODULE)
        await at.mcu.start(request)
        assert [row.key for row in await at.mcu.list()] == [request.key()]
        at.mcu.deliver([Delivery(request.instance, abi.EventType.MESSAGE, 1, b"!to ros")])
        async with asyncio.timeout(60):
            async for event in at.mcu.events():
                if isinstance(event, HostRequest):
                    break
        assert event.data == b"to ros"
        found = await at.mcu.device_statistics()
        assert (found["handshakes"], found["bad_frames"], found["forged"], found["replays"]) == (1, 0, 0, 0)
        assert await at.mcu.time() is not None


@pytest.mark.parametrize("name", sorted(MACHINES))
@pytest.mark.timeout(180)
async def test_a_gateway_that_starts_anew_finds_the_board_as_it_was(name: str, tmp_path: Path) -> None:
    path = tmp_path / "serial"
    async with machine(name, path):
        for handshakes in (1, 2):
            async with running(Endpoint("unix", str(path)), None, heartbeat_s=30) as at:
                await at.until(lambda: at.mcu.up, 60)
                assert (await at.mcu.device_statistics())["handshakes"] == handshakes
                await at.mcu.load(DIGEST, MODULE)
