"""Keeps the device's runtime at what is wanted of it. What is wanted is on disk: it runs after a reboot by itself."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sqlite3
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from wasmbed.device.wanted import Wanted
from wasmbed.runtime import (
    InstanceStatus,
    LogEvent,
    ProtocolError,
    Provision,
    RequestRefused,
    RuntimeClient,
    RuntimeGone,
    StateEvent,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping
    from pathlib import Path

    from wasmbed.device.modules import Modules
    from wasmbed.device.store import Store
    from wasmbed.runtime import Delivery, Hello, HostRequest, Secret, StartRequest

_log = logging.getLogger(__name__)

CONNECT_FIRST_S: Final = 0.1
CONNECT_LAST_S: Final = 5.0
START_FIRST_S: Final = 1.0
START_LAST_S: Final = 60.0
_NOT_FINAL: Final = ("DeviceError", "NotFound")


class Listener(Protocol):
    """Who hears of the runtime."""

    def on_instances(self) -> None:
        """All instances are to be told anew."""
        ...

    def on_state(self, event: StateEvent) -> None: ...
    def on_log(self, event: LogEvent) -> None: ...
    def on_request(self, request: HostRequest) -> None: ...


@dataclass(frozen=True)
class _Failure:
    reason: str
    message: str
    retry_at: float
    count: int


class Keeper:
    """The connection to the runtime, and the operations the gateway asks for. They raise RequestRefused."""

    def __init__(self, device: str, socket: Path, store: Store, modules: Modules) -> None:
        self._device = device
        self._socket = socket
        self._modules = modules
        self._wanted = Wanted(store)
        self._rows: dict[str, InstanceStatus] = {}
        self._failures: dict[str, _Failure] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._client: RuntimeClient | None = None
        self._provision = Provision(device, (), link=False)
        self._own: Provision | None = None
        self._link = False
        self._wake = asyncio.Event()
        self.hello: Hello | None = None
        self.problem = "the device's runtime is not connected yet"

    async def open(self) -> None:
        """Take up what is on disk."""
        await self._wanted.open()

    async def run(self, listener: Listener) -> None:
        """Stay connected until cancelled."""
        failures = 0
        while True:
            try:
                async with await RuntimeClient.connect(self._socket) as client:
                    await self._serve(client, listener)
            except* (RuntimeGone, RequestRefused) as group:
                why = str(group.exceptions[0])
                if self._client is not None or not failures:
                    _log.warning("runtime away error=%s", why)
                failures = 1 if self._client is not None else failures + 1
                self._client, self.problem = None, f"the device's runtime is away: {why}"
                self._rows.clear()
                listener.on_instances()
            await asyncio.sleep(_spread(min(CONNECT_LAST_S, CONNECT_FIRST_S * 2.0 ** min(failures, 10))))

    def instances(self) -> list[InstanceStatus]:
        """Every instance that is wanted or runs, as it is, with the gateway's names for contents."""
        rows = []
        for name in self._wanted:
            row, request, failure = self._rows.get(name), self._wanted.request(name), self._failures.get(name)
            if row is None and request is not None:
                row = _starting(request)
                if failure is not None:
                    row = replace(row, state="Failed", reason=failure.reason, message=failure.message)
            if row is not None:
                rows.append(row)
        # What is still to be stopped.
        rows += [row for name, row in self._rows.items() if name not in self._wanted]
        translate = self._wanted.gateway_key
        return [replace(row, key=translate(row.key), previous=translate(row.previous)) for row in rows]

    def states(self) -> Mapping[str, int]:
        """How many instances are in each state."""
        return Counter(row.state for row in self.instances())

    # What the gateway asks for

    async def has(self, digest: str) -> bool:
        """Whether a module is on disk and the runtime has it compiled, after having had it compiled if need be."""
        client = self._need()
        if not self._modules.has(digest):
            return False
        try:
            await self._load(client, digest)
        except RequestRefused:
            return False
        return True

    async def offer(self, digest: str, size: int, sha256: str) -> int:
        """Begin or resume the transfer of a module; how many bytes are here."""
        return await self._modules.offer(digest, size, sha256, self._wanted.digests())

    async def part(self, digest: str, offset: int, data: bytes) -> None:
        """Take bytes of a module."""
        await self._modules.part(digest, offset, data)

    async def load(self, digest: str) -> None:
        """All of a module is here: have it checked and compiled."""
        await self._modules.finish(digest)
        try:
            await self._load(self._need(), digest)
        except RequestRefused as error:
            if error.reason == "InvalidModule":
                await self._modules.forget(digest)
            raise

    async def check(self, request: StartRequest) -> None:
        """Ask the runtime whether a start would be refused."""
        await _call(self._need().check(request))

    async def start(self, request: StartRequest, key: str) -> None:
        """Want an instance from now on, also after a reboot; `key` is the gateway's name for its content."""
        name = request.instance
        async with self._lock(name):
            client, running = self._need(), self._rows.get(name)
            if self._wanted.key(name) == key and running is not None and running.key == request.key():
                return
            if not self._modules.has(request.digest):
                raise RequestRefused("NotFound", f"{request.digest} is not on the device")
            await self._load(client, request.digest)
            await _call(client.check(request))
            before = await self._wanted.put(request, key)
            try:
                await self._start(client, request)
            except RequestRefused:
                await self._wanted.restore(name, before)
                raise

    async def stop(self, name: str) -> None:
        """Want an instance no longer, and wait until it is gone."""
        async with self._lock(name):
            await self._wanted.drop(name)
            self._failures.pop(name, None)
            await _call(self._need().stop(name))
            self._rows.pop(name, None)
        self._locks.pop(name, None)

    async def provide(self, provision: Provision) -> None:
        """Take what the gateway's bridges have for this device now."""
        if provision.device != self._device:
            raise RequestRefused("BadRequest", f"this is {self._device}, not {provision.device}")
        self._provision = provision
        await self._tell_provision()

    async def secret(self, secret: Secret) -> None:
        """Take an application's sealing key; it is kept, so that sealing works without the gateway."""
        await self._give_secret(secret)
        await self._tell_provision()

    def deliver(self, batch: Iterable[Delivery]) -> None:
        """Send events to instances; those of a runtime that is away are lost with its instances."""
        if self._client is not None:
            try:
                self._client.deliver(batch)
            except (RuntimeGone, ProtocolError) as error:
                _log.warning("events not delivered error=%s", error)

    async def set_own(self, provision: Provision) -> None:
        """Take what the device has by itself, with the link and without."""
        self._own = provision
        await self._tell_provision()

    async def set_link(self, up: bool) -> None:
        """The link to the gateway came or went: applications are told, and what is there without it remains."""
        self._link = up
        if not up:
            self._provision = Provision(self._device, (), link=False, sensors=self._provision.sensors)
        await self._tell_provision()

    # The runtime

    async def _serve(self, client: RuntimeClient, listener: Listener) -> None:
        self.hello = await client.hello()
        self._rows = {row.instance: row for row in await client.list()}
        self._failures.clear()
        self._client, self.problem = client, ""
        _log.info("runtime connected wasmtime=%s instances=%d", self.hello.wasmtime, len(self._rows))
        await self._tell_provision()
        await self.give_secrets()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(client, listener))
            tasks.create_task(self._converge(client, listener))

    async def _hear(self, client: RuntimeClient, listener: Listener) -> None:
        async for event in client.events():
            if isinstance(event, LogEvent):
                listener.on_log(event)
            elif isinstance(event, StateEvent):
                await self._on_state(event, listener)
            else:
                listener.on_request(event)

    async def _on_state(self, event: StateEvent, listener: Listener) -> None:
        row = self._rows.get(event.instance)
        if row is None:
            return
        self._rows[event.instance] = replace(
            row, state=event.state, reason=event.reason, message=event.message, restarts=event.restarts
        )
        if event.rolled_back:
            await self._roll_back(event.instance, event.rolled_back)
            event = replace(event, rolled_back=self._wanted.gateway_key(event.rolled_back))
            listener.on_instances()
        listener.on_state(event)

    async def _roll_back(self, name: str, failed: str) -> None:
        """The runtime is back at the content before: so must the disk be."""
        now = await self._wanted.roll_back(name, failed)
        if now is not None:
            self._rows[name] = replace(self._rows[name], digest=now.digest, key=now.key(), previous=failed)

    async def _converge(self, client: RuntimeClient, listener: Listener) -> None:
        """Start and stop what differs, again and again while something fails."""
        while True:
            for name in [name for name in self._rows if name not in self._wanted]:
                await self._stop_unknown(client, name)
            now = asyncio.get_running_loop().time()
            due = [name for name in self._wanted if self._is_due(name, now)]
            for name in due:
                await self._bring_up(client, name)
            listener.on_instances()
            waiting = [item.retry_at for name, item in self._failures.items() if name in self._wanted]
            self._wake.clear()
            try:
                async with asyncio.timeout_at(min(waiting) if waiting and min(waiting) < math.inf else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _is_due(self, name: str, now: float) -> bool:
        row, failure, request = self._rows.get(name), self._failures.get(name), self._wanted.request(name)
        if request is None or (row is not None and row.key == request.key()):
            return False
        return failure is None or now >= failure.retry_at

    async def _stop_unknown(self, client: RuntimeClient, name: str) -> None:
        async with self._lock(name):
            if name not in self._wanted:
                try:
                    await client.stop(name)
                except RequestRefused as error:
                    _log.error("not stopped instance=%s error=%s", name, error)
                    return
                self._rows.pop(name, None)

    async def _bring_up(self, client: RuntimeClient, name: str) -> None:
        async with self._lock(name):
            request = self._wanted.request(name)
            if request is None or not self._is_due(name, math.inf):
                return
            try:
                await self._load(client, request.digest)
                await self._start(client, request)
            except RequestRefused as error:
                before = self._failures.get(name)
                count = before.count + 1 if before is not None else 1
                delay = _spread(min(START_LAST_S, START_FIRST_S * 2.0 ** min(count - 1, 10)))
                retry_at = asyncio.get_running_loop().time() + delay if error.reason in _NOT_FINAL else math.inf
                self._failures[name] = _Failure(error.reason, error.message, retry_at, count)
                _log.warning("not started instance=%s error=%s", name, error)

    async def _start(self, client: RuntimeClient, request: StartRequest) -> None:
        name = request.instance
        before = self._rows.get(name)
        # Before the call: its states may come before its answer.
        self._rows[name] = _starting(request)
        try:
            await _call(client.start(request))
        except RequestRefused:
            if before is None:
                self._rows.pop(name, None)
            else:
                self._rows[name] = before
            raise
        self._failures.pop(name, None)
        _log.info("started instance=%s digest=%s", name, request.digest)

    async def _load(self, client: RuntimeClient, digest: str) -> None:
        try:
            if await client.has(digest):
                return
            module = await self._modules.read(digest)
            if module is None:
                raise RequestRefused("NotFound", f"{digest} is not on the device; the gateway brings it")
            await client.load(digest, module)
        except RuntimeGone as error:
            raise RequestRefused("DeviceError", str(error)) from error

    async def _tell_provision(self) -> None:
        client = self._client
        if client is None:
            return
        available = set(self._provision.available) if self._link else set()
        available.discard("secure")
        if self._wanted.secrets:
            # Sealing is done here, and what is sealed waits here for the gateway.
            available.add("secure")
        sensors = self._provision.sensors
        if self._own is not None:
            available = (available - {"sensor"}) | set(self._own.available)
            sensors = self._own.sensors
        provision = Provision(self._device, tuple(sorted(available)), self._link, sensors)
        try:
            await client.provide(provision)
        except RequestRefused as error:
            _log.error("the runtime refuses what is provided error=%s", error)
        except RuntimeGone:
            _log.debug("the runtime is gone; it is told when it is back")

    async def give_secrets(self) -> None:
        """Hand every sealing key to the runtime with numbers that nobody has used."""
        for secret in self._wanted.secrets:
            try:
                await self._give_secret(secret)
            except (RequestRefused, sqlite3.Error) as error:
                _log.error("no numbers for sealing application=%s error=%s", secret.application, error)

    async def _give_secret(self, secret: Secret) -> None:
        given = await self._wanted.use_secret(secret)
        if self._client is not None:
            await _call(self._client.secret(given))

    def _need(self) -> RuntimeClient:
        if self._client is None:
            raise RequestRefused("DeviceError", self.problem)
        return self._client

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def _starting(request: StartRequest) -> InstanceStatus:
    return InstanceStatus(request.instance, request.digest, "Starting", "", "", 0, request.key(), request.grants)


async def _call(work: Awaitable[None]) -> None:
    try:
        await work
    except RuntimeGone as error:
        raise RequestRefused("DeviceError", str(error)) from error


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
