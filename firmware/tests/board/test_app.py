"""Module life on both boards in QEMU, over the real link."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import struct
import sys
import time
from typing import TYPE_CHECKING

import pytest
from applications import COUNTER, ENDLESS, HELLO, HELLO_TWO, TRAPS, application
from board_support import BOARDS
from device_support import DEADLINE_S, DEVICE, LINE_OUT_S, Device, compiled, powered
from wasmbed.link.smp import Id, Op, ResultError
from wasmbed.runtime import Delivery, Limits, LogEvent, Provision, RequestRefused, Secret, abi, sealing
from wasmbed.runtime.abi import SensorKind
from wasmbed.tools import sensors

from tests.support.firmware import BUILD, FIRMWARE, build

sys.path.insert(0, str(FIRMWARE / "tools"))
import sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

INSTANCE = f"uid-1/{DEVICE}"


@pytest.fixture(scope="session")
def images() -> None:
    build(*(BUILD / board / "app.flash" for board in BOARDS))


@pytest.fixture
async def device(images: None, board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    async with powered(Device(board_name, tmp_path / "flash.bin")) as running:
        yield running


# ---- life of a module ------------------------------------------------------------------------------------------------


async def test_module_is_loaded_started_listed_stopped_and_removed(device: Device) -> None:
    request = await device.run(HELLO)
    await device.line("hello")
    await device.line("tick", 3)
    (row,) = await device.mcu.list()
    assert (row.instance, row.digest, row.key) == (INSTANCE, request.digest, request.key())
    assert (row.state, row.restarts, row.memory_bytes) == ("Running", 0, 1024)
    with pytest.raises(RequestRefused):
        await device.mcu.remove(request.digest)
    await device.mcu.stop(INSTANCE)
    await device.mcu.stop(INSTANCE)
    assert await device.mcu.list() == []
    await asyncio.wait_for(removed(device, request.digest), DEADLINE_S)
    assert await device.mcu.modules() == {}


async def removed(device: Device, digest: str) -> None:
    """Removes a module as soon as its instance has ended."""
    while True:
        with contextlib.suppress(RequestRefused):
            await device.mcu.remove(digest)
            return
        await asyncio.sleep(0.02)


async def test_same_start_again_changes_nothing(device: Device) -> None:
    request = await device.run(HELLO)
    await device.line("tick")
    await device.mcu.start(request)
    await device.line("tick", 4)
    assert device.lines().count("hello") == 1


async def test_module_runs_again_after_every_kind_of_reset(device: Device) -> None:
    await device.run(HELLO)
    await device.line("hello")
    await device.qmp("system_reset")
    await device.line("hello", 2)
    await device.power_off()
    await device.power_on()
    await device.line("hello", 3)
    (row,) = await device.mcu.list()
    assert (row.instance, row.state) == (INSTANCE, "Running")
    assert len(await device.mcu.modules()) == 1


async def test_stopped_module_stays_stopped_after_a_reset(device: Device) -> None:
    await device.run(HELLO)
    await device.line("tick")
    await device.mcu.stop(INSTANCE)
    before = len(device.links)
    await device.qmp("system_reset")
    await device.until(lambda: len(device.links) > before and device.links[-1].up)
    assert await device.mcu.list() == []
    assert device.lines().count("hello") == 1


async def test_update_takes_the_state_along(device: Device) -> None:
    await device.run(COUNTER)
    await device.line("0")
    await device.line("count")
    request = await device.run(COUNTER, env={"VERSION": "2"})
    await device.line("over")
    await device.until(lambda: device.lines()[-1] not in ("over", "count"))
    assert int(device.lines()[-1]) >= 1
    (row,) = await device.mcu.list()
    assert row.key == request.key()


async def test_update_to_another_module_replaces_the_first(device: Device) -> None:
    await device.run(HELLO)
    await device.line("tick")
    await device.run(HELLO_TWO)
    await device.line("HELLO")
    await device.line("TICK", 2)
    assert device.lines()[-1] == "TICK"


async def test_third_module_takes_the_place_of_one_that_nobody_runs(device: Device) -> None:
    await device.run(HELLO)
    digests = [await device.load(HELLO.replace("hello", f"text{number}")) for number in range(4)]
    held = await device.mcu.modules()
    assert len(held) == 3
    assert compiled(HELLO)[0] in held
    assert digests[-1] in held


# ---- failures --------------------------------------------------------------------------------------------------------


async def test_trap_is_reported_and_the_module_restarted_with_growing_pauses(device: Device) -> None:
    await device.run(TRAPS)
    await device.line("began", 3)
    failures = [message for state, message in device.states() if state == "Failed"]
    assert failures[0].startswith("unreachable")
    assert ": f" in failures[0], "the function and the byte are told"
    (row,) = await device.mcu.list()
    assert (row.state, row.reason) == ("Failed", "DeviceError")
    assert row.restarts >= 2
    assert row.message == failures[-1]


async def test_endless_call_is_ended_and_the_link_lives_on(device: Device) -> None:
    await device.run(ENDLESS, limits=Limits(cpu_ms_per_call=50))
    await device.state("Failed")
    assert device.states()[-1][1].startswith("timed out")
    (row,) = await device.mcu.list()
    assert 50 <= row.cpu_ms < 1000


async def test_failing_init_is_told(device: Device) -> None:
    await device.run(
        application("").replace(
            '(i32.const 0))\n  (func (export "wasmbed_event")', '(i32.const 7))\n  (func (export "wasmbed_event")'
        )
    )
    await device.state("Failed")
    assert device.states()[-1] == ("Failed", "wasmbed_init failed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not wasm", ""),
        ("(module (func (result i32) (i64.const 0)))", "type"),
        ("(module (memory 1 (pagesize 1)) (func (drop (v128.load (i32.const 0)))))", "unsupported"),
        ("(module (memory 1))", ""),
    ],
    ids=["bytes", "invalid", "simd", "memory"],
)
async def test_module_that_is_not_valid_is_refused_and_not_kept(device: Device, text: str, message: str) -> None:
    wasm = b"not wasm" * 10
    if text.startswith("(module (func (result"):
        # As a compiler would never write it: the text format refuses it, too.
        wasm = bytes.fromhex("0061736d010000000105016000017f030201000a0601040042000b")
    elif text.startswith("("):
        wasm = compiled(text)[1]
    digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    with pytest.raises(RequestRefused, match=message or "."):
        await device.mcu.load(digest, wasm)
    assert await device.mcu.modules() == {}
    await device.run(HELLO)
    await device.line("hello")


async def test_module_with_another_content_is_refused(device: Device) -> None:
    wasm = compiled(HELLO)[1]
    ask = device.mcu.exchange.ask
    await ask(Op.WRITE, Id.UPLOAD, {0: 0, 1: b"", 2: len(wasm), 3: b"\xab" * 32, 4: b"\xab" * 32}, answer_s=10)
    last = (len(wasm) - 1) // 100 * 100
    for offset in range(0, last, 100):
        await ask(Op.WRITE, Id.UPLOAD, {0: offset, 1: wasm[offset : offset + 100]}, answer_s=10)
    with pytest.raises(ResultError, match="digest"):
        await ask(Op.WRITE, Id.UPLOAD, {0: last, 1: wasm[last:]}, answer_s=10)
    assert await device.mcu.modules() == {}


async def test_import_that_is_not_granted_is_refused_by_name(device: Device) -> None:
    digest = await device.load(application("acquire"))
    with pytest.raises(RequestRefused, match="not granted: acquire") as refused:
        await device.mcu.start(device.request(digest))
    assert refused.value.reason == "InvalidModule"
    assert await device.mcu.list() == []


async def test_upload_that_broke_off_goes_on_after_a_power_cut(device: Device) -> None:
    wasm = with_custom_section(compiled(HELLO)[1], 6000)
    digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    offsets: list[int] = []
    loading = asyncio.ensure_future(device.mcu.load(digest, wasm, progress=offsets.append))
    await device.until(lambda: bool(offsets) and offsets[-1] > 2000)
    await device.power_off()
    with contextlib.suppress(Exception):
        await loading
    reached = max(offsets)
    await device.power_on()
    await device.ready()
    offsets.clear()
    await device.mcu.load(digest, wasm, progress=offsets.append)
    assert offsets[0] > reached // 2, "it went on where it was"
    await device.mcu.start(device.request(digest))
    await device.line("hello")


def with_custom_section(wasm: bytes, size: int) -> bytes:
    """The module with a section of bytes that no validator looks into."""
    body = b"\x04fill" + hashlib.shake_128(b"fill").digest(size)
    length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14])
    return wasm + b"\0" + length + body


# ---- what an application may call ------------------------------------------------------------------------------------


async def test_application_knows_its_device_and_environment(device: Device) -> None:
    text = application(
        "env device",
        data='(data (i32.const 0) "RATE")',
        init="""(call $say (i32.const 520) (call $device (i32.const 520) (i32.const 64)))
                (call $say (i32.const 520) (call $env (i32.const 0) (i32.const 4) (i32.const 520) (i32.const 64)))
                (call $number (call $env (i32.const 0) (i32.const 3) (i32.const 520) (i32.const 64)))
                (call $number (call $env (i32.const 0) (i32.const 4) (i32.const 520) (i32.const 1)))""",
    )
    await device.run(text, env={"OTHER": "x", "RATE": "ten a second"})
    await device.until(lambda: len(device.lines()) >= 4)
    assert device.lines() == [DEVICE, "ten a second", "-2", "-90"]


async def test_pointer_outside_the_memory_ends_the_call(device: Device) -> None:
    await device.run(application("", init="(call $say (i32.const 1020) (i32.const 8))"))
    await device.state("Failed")
    assert device.states()[-1][1].startswith("out of bounds memory access")


async def test_calls_over_their_rate_are_refused(device: Device) -> None:
    text = application(
        "env acquire",
        init="""(local $left i32) (local.set $left (i32.const 21))
                (loop (drop (call $acquire)) (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (call $number (call $acquire))""",
    )
    await device.run(text, grants=("wasmbed:sys", "wasmbed:px4"))
    await device.line(str(abi.Code.RATE.value))


COMMANDER = application(
    "timer acquire command event_read",
    init="""(call $number (call $acquire))
            (call $number (call $command (i32.const 600)))""",
    event="""(call $number (local.get $type))
             (drop (call $event_read (i32.const 0) (i32.const 700) (i32.const 16)))
             (call $number (i32.load (i32.const 700)))""",
    data='(data (i32.const 600) "\\90\\01command")',
)


async def test_host_call_is_carried_out_by_the_gateway_and_its_result_comes_back(device: Device) -> None:
    await device.mcu.provide(Provision(device=DEVICE, available=("px4",), link=True, sensors=()))
    await device.run(COMMANDER, grants=("wasmbed:sys", "wasmbed:px4"), rights=("px4-command",))
    await device.until(lambda: len(device.requests()) >= 2 and len(device.lines()) >= 2)
    acquire, command = device.requests()
    assert (acquire.module, acquire.op, acquire.token) == ("px4", "acquire", 0)
    assert (command.module, command.op, command.instance) == ("px4", "command", INSTANCE)
    assert command.application == "default/hello"
    assert command.data == b"\x90\x01command".ljust(48, b"\0")
    assert device.lines() == ["0", str(command.token)]
    device.mcu.deliver([Delivery(INSTANCE, abi.EventType.RESULT, command.token, struct.pack("<i", -71) + b"\4\0")])
    await device.until(lambda: len(device.lines()) >= 4)
    assert device.lines()[2:] == ["6", "-71"]


async def test_what_acts_needs_ownership_and_right(device: Device) -> None:
    await device.mcu.provide(Provision(device=DEVICE, available=("px4",), link=True, sensors=()))
    await device.run(COMMANDER, grants=("wasmbed:sys", "wasmbed:px4"), rights=("px4-mission",))
    await device.until(lambda: len(device.lines()) >= 2)
    assert device.lines() == ["0", str(abi.Code.DENIED.value)]


async def test_module_that_the_gateway_does_not_serve_is_unavailable(device: Device) -> None:
    await device.run(COMMANDER, grants=("wasmbed:sys", "wasmbed:px4"), rights=("px4-command",))
    await device.until(lambda: len(device.lines()) >= 2)
    assert device.lines()[0] == str(abi.Code.UNAVAILABLE.value)


@pytest.fixture
async def impatient(images: None, board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    """A device that gives its session up after 3 s."""
    async with powered(Device(board_name, tmp_path / "flash.bin", heartbeat_s=1.0)) as running:
        yield running


async def test_lost_link_fails_what_is_unanswered_and_is_told(impatient: Device) -> None:
    """The session is gone after three heartbeats; what was written meanwhile comes when it is back."""
    device = impatient
    # One line an event: hundred times its type, and its source or, of a RESULT, its status.
    text = (
        COMMANDER[: COMMANDER.index("(call $number (local.get $type))")]
        + """
      (drop (call $event_read (i32.const 0) (i32.const 700) (i32.const 4)))
      (call $number (i32.add (i32.mul (local.get $type) (i32.const 100))
        (select (i32.load (i32.const 700)) (local.get $source) (i32.eq (local.get $type) (i32.const 6)))))
      (i32.const 0)))"""
    )
    await device.mcu.provide(Provision(device=DEVICE, available=("px4",), link=True, sensors=()))
    await device.run(text, grants=("wasmbed:sys", "wasmbed:px4"), rights=("px4-command",))
    await device.until(lambda: len(device.requests()) >= 2)
    out_s = LINE_OUT_S
    while (await device.mcu.device_statistics())["lost"] == 0:
        # The machine's time goes slower than the host's when the host is busy.
        await device.pull_line(out_s)
        await device.ready()
        out_s *= 2
    await device.line("801")
    assert device.lines()[2:] == ["581", "900", "800", "801"], "RESULT unavailable, OWNER, LINK lost, LINK up"


async def test_route_is_published_under_its_handle(device: Device) -> None:
    text = application(
        "open publish",
        data='(data (i32.const 0) "posepayload")',
        init="""(call $number (call $open (i32.const 0) (i32.const 4)))
                (call $number (call $publish (i32.const 1) (i32.const 4) (i32.const 7)))
                (call $number (call $open (i32.const 0) (i32.const 3)))""",
    )
    await device.mcu.provide(Provision(device=DEVICE, available=("ros2",), link=True, sensors=()))
    routes = (("scan", "subscribe", "topic"), ("pose", "publish", "topic"))
    await device.run(text, grants=("wasmbed:sys", "wasmbed:ros2"), routes=routes)
    await device.until(lambda: len(device.requests()) >= 2 and len(device.lines()) >= 3)
    opened, published = device.requests()
    assert (opened.op, tuple(opened.args)) == ("open", ("pose", 1))
    assert (published.op, tuple(published.args), published.data) == ("publish", (1,), b"payload")
    assert device.lines() == ["1", "0", str(abi.Code.NOTFOUND.value)]


async def test_telemetry_is_asked_for_and_kept(device: Device) -> None:
    text = application(
        "timer px4_read",
        init="(drop (call $timer (i32.const 0) (i32.const 50) (i32.const 50)))",
        event="(call $number (call $px4_read (i32.const 5) (i32.const 700) (i32.const 48)))",
    )
    await device.mcu.provide(Provision(device=DEVICE, available=("px4",), link=True, sensors=()))
    await device.run(text, grants=("wasmbed:sys", "wasmbed:px4"))
    await device.line(str(abi.Code.AGAIN.value))
    await device.until(lambda: len(device.requests()) >= 1)
    assert (device.requests()[0].op, tuple(device.requests()[0].args)) == ("watch", (5,))
    device.mcu.deliver([Delivery(INSTANCE, abi.EventType.TELEMETRY, 5, bytes(24))])
    await device.line("24")


async def test_sensor_that_the_gateway_feeds_is_read_and_subscribed(device: Device) -> None:
    text = application(
        "sensor_read sensor_subscribe event_read",
        init="""(call $number (call $sensor_read (i32.const 1) (i32.const 700) (i32.const 48)))
                (call $number (call $sensor_subscribe (i32.const 1) (i32.const 0)))""",
        event="""(call $number (i32.add (i32.mul (local.get $type) (i32.const 10)) (local.get $source)))
                 (call $number (call $event_read (i32.const 24) (i32.const 700) (i32.const 48)))
                 (call $number (i32.trunc_f32_s (f32.load (i32.const 700))))""",
    )
    await device.run(text, grants=("wasmbed:sys", "wasmbed:sensor"))
    await device.until(lambda: len(device.lines()) >= 2)
    await device.mcu.feed_sensor(2, 1_700_000_000_000_000, struct.pack("<ff", 101325, 21.5))
    await device.until(lambda: len(device.lines()) >= 5)
    assert device.lines() == [str(abi.Code.AGAIN.value), "0", "41", "8", "101325"]


async def test_lines_that_the_serial_line_loses_come_again_in_order(device: Device) -> None:
    """A busy host: QEMU throws away what the hifive1 sends while nobody reads and a socket's buffer is full."""
    text = application(
        "timer",
        init="(drop (call $timer (i32.const 0) (i32.const 20) (i32.const 20)))",
        event="""(call $number (global.get $count))
                 (global.set $count (i32.add (global.get $count) (i32.const 1)))""",
        more="(global $count (mut i32) (i32.const 0))",
    )
    await device.run(text)
    await device.until(lambda: len(device.lines()) >= 5)
    for _ in range(2):
        time.sleep(1.2)  # noqa: ASYNC251  nobody shall read meanwhile
        count = len(device.lines())
        await device.until(lambda count=count: len(device.lines()) >= count + 40)
    expected = 0
    for event in device.events:
        if isinstance(event, LogEvent):
            expected += event.dropped
            assert int(event.text) == expected, "in order, each once, and what had no room is counted"
            expected += 1


