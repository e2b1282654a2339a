"""The runtime as a process: its requests, its events, and what survives when either side is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from runtime_support import SYS, Agent, RuntimeProcess, application, connected, digest_of, plain_module, timer
from wasmbed.runtime import Limits, LogEvent, RequestRefused, RuntimeClient, RuntimeGone, StartRequest, protocol, wire

if TYPE_CHECKING:
    from pathlib import Path

TALKING = application(
    '(data (i32.const 0) "WORD")',
    uses=("sys.log", "sys.timer_set", "sys.env"),
    init=timer(20)
    + """(call $sys.log (i32.const 1) (i32.const 64)
           (call $sys.env (i32.const 0) (i32.const 4) (i32.const 64) (i32.const 64)))""",
    event="(call $sys.log (i32.const 2) (i32.const 0) (i32.const 4))",
)


async def test_a_module_is_loaded_started_listed_and_stopped(agent: Agent, runtime: RuntimeProcess) -> None:
    hello = await agent.client.hello()
    assert (hello.version, hello.wasmtime) == (protocol.VERSION, "50.0.1")
    assert stat.S_IMODE(runtime.socket.stat().st_mode) == 0o660
    request = await agent.run("one", TALKING, env={"WORD": "good day"})
    assert await agent.client.has(request.digest)
    line = await agent.log("one", "good day")
    assert line == LogEvent("one", "default/app", "default/one", 1, "good day", 0)
    await agent.state("one", "Running")
    (row,) = await agent.client.list()
    assert (row.instance, row.digest, row.state, row.restarts) == ("one", request.digest, "Running", 0)
    assert row.key == request.key()
    await agent.client.stop("one")
    assert await agent.client.list() == []
    await agent.client.stop("one")


async def test_the_same_start_again_changes_nothing(agent: Agent) -> None:
    request = await agent.run("one", TALKING)
    await asyncio.gather(*(agent.client.start(request) for _ in range(5)))
    await agent.log("one", "WORD")
    assert len(await agent.client.list()) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device_class": "mpu"}, "device class"),
        ({"isolation": "dedicated"}, "isolation"),
        ({"application": "default/other"}, "application"),
    ],
)
async def test_what_cannot_be_updated_is_refused(agent: Agent, change: dict[str, Any], what: str) -> None:
    request = await agent.run("one", TALKING)
    with pytest.raises(RequestRefused, match=f"runs with another {what}; stop it first") as refusal:
        await agent.client.start(replace(request, **change))
    assert refusal.value.reason == "BadRequest"


async def test_what_cannot_start_is_refused_with_its_reason(agent: Agent) -> None:
    with pytest.raises(RequestRefused) as refusal:
        await agent.client.start(StartRequest("one", digest_of(b"nothing"), "a/b", "c/d", "gateway"))
    assert refusal.value.reason == "NotFound"
    with pytest.raises(RequestRefused) as refusal:
        await agent.run("one", TALKING, device_class="toaster")
    assert (refusal.value.reason, refusal.value.message) == (
        "BadRequest",
        "class 'toaster' is unknown; there are mpu, gateway, riscv, mcu",
    )
    with pytest.raises(RequestRefused) as refusal:
        await agent.run("one", TALKING, grants=(), limits=Limits(memory_bytes=1024))
    assert refusal.value.reason == "InvalidModule"
    assert len(refusal.value.findings) == 4
    assert refusal.value.message.endswith("(and 3 more)")
    assert not await agent.client.has(digest_of(b"nothing"))


async def test_a_check_refuses_what_a_start_would_and_touches_nothing(agent: Agent) -> None:
    running = await agent.run("one", plain_module(), grants=())
    await agent.state("one", "Running")
    await agent.client.load(digest_of(TALKING), TALKING)
    new = replace(running, digest=digest_of(TALKING))
    with pytest.raises(RequestRefused, match="wasmbed:sys is not granted") as refusal:
        await agent.client.check(new)
    assert refusal.value.reason == "InvalidModule"
    with pytest.raises(RequestRefused) as refusal:
        await agent.client.check(replace(new, digest=digest_of(b"nothing")))
    assert refusal.value.reason == "NotFound"
    await agent.client.check(replace(new, grants=SYS))
    (row,) = await agent.client.list()
    assert (row.key, row.state, row.restarts, row.grants) == (running.key(), "Running", 0, ())


async def test_a_stop_whose_agent_went_away_leaves_no_instance_to_adopt(runtime: RuntimeProcess) -> None:
    """Such an instance stayed in the list as Running, and the next agent that wanted it never started it again."""
    async with connected(runtime) as first:
        request = await first.run("one", TALKING)
        await first.state("one", "Running")
        stopping = asyncio.ensure_future(first.client.stop("one"))
        # Answered at once, and after the stop was read: a new connection may end this one before.
        await asyncio.sleep(0)
        await first.client.hello()
        stopping.cancel()
    async with connected(runtime) as second:
        await second.client.start(request)
        await second.state("one", "Running")
        assert [row.instance for row in await second.client.list()] == ["one"]
        await second.stop_all()


async def test_many_instances_of_one_module_share_its_code_and_all_run(agent: Agent) -> None:
    for number in range(50):
        await agent.run(f"many{number}", TALKING)
    for number in range(50):
        await agent.state(f"many{number}", "Running")
        await agent.log(f"many{number}", "WORD")
    assert [(row.state, row.restarts) for row in await agent.client.list()] == [("Running", 0)] * 50


async def test_instances_run_on_without_an_agent_and_the_next_one_adopts_them(runtime: RuntimeProcess) -> None:
    async with connected(runtime) as first:
        request = await first.run("kept", TALKING)
        await first.log("kept", "WORD")
    async with connected(runtime) as second:
        (row,) = await second.client.list()
        assert (row.instance, row.state, row.restarts, row.key) == ("kept", "Running", 0, request.key())
        await second.client.start(request)
        await second.log("kept", "WORD")
        await second.stop_all()


async def test_a_new_agent_replaces_the_old_one(runtime: RuntimeProcess) -> None:
    async with connected(runtime) as first, connected(runtime) as second:
        await second.client.hello()
        await asyncio.wait_for(first.gone.wait(), 60)
        with pytest.raises(RuntimeGone):
            await first.client.list()
        assert await second.client.list() == []


async def test_an_agent_that_does_not_read_stops_nothing(runtime: RuntimeProcess) -> None:
    async with connected(runtime) as first:
        for number in range(10):
            await first.run(f"chatty{number}", TALKING)
        await first.log("chatty9", "WORD")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(str(runtime.socket))
        # Lines of ten instances at 50 a second fill the socket's buffers.
        await asyncio.sleep(3)
    async with connected(runtime) as second:
        rows = await second.client.list()
        assert {(row.state, row.restarts) for row in rows} == {("Running", 0)}
        await second.log("chatty0", "WORD")
        await second.stop_all()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xff",
        wire.encode({"op": "list"}),
        b"\0\0\0\2\x81\0",
    ],
)
async def test_a_connection_that_breaks_the_protocol_is_closed_alone(runtime: RuntimeProcess, junk: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(runtime.socket))
    writer.write(junk)
    async with asyncio.timeout(60):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    writer.close()
    async with connected(runtime) as agent:
        assert await agent.client.list() == []


async def test_a_fault_of_the_runtime_is_an_answer_and_does_not_end_the_connection(agent: Agent) -> None:
    with pytest.raises(RequestRefused, match="internal error of the runtime") as refusal:
        await agent.client._link.call("op", {"op": 10**5000}, 10)
    assert refusal.value.reason == "DeviceError"
    assert await agent.client.list() == []


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"op": "explode"}, "unknown op 'explode'"),
        ({}, "unknown op 'None'"),
        ({"op": "hello", "version": 1}, f"version 1 is not spoken here, {protocol.VERSION} is"),
        ({"op": "has", "digest": "../../etc/passwd"}, "not sha256: and 64 hexadecimal digits"),
        ({"op": "load", "digest": "sha256:" + "0" * 64, "wasm": "text"}, "field 'wasm' is not bytes"),
        ({"op": "stop"}, "field 'instance' is not a text"),
        ({"op": "start", "instance": "x"}, "field 'digest' is not a text"),
    ],
)
async def test_a_bad_request_is_answered(runtime: RuntimeProcess, message: dict[str, object], says: str) -> None:
    reader, writer = await asyncio.open_unix_connection(str(runtime.socket))
    writer.write(wire.encode({"id": 5, **message}))
    frames = wire.FrameReader()
    answers: list[dict[str, object]] = []
    async with asyncio.timeout(60):
        while not answers:
            answers += [m for m in frames.feed(await reader.read(4096)) if "id" in m]
    writer.close()
    assert answers[0]["id"] == 5
    assert answers[0]["ok"] is False
    assert answers[0]["reason"] == "BadRequest"
    assert says in str(answers[0]["message"])


async def test_requests_are_answered_while_a_module_compiles(agent: Agent) -> None:
    module = plain_module(functions=30_000)
    async with asyncio.TaskGroup() as group:
        loading = group.create_task(agent.client.load(digest_of(module), module))
        answered = 0
        while not loading.done():
            await agent.client.list()
            answered += 1
            await asyncio.sleep(0.01)
    assert answered > 5


async def test_a_killed_runtime_is_noticed_and_its_successor_needs_no_compiling(
    socket_directory: Path, cache: Path
) -> None:
    first = RuntimeProcess.start(socket_directory, cache)
    try:
        async with connected(first) as agent:
            request = await agent.run("one", TALKING)
            await agent.log("one", "WORD")
            first.stop(signal.SIGKILL)
            with pytest.raises(RuntimeGone):
                await agent.client.list()
    finally:
        first.stop(signal.SIGKILL)
    second = RuntimeProcess.start(socket_directory, cache)
    try:
        async with connected(second) as agent:
            assert await agent.client.list() == []
            assert await agent.client.has(request.digest)
            await agent.client.start(request)
            await agent.state("one", "Running")
    finally:
        assert second.stop() == 0
    assert not second.socket.exists()


async def test_no_runtime_is_told_as_such(socket_directory: Path) -> None:
    with pytest.raises(RuntimeGone, match="cannot connect to the runtime at"):
        await RuntimeClient.connect(socket_directory / "nothing.sock")


async def test_an_endless_call_does_not_delay_the_end_of_the_process(socket_directory: Path, cache: Path) -> None:
    process = RuntimeProcess.start(socket_directory, cache)
    try:
        async with connected(process) as agent:
            spin = application(uses=("sys.timer_set",), init=timer(10), event="(loop (br 0))")
            for number in range(3):
                await agent.run(f"spin{number}", spin, limits=Limits())
            await agent.state("spin2", "Running")
        began = asyncio.get_running_loop().time()
        assert process.stop() == 0
        assert asyncio.get_running_loop().time() - began < 5
    finally:
        process.stop(signal.SIGKILL)
