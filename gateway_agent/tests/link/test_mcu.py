"""McuSession against the firmware's own link, as a program at the other end of a socket."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from board import DEVICE, Board, session
from wasmbed.link import noise
from wasmbed.link.secure import Stranger
from wasmbed.runtime import (
    Delivery,
    HostRequest,
    Limits,
    LogEvent,
    Provision,
    RequestRefused,
    RuntimeGone,
    Secret,
    StartRequest,
    StateEvent,
    abi,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers

MODULE = b"\0asm" + bytes(range(256)) * 16
DIGEST = f"sha256:{hashlib.sha256(MODULE).hexdigest()}"


def request(uid: str = "6f0d8f2e-7f0b-4f5e-9a33-3c8d3c6a9b10", **changes: object) -> StartRequest:
    fields = {
        "instance": f"{uid}/{DEVICE}",
        "digest": DIGEST,
        "application": "default/monitoring",
        "device": DEVICE,
        "device_class": "riscv",
        "limits": Limits(memory_bytes=4096),
        "grants": ("wasmbed:ros2", "wasmbed:sys"),
        "env": {"RATE": "10", "NAME": "süd"},
        "routes": (("pose", "publish", "topic"),),
        "rights": ("px4-command",),
        **changes,
    }
    return StartRequest(**fields)  # type: ignore[arg-type]


async def test_a_module_is_brought_started_listed_and_stopped(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        mcu = at.mcu
        assert await mcu.has(DIGEST) is False
        offsets: list[int] = []
        await mcu.load(DIGEST, MODULE, progress=offsets.append)
        assert offsets == sorted(offsets)
        assert offsets[-1] == len(MODULE)
        assert await mcu.has(DIGEST) is True
        assert await mcu.modules() == {DIGEST: len(MODULE)}
        await mcu.check(request())
        await mcu.start(request())
        (row,) = await mcu.list()
        assert (row.instance, row.digest, row.key) == (request().instance, DIGEST, request().key())
        assert (row.state, row.message, row.grants) == ("Running", "it is well", ("wasmbed:ros2", "wasmbed:sys"))
        event = await anext(mcu.events())
        assert event == StateEvent(request().instance, "Running", "", "", 0)
        await mcu.stop(request().instance)
        await mcu.stop(request().instance)
        assert await mcu.list() == []
        await mcu.remove(DIGEST)
        await mcu.remove(DIGEST)
        assert await mcu.has(DIGEST) is False


async def test_names_of_any_length_come_back(tmp_path: Path) -> None:
    names = ["short", f"uid/{DEVICE}", "n" * 300]
    async with session(Board(tmp_path / "line")) as at:
        await at.mcu.load(DIGEST, MODULE)
        for name in names:
            await at.mcu.start(request(instance=name, env={}))
            assert [row.instance for row in await at.mcu.list()] == [name]
            await at.mcu.stop(name)


async def test_a_new_session_learns_the_applications_of_what_runs(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        await at.mcu.load(DIGEST, MODULE)
        await at.mcu.start(request())
        at.mcu._names.applications.clear()
        await at.mcu.list()
        at.mcu.deliver([Delivery(request().instance, abi.EventType.MESSAGE, 0, b"hello")])
        events = at.mcu.events()
        found = [await anext(events), await anext(events)]
        assert found[1] == LogEvent(request().instance, "default/monitoring", DEVICE, 2, "hello", 0)


async def test_what_the_device_refuses_is_refused_with_its_reason(tmp_path: Path) -> None:
    bad = b"\1" + MODULE
    async with session(Board(tmp_path / "line")) as at:
        with pytest.raises(RequestRefused, match=r"InvalidModule: unknown import: wasmbed:moon\.land") as refusal:
            await at.mcu.load(f"sha256:{hashlib.sha256(bad).hexdigest()}", bad)
        assert refusal.value.findings == ("unknown import: wasmbed:moon.land",)
        with pytest.raises(RequestRefused, match="InvalidModule: the module has"):
            await at.mcu.load(DIGEST, bytes(70_000))
        with pytest.raises(RequestRefused, match="NotFound"):
            await at.mcu.start(request())
        await at.mcu.load(DIGEST, MODULE)
        with pytest.raises(RequestRefused, match="InvalidModule: not granted: wasmbed:secure"):
            await at.mcu.start(request(grants=("wasmbed:secure",)))
        with pytest.raises(RequestRefused, match="BadRequest: the start request has"):
            await at.mcu.start(request(env={"X": "y" * 300}))


async def test_events_arrive_once_and_in_order_and_requests_come_back(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", lose=0.05)) as at:
        await at.mcu.load(DIGEST, MODULE)
        await at.mcu.start(request())
        count = 20
        batch = [
            Delivery(request().instance, abi.EventType.RESULT, i, (b"!" if i % 2 else b"") + b"%d" % i)
            for i in range(count)
        ]
        assert at.mcu.deliver(batch) == 0
        requests: list[HostRequest] = []
        async with asyncio.timeout(60):
            async for event in at.mcu.events():
                if isinstance(event, HostRequest):
                    requests.append(event)
                if len(requests) == count // 2:
                    break
        assert [row.data for row in requests] == [b"%d" % i for i in range(1, count, 2)]
        assert {(row.module, row.op, row.args, row.application) for row in requests} == {
            ("ros2", "publish", (-7,), "default/monitoring")
        }
        statistics = await at.mcu.device_statistics()
        # A session that began anew under this much loss may have brought one event twice; none is ever missing.
        assert count <= statistics["uart_received"] <= count + len(at.links)


async def test_telemetry_is_newest_only_while_it_waits(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        rows = [Delivery("i", abi.EventType.TELEMETRY, 1, b"%d" % i) for i in range(100)]
        assert at.mcu.deliver(rows) == 0
        assert at.mcu.backlog_bytes <= 2
        large = Delivery("i", abi.EventType.RESULT, 1, bytes(5000))
        assert at.mcu.deliver([large]) == 1


async def test_records_time_and_control(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", telemetry_ms=20)) as at:
        mcu = at.mcu
        info = await mcu.info()
        assert (info.board, info.firmware, info.version, info.message_bytes) == ("test", "1.2.3", 1, 320)
        crash = await mcu.crash()
        assert crash is not None
        assert (crash.pc, crash.what) == (0x20010000, "main")
        await mcu.clear_crash()
        assert await mcu.crash() is None
        found = await mcu.time()
        assert found is not None
        assert found[1] < 30_000
        await mcu.provide(Provision(DEVICE, ("px4", "ros2")))
        await mcu.secret(Secret("default/monitoring", DEVICE, b"k" * 32, 5000))
        await mcu.feed_sensor(1, 123, b"abc")
        await at.until(lambda: len(at.telemetry) > 2)
        assert (await mcu.device_statistics())["handshakes"] == 1


async def test_keys_are_rotated_over_the_session(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        before = at.mcu.device_key
        public = await at.mcu.change_device_key()
        assert public != before
        at.ends[0] = replace(at.ends[0], devices=(before, public))
        at.mcu.renew()
        await at.until(lambda: at.mcu.device_key == public)
        new = b"\x66" * 32
        await at.mcu.change_gateway_key(noise.public_key(new))
        at.ends[0] = replace(at.ends[0], privates=(new,), devices=(public,))
        at.mcu.renew()
        await at.until(lambda: len(at.links) >= 3 and at.mcu.up)
        assert await at.mcu.list() == []


async def test_a_device_that_restarts_is_back(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", speed=4)) as at:
        assert at.board is not None
        await at.board.reset()
        await at.until(lambda: len(at.links) >= 2 and at.links[-1].up)
        assert await at.mcu.list() == []


async def test_a_line_that_is_pulled_is_opened_again(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        assert at.board is not None
        at.board.pull()
        await at.until(lambda: not at.mcu.up)
        with pytest.raises(RuntimeGone):
            await at.mcu.list()
        await at.until(lambda: at.mcu.up)
        assert [state.up for state in at.links[:2]] == [True, False]
        await at.ready()
        assert await at.mcu.list() == []


async def test_a_device_that_falls_silent_is_lost(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line"), heartbeat_s=1.0) as at:
        assert at.board is not None
        at.board.cut = True
        await at.until(lambda: not at.mcu.up)
        assert "silent" in at.links[-1].reason
        at.board.cut = False
        await at.ready()


async def test_an_upload_goes_on_after_the_line_was_pulled(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", baud=115_200)) as at:
        assert at.board is not None
        reached: list[int] = []

        def progress(offset: int) -> None:
            reached.append(offset)
            if offset > len(MODULE) // 2 and at.board is not None:
                at.board.pull()

        with pytest.raises(RuntimeGone):
            await at.mcu.load(DIGEST, MODULE, progress=progress)
        await at.ready()
        again: list[int] = []
        await at.mcu.load(DIGEST, MODULE, progress=again.append)
        assert again[0] >= reached[-1] > len(MODULE) // 2
        assert await at.mcu.has(DIGEST)


async def test_an_upload_comes_through_a_line_that_loses_frames(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", baud=115_200, lose=0.05)) as at:
        await at.mcu.load(DIGEST, MODULE)
        assert await at.mcu.has(DIGEST)


async def test_commands_go_before_an_upload(tmp_path: Path) -> None:
    module = b"\0asm" + bytes(30_000)
    async with session(Board(tmp_path / "line", baud=115_200)) as at:
        loading = asyncio.ensure_future(at.mcu.load(f"sha256:{hashlib.sha256(module).hexdigest()}", module))
        await at.until(lambda: at.board is not None and at.board.bytes_down > 3000)
        loop = asyncio.get_running_loop()
        trips = []
        for _ in range(10):
            began = loop.time()
            await at.mcu.time()
            trips.append(loop.time() - began)
        assert not loading.done()
        await loading
        # Two parts of an upload are 65 ms on the wire, and a loaded machine is slow.
        assert sorted(trips)[5] < 0.5


async def test_a_stranger_on_the_line_is_told_and_gets_nothing(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line"), wait=False, devices=(b"\x55" * 32,)) as at:
        await at.until(lambda: bool(at.strangers))
        assert at.strangers == [Stranger(noise.public_key(b"\x41" * 32), DEVICE)]
        assert not at.mcu.up
        with pytest.raises(RuntimeGone):
            await at.mcu.list()