SEALED = application(
    "seal unseal send event_read",
    data='(data (i32.const 0) "secret text")',
    init="""(local $length i32)
            (local.set $length (call $seal (i32.const 0) (i32.const 11) (i32.const 600) (i32.const 200)))
            (call $number (local.get $length))
            (call $say (i32.const 900)
              (call $unseal (i32.const 600) (local.get $length) (i32.const 900) (i32.const 11)))
            (i32.store8 (i32.const 670) (i32.xor (i32.load8_u (i32.const 670)) (i32.const 1)))
            (call $number (call $unseal (i32.const 600) (local.get $length) (i32.const 900) (i32.const 100)))
            (call $number (call $send (i32.const 0) (i32.const 11)))""",
    event="""(if (i32.eq (local.get $type) (i32.const 7)) (then
               (call $say (i32.const 900) (call $event_read (i32.const 0) (i32.const 900) (i32.const 100)))))""",
)


async def test_messages_are_sealed_and_opened_with_the_key_of_the_gateway(device: Device) -> None:
    key = sealing.application_key(b"\5" * 32, "default/hello", "uid")
    await device.mcu.secret(Secret("default/hello", DEVICE, key, 4000))
    await device.mcu.provide(Provision(device=DEVICE, available=("secure",), link=True, sensors=()))
    await device.run(SEALED, grants=("wasmbed:sys", "wasmbed:secure"))
    await device.until(lambda: len(device.lines()) >= 4 and len(device.requests()) >= 1)
    length, text, forged, token = device.lines()
    assert (text, forged) == ("secret text", str(abi.Code.INVALID.value))
    (sent,) = device.requests()
    assert (sent.module, sent.op, str(sent.token)) == ("secure", "send", token)
    envelope = sealing.unseal(key, sent.data)
    assert (envelope.application, envelope.device) == ("default/hello", DEVICE)
    assert (envelope.direction, envelope.sequence, envelope.content) == (sealing.UP, 4001, b"secret text")
    assert int(length) == len(sent.data)
    # From the cloud: opened, and once only.
    down = sealing.seal(key, "default/hello", DEVICE, sealing.DOWN, 7, b"go home")
    forged_down = sealing.seal(b"\6" * 32, "default/hello", DEVICE, sealing.DOWN, 8, b"go away")
    newer = sealing.seal(key, "default/hello", DEVICE, sealing.DOWN, 9, b"stay there")
    device.mcu.deliver([Delivery(INSTANCE, abi.EventType.SECURE, 0, data) for data in (down, down, forged_down, newer)])
    await device.line("stay there")
    assert device.lines()[4:] == ["go home", "stay there"]


