"""Sealed messages: keys and numbers to runtimes, a spool that loses nothing, an HTTPS server with mutual TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from secure_cloud import Cloud, make_pki
from wasmbed.gateway.sealing_key import KeyFileError, gateway_key, read_key
from wasmbed.gateway.secure import SecureBackend
from wasmbed.gateway.uplink_config import MIB, SecureConfig, UplinkConfig
from wasmbed.gateway.uplink_spool import Spool
from wasmbed.hostcalls import Dispatcher, HostCallMetrics, HostInstance, Status
from wasmbed.runtime import HostRequest
from wasmbed.runtime.abi import EventType
from wasmbed.runtime.sealing import BLOCK, DOWN, UP, application_key, seal, unseal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from wasmbed.runtime import Delivery, Provision, Secret

SITE = bytes(range(32))
APPLICATION, DEVICE, UID = "default/app", "default/one", "uid-1"
KEY = application_key(SITE, APPLICATION, UID)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition of another thread
            await asyncio.sleep(0.005)


@dataclass
class Runtime:
    """What the runtime would get."""

    backlog_bytes: int = 0
    events: list[Delivery] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)

    def deliver(self, events: Sequence[Delivery]) -> None:
        self.events += events

    async def provide(self, provision: Provision) -> None:
        assert provision.available == ("secure",)

    async def secret(self, secret: Secret) -> None:
        self.secrets.append(secret)

    def result(self, token: int) -> int | None:
        for event in self.events:
            if event.type == EventType.RESULT and event.source == token:
                return int.from_bytes(event.data[:4], "little", signed=True)
        return None


@dataclass
class Gateway:
    dispatcher: Dispatcher
    runtime: Runtime
    registry: CollectorRegistry
    backend: SecureBackend

    async def open(self, name: str = "i", application: str = APPLICATION, uid: str = UID, device: str = DEVICE) -> None:
        spec = HostInstance(name, application, uid, device, frozenset({"wasmbed:secure"}))
        await self.dispatcher.open(spec, self.runtime)

    def call(self, op: str, token: int, data: bytes | None = None, name: str = "i") -> None:
        request = HostRequest(name, APPLICATION, DEVICE, "secure", op, token, (), data)
        self.dispatcher.submit(request, self.runtime)

    async def send(self, token: int, data: bytes) -> int:
        self.call("send", token, data)
        await until(lambda: self.runtime.result(token) is not None)
        return int(self.runtime.result(token) or 0)

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def message(sequence: int, content: bytes = b"reading", **changes: Any) -> bytes:
    values = {"key": KEY, "application": APPLICATION, "device": DEVICE, "direction": UP} | changes
    return seal(values["key"], values["application"], values["device"], values["direction"], sequence, content)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cloud")
    make_pki(folder)
    return folder


@pytest.fixture
def cloud(pki: Path) -> Iterator[Cloud]:
    found = Cloud(pki)
    found.start()
    yield found
    found.stop()


def config_of(cloud: Cloud, folder: Path, **changes: Any) -> SecureConfig:
    (folder / "key").write_bytes(base64.b64encode(SITE) + b"\n")
    (folder / "key").chmod(0o600)
    values: dict[str, Any] = {
        "url": f"https://127.0.0.1:{cloud.port}/wasmbed",
        "ca_file": cloud.folder / "ca.crt",
        "certificate": cloud.folder / "client.crt",
        "key": cloud.folder / "client.key",
        "poll_s": 0.1,
        "max_retry_s": 0.2,
        "timeout_s": 3.0,
    }
    return SecureConfig(folder / "key", UplinkConfig(**{**values, **changes}))


@contextlib.asynccontextmanager
async def running(config: SecureConfig, folder: Path) -> AsyncIterator[Gateway]:
    registry = CollectorRegistry()
    async with SecureBackend.running(config, "gw-1", folder) as backend:
        dispatcher = Dispatcher([backend], HostCallMetrics(registry))
        registry.register(backend)
        task = asyncio.create_task(dispatcher.run())
        try:
            yield Gateway(dispatcher, Runtime(), registry, backend)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_sent_message_is_on_disk_before_its_result_and_reaches_the_cloud(cloud: Cloud, tmp_path: Path) -> None:
    async with running(config_of(cloud, tmp_path), tmp_path) as gateway:
        await gateway.open()
        (secret,) = gateway.runtime.secrets
        assert (secret.application, secret.device, secret.key) == (APPLICATION, DEVICE, KEY)
        assert secret.sequence is not None
        assert await gateway.send(1, message(secret.sequence, b"42 degC")) == 0
        await until(lambda: cloud.messages)
    (row,) = cloud.messages.values()
    assert unseal(KEY, base64.b64decode(row["envelope"])).content == b"42 degC"
    assert cloud.requests[0]["gateway"] == "gw-1"
    assert set(cloud.peers) == {"client"}


async def test_nothing_acknowledged_is_lost_while_the_cloud_is_away(cloud: Cloud, tmp_path: Path) -> None:
    cloud.stop()
    config = config_of(cloud, tmp_path)
    async with running(config, tmp_path) as gateway:
        await gateway.open()
        for number in range(50):
            gateway.call("send", number + 1, message(number))
        await until(lambda: gateway.runtime.result(50) is not None)
        assert {gateway.runtime.result(number) for number in range(1, 51)} == {0}
        await until(lambda: gateway.figure("wasmbed_uplink_failures_total"))
    cloud.start()
    async with running(config, tmp_path) as gateway:
        await until(lambda: len(cloud.messages) == 50)
        await until(lambda: gateway.figure("wasmbed_uplink_spooled_messages") == 0)
    sequences = [unseal(KEY, base64.b64decode(row["envelope"])).sequence for row in cloud.messages.values()]
    assert sequences == list(range(50))


async def test_bad_answers_and_lost_ones_are_tried_again(cloud: Cloud, tmp_path: Path) -> None:
    answers = [
        lambda handler: cloud.reply(handler, {}, 503),
        lambda handler: cloud.reply(handler, {}, 302),
        lambda handler: cloud.reply(handler, b"<html>"),
        lambda handler: cloud.reply(handler, [1]),
        lambda handler: cloud.reply(handler, {"accepted": ["1"]}),
        lambda handler: cloud.reply(handler, {"accepted": [99], "messages": [1, {"id": "x" * 1000}]}),
        lambda handler: cloud.reply(handler, b"[" * (5 << 20)),
        lambda handler: handler.connection.close(),
    ]
    pending = list(answers)

    def answer(handler: Any, body: dict[str, Any]) -> bool:
        if pending and body["messages"]:
            pending.pop(0)(handler)
            return True
        return False

    cloud.answer = answer
    async with running(config_of(cloud, tmp_path), tmp_path) as gateway:
        await gateway.open()
        assert await gateway.send(1, message(1)) == 0
        await until(lambda: cloud.messages, 60)
        assert gateway.figure("wasmbed_uplink_failures_total") >= len(answers) - 1
        await until(lambda: gateway.figure("wasmbed_uplink_spooled_messages") == 0)
        # The same id each time, so that the server knows it again.
        assert len({row["id"] for body in cloud.requests for row in body["messages"]}) == 1


async def test_refused_message_does_not_hold_up_the_others(cloud: Cloud, tmp_path: Path) -> None:
    cloud.refuse = lambda row: (
        "unknown application" if unseal(KEY, base64.b64decode(row["envelope"])).sequence == 1 else ""
    )
    async with running(config_of(cloud, tmp_path), tmp_path) as gateway:
        await gateway.open()
        for number in (1, 2):
            assert await gateway.send(number, message(number)) == 0
        await until(lambda: gateway.figure("wasmbed_uplink_sent_total", result="refused") == 1)
        await until(lambda: gateway.figure("wasmbed_uplink_sent_total", result="accepted") == 1)
        await until(lambda: gateway.figure("wasmbed_uplink_spooled_messages") == 0)


async def test_full_spool_refuses_what_is_new_and_one_application_cannot_take_it_all(
    cloud: Cloud, tmp_path: Path
) -> None:
    cloud.stop()
    async with running(config_of(cloud, tmp_path, max_spool_bytes=MIB), tmp_path) as gateway:
        await gateway.open()
        other_key = application_key(SITE, "default/other", "uid-2")
        results = [await gateway.send(number, message(number, bytes(4000))) for number in range(1, 80)]
        taken = results.index(Status.AGAIN)
        assert results == [0] * taken + [Status.AGAIN] * (79 - taken)
        assert 50 <= taken <= MIB // 4 // 4000
        sealed = message(1, key=other_key, application="default/other")
        assert await gateway.backend.keep(DEVICE, "default/other", sealed) == 0
        # Kept once, however often a device brings it.
        assert await gateway.backend.keep(DEVICE, "default/other", sealed) == 0
        assert gateway.figure("wasmbed_uplink_spooled_messages") == taken + 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", Status.INVALID),
        (b"\xff" * 100, Status.INVALID),
        (bytes(10_000), Status.TOOBIG),
        (message(1, application="default/other"), Status.DENIED),
        (message(1, device="default/two"), Status.DENIED),
        (message(1, direction=DOWN), Status.DENIED),
        (None, Status.INVALID),
    ],
    ids=["empty", "garbage", "long", "application", "device", "direction", "none"],
)
async def test_what_is_no_message_of_the_sender_is_refused(
    cloud: Cloud, tmp_path: Path, data: bytes | None, status: Status
) -> None:
    async with running(config_of(cloud, tmp_path), tmp_path) as gateway:
        await gateway.open()
        gateway.call("send", 1, data)
        await until(lambda: gateway.runtime.result(1) is not None)
        assert gateway.runtime.result(1) == status
        gateway.call("unseal", 2)
        await until(lambda: gateway.runtime.result(2) == Status.INVALID)


async def test_without_uplink_keys_are_given_but_nothing_is_sent(cloud: Cloud, tmp_path: Path) -> None:
    config = SecureConfig(config_of(cloud, tmp_path).key_file)
    async with running(config, tmp_path) as gateway:
        await gateway.open()
        assert gateway.runtime.secrets[0].key == KEY
        assert await gateway.send(1, message(1)) == Status.UNAVAILABLE


async def test_message_of_the_cloud_is_delivered_once_and_only_when_it_is_authentic(
    cloud: Cloud, tmp_path: Path
) -> None:
    config = config_of(cloud, tmp_path)
    async with running(config, tmp_path) as gateway:
        good = message(5, b"go", direction=DOWN)
        cloud.send_down("early", APPLICATION, DEVICE, good)
        await until(lambda: gateway.figure("wasmbed_uplink_received_total", fate="away") >= 2)
        assert "early" not in cloud.received
        await gateway.open()
        await until(lambda: cloud.received.get("early") == "delivered")
        cloud.send_down("again", APPLICATION, DEVICE, good)
        cloud.send_down("older", APPLICATION, DEVICE, message(4, direction=DOWN))
        cloud.send_down("forged", APPLICATION, DEVICE, message(6, direction=DOWN, key=bytes(32)))
        cloud.send_down("up", APPLICATION, DEVICE, message(7))
        cloud.send_down("garbage", APPLICATION, DEVICE, b"garbage")
        await until(lambda: len(cloud.received) == 6)
        assert cloud.received == {
            "early": "delivered",
            "again": "duplicate",
            "older": "duplicate",
            "forged": "rejected",
            "up": "rejected",
            "garbage": "rejected",
        }
        events = [event for event in gateway.runtime.events if event.type == EventType.SECURE]
        assert [event.data for event in events] == [good]
    async with running(config, tmp_path) as gateway:
        await gateway.open()
        cloud.send_down("later", APPLICATION, DEVICE, good)
        await until(lambda: cloud.received.get("later") == "duplicate")


async def test_numbers_are_never_given_out_twice(cloud: Cloud, tmp_path: Path) -> None:
    config = config_of(cloud, tmp_path)
    first: list[int] = []
    for _ in range(3):
        async with running(config, tmp_path) as gateway:
            await gateway.open()
            gateway.call("sequence", 0)
            await until(lambda: len(gateway.runtime.secrets) == 2)
            first += [int(secret.sequence or 0) for secret in gateway.runtime.secrets]
    assert first == [first[0] + BLOCK * number for number in range(6)]
    # Also when the database is lost, if the clock goes on.
    for path in tmp_path.glob("uplink.db*"):  # noqa: ASYNC240 - a test may wait
        path.unlink()
    await asyncio.sleep(1.1)
    async with running(config, tmp_path) as gateway:
        await gateway.open()
        assert int(gateway.runtime.secrets[0].sequence or 0) > first[-1] + BLOCK


async def test_damaged_spool_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "uplink.db").write_bytes(os.urandom(8192))
    spool = await Spool.open(tmp_path, MIB)
    await spool.close()
    assert len(list(tmp_path.glob("uplink.unusable-*"))) == 1  # noqa: ASYNC240 - a test may wait


async def test_full_disk_is_an_answer_and_no_end(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, MIB)
    task = asyncio.create_task(spool.run())
    await spool._in_thread(lambda: spool._connection.execute("PRAGMA max_page_count = 12"))
    results = [await spool.keep(APPLICATION, DEVICE, number, os.urandom(4000)) for number in range(20)]
    assert results[0] == 0
    assert Status.IO in results
    kept = await spool.oldest(100, MIB)
    assert len(kept) == results.count(0) == spool.messages
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await spool.close()
    with sqlite3.connect(tmp_path / "uplink.db") as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (len(kept),)


async def test_server_without_our_authority_gets_nothing(cloud: Cloud, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_pki(other)
    async with running(config_of(cloud, tmp_path, ca_file=other / "ca.crt"), tmp_path) as gateway:
        await gateway.open()
        assert await gateway.send(1, message(1)) == 0
        await until(lambda: gateway.figure("wasmbed_uplink_failures_total") >= 2)
        assert cloud.requests == []
    async with running(
        config_of(cloud, tmp_path, certificate=other / "client.crt", key=other / "client.key"), tmp_path
    ) as gateway:
        await until(lambda: gateway.figure("wasmbed_uplink_failures_total") >= 2)
        assert cloud.requests == []


def test_key_file_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    with pytest.raises(KeyFileError, match="No such file"):
        read_key(path)
    path.write_bytes(base64.b64encode(SITE))
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="mode to 0600"):
        read_key(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key(path) == SITE
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    path.chmod(0o600)
    assert read_key(path) == SITE
    path.write_bytes(b"short")
    with pytest.raises(KeyFileError, match="not 32 bytes"):
        read_key(path)
    assert gateway_key(SITE, "gw-1") != gateway_key(SITE, "gw-2") != SITE
