"""What `wasmbed pack` and `wasmbed check` say of a board is what the board itself takes, to the byte."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import wasmtime
from applications import application
from board_support import BOARDS, CLASS
from device_support import Device, powered
from wasmbed.runtime import RequestRefused
from wasmbed.tools import interpreter, pack

from tests.support.firmware import BUILD, FIRMWARE, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

COMPILE = {
    "stm32": ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"),
    "hifive1": (
        "riscv64-unknown-elf-gcc",
        *("-march=rv32imac", "-misa-spec=2.2", "-mabi=ilp32", "--specs=picolibc.specs"),
    ),
}


@pytest.fixture(scope="session")
def images() -> None:
    build("host", *(BUILD / board / "app.flash" for board in BOARDS))


@pytest.fixture(autouse=True)
def program(images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMBED_INTERP", str(BUILD / "host" / "wasmbed-interp"))


@pytest.fixture
async def device(board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    async with powered(Device(board_name, tmp_path / "flash.bin")) as running:
        yield running


def board_of(name: str) -> pack.Board:
    return next(board for board in pack.BOARDS if board.name == name)


def custom(wasm: bytes, size: int) -> bytes:
    """The module as one of so many bytes, by a custom section."""
    body = size - len(wasm) - 4
    fill = b"\x01f" + bytes(range(256)) * (body // 256 + 1)
    return wasm + bytes([0, body & 0x7F | 0x80, body >> 7 & 0x7F | 0x80, body >> 14]) + fill[:body]


def of_size(size: int) -> bytes:
    return custom(bytes(wasmtime.wat2wasm(application(""))), size)


def with_memory(size: int) -> bytes:
    return bytes(wasmtime.wat2wasm(application("", memory=size)))


def with_locals(count: int) -> bytes:
    """A function with so many i32 locals."""
    return bytes(wasmtime.wat2wasm(application("", more=f"(func {'(local i32)' * count})")))


def nested(depth: int) -> bytes:
    return bytes(wasmtime.wat2wasm(application("", more=f"(func {'(block ' * depth}{')' * depth})")))


def edge(name: str, make_module: Callable[[int], bytes], low: int, high: int) -> int:
    """The largest number for which `wasmbed pack` says that the module fits."""

    def fits(number: int) -> bool:
        try:
            info = interpreter.info(make_module(number))
        except interpreter.InterpreterError:
            return False
        return next(cost for cost in pack.costs(info) if cost.board.name == name).fits

    assert fits(low)
    assert not fits(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


async def takes(device: Device, wasm: bytes) -> bool:
    """Whether the board loads and starts it."""
    digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    try:
        await device.mcu.load(digest, wasm)
        await device.mcu.start(device.request(digest))
    except RequestRefused:
        return False
    await device.state("Running")
    return True


@pytest.mark.parametrize(
    ("make_module", "low", "high"),
    [(of_size, 1000, 60_000), (with_memory, 1024, 40_000), (with_locals, 10, 4000), (nested, 2, 2000)],
    ids=["module", "memory", "frame", "nesting"],
)
async def test_board_takes_what_fits_and_refuses_one_more(
    device: Device, board_name: str, make_module: Callable[[int], bytes], low: int, high: int
) -> None:
    last = edge(board_name, make_module, low, high)
    assert await takes(device, make_module(last))
    await device.mcu.stop(device.request("").instance)
    assert not await takes(device, make_module(last + 1))


def test_figures_are_those_of_the_firmware(board_name: str) -> None:
    board = board_of(board_name)
    assert board.device_class == CLASS[board_name]
    text = (FIRMWARE / "app" / "config.h").read_text()
    smaller, _, rest = text.partition("#else")
    other, _, common = rest.partition("#endif")
    figures = {
        name: int(value)
        for part in (smaller if board_name == "hifive1" else other, common)
        for name, value in re.findall(r"#define (APP_\w+) (\d+)u", part)
    }
    assert board.ram_bytes == figures["APP_MEMORY_BYTES"]
    assert board.stack_bytes == figures["APP_STACK_BYTES"]
    assert board.module_bytes == figures["APP_MODULE_BYTES"]
    place = re.search(r"FLASH_MODULE_BYTES (0x\w+)u", (FIRMWARE / "include" / "flash_map.h").read_text())
    assert place is not None
    assert board.flash_bytes == int(place[1], 16)


def test_loader_and_header_have_the_sizes_that_are_reckoned_with(board_name: str) -> None:
    source = (FIRMWARE / "app" / "modules.c").read_text()
    header = source[source.index("struct module_header {") : source.index("static uint8_t uploading")]
    check = f"""#include "app.h"
    {header}
    _Static_assert(((sizeof(struct wbi_loader) + 7) & ~7u) == {pack.LOADER_BYTES}, "loader");
    _Static_assert(sizeof(struct module_header) == {pack.HEADER_BYTES}, "header");
    """
    folders = [f"-I{FIRMWARE / folder}" for folder in ("app", "link/include", "wasm/include")]
    done = subprocess.run(
        [*COMPILE[board_name], "-std=gnu11", *folders, "-fsyntax-only", "-x", "c", "-"],
        input=check,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