async def test_without_a_key_nothing_is_sealed(device: Device) -> None:
    await device.run(SEALED, grants=("wasmbed:sys", "wasmbed:secure"))
    await device.until(lambda: len(device.lines()) >= 1)
    assert device.lines()[0] == str(abi.Code.UNAVAILABLE.value)


async def test_sensors_are_fed_over_the_second_port(device: Device) -> None:
    """As `wasmbed sensors` does it; frames that are damaged change nothing."""
    text = application(
        "sensor_subscribe event_read",
        init="(drop (call $sensor_subscribe (i32.const 3) (i32.const 0)))",
        event="""(drop (call $event_read (i32.const 24) (i32.const 700) (i32.const 48)))
                 (call $number (i32.trunc_f32_s (f32.load (i32.const 708))))""",
    )
    await device.run(text, grants=("wasmbed:sys", "wasmbed:sensor"))
    await device.state("Running")
    _, port = await asyncio.open_unix_connection(str(device.flash.with_suffix(".sensors")))
    damaged = sensors.frame(SensorKind.BATTERY, 16.0, 2.0, 99.0)[:-1] + b"\0"
    for value in (81.0, 80.0):
        # A frame that comes while another one waits is left out by design: samples are sent again and again.
        while device.lines()[-1:] != [str(int(value))]:
            for data in (damaged, b"\xa5\x04\xff", b"\xa5\x09\x01\x00\xf5", b"\0\1"):
                port.write(data)
            port.write(sensors.frame(SensorKind.BATTERY, 16.0, 2.0, value))
            await asyncio.sleep(0.05)
    assert set(device.lines()) == {"81", "80"}
    port.close()


def test_ram_of_the_smaller_board_is_within_its_bound(images: None) -> None:
    """.data, .bss, all stacks, guest memory and guest stack; as the README's table has them."""
    elf = (BUILD / "hifive1" / "app.elf").read_bytes()
    whole = sizes.sizes(elf)
    assert whole.ram <= 14_336
    config = (FIRMWARE / "app" / "config.h").read_text()
    smaller = config[config.index("BOARD_HIFIVE1") : config.index("#else")]
    assert int(re.search(r"APP_MEMORY_BYTES (\d+)u", smaller)[1]) >= 6 * 1024  # type: ignore[index]
    (row,) = re.findall(r"`app` \| `hifive1` \|.* \| ([\d,]+) \|\n", (FIRMWARE / "boards" / "README.md").read_text())
    assert abs(int(row.replace(",", "")) - whole.ram) <= 64, "the README's table is of another build"


async def test_random_bytes_of_an_application_differ_over_power_cuts(device: Device) -> None:
    """The seed is advanced in flash before it is used."""
    text = application(
        "random", init="(drop (call $random (i32.const 600) (i32.const 4))) (call $number (i32.load (i32.const 600)))"
    )
    await device.run(text)
    await device.until(lambda: len(device.lines()) >= 1)
    for count in (2, 3, 4):
        await device.power_off()
        await device.power_on()
        await device.until(lambda count=count: len(device.lines()) >= count)
    assert len(set(device.lines())) == len(device.lines())


def test_every_function_of_the_abi_is_there() -> None:
    """The device's table against application ABI 1 as the gateway has it."""
    table = {}
    for line in (FIRMWARE / "app" / "host_table.h").read_text().splitlines():
        if line.startswith("FUNCTION("):
            module, name, signature, _, rate = (part.strip(' ")') for part in line[len("FUNCTION(") :].split(","))
            table[(f"wasmbed:{module}", name)] = (signature, int(rate))
    letters = {"i32": "i", "i64": "I", "f32": "f", "f64": "F"}
    expected = {
        key: (
            "".join(letters[p] for p in function.type.params)
            + ":"
            + "".join(letters[r] for r in function.type.results),
            function.rate_per_s,
        )
        for key, function in abi.FUNCTIONS.items()
        if function.module != abi.WASI
    }
    assert table == expected
