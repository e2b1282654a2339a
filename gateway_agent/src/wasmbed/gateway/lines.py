"""Microcontrollers: the gateway's serial lines, which device is at each of them, and its instances.

Every line of the configuration is kept open. A device counts once its handshake has proved a name and a static key that
are in a DeviceSlice of this gateway; others get no answer, and are counted and logged.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING, Final

from wasmbed.api import DeviceClass
from wasmbed.gateway.line_keys import LineKeys, key_of
from wasmbed.link.line import Endpoint
from wasmbed.link.mcu import LinkState, McuSession
from wasmbed.link.secure import Ends, Stranger
from wasmbed.runtime import HostRequest, LogEvent, RequestRefused, RuntimeGone, StateEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wasmbed.gateway.config import LinesConfig
    from wasmbed.gateway.hostcalls import HostedRuntime
    from wasmbed.gateway.reconcile import Reconciler
    from wasmbed.gateway.session import Services
    from wasmbed.link.records import Crash

_log = logging.getLogger(__name__)

_CLASSES: Final = (DeviceClass.MCU, DeviceClass.RISCV)
# A device that does not answer right after its session came up is asked again.
RETRY_S: Final = 2.0
# A new handshake that was asked for ends the work for the session before; one that does not come leaves it be.
RENEWED_S: Final = 5.0


class Lines:
    """All lines of one gateway."""

    def __init__(self, config: LinesConfig, services: Services) -> None:
        """Raises LineKeyError and LineError for what the configuration names and cannot be used."""
        self._config = config
        self.services = services
        self.keys = LineKeys(config)
        self.key_states: dict[str, str] = {}
        """By which of the gateway's keys a device knew it last, `current` or `previous`, since the agent runs."""
        self.next_keys: dict[str, str] = {}
        """The public keys that devices made to replace theirs."""
        self.crashes: dict[str, tuple[int, Crash, str]] = {}
        """How many crash records were fetched from a device since the agent runs, the last one, and what reset it."""
        self._endpoints = [Endpoint.parse(address) for address in config.addresses]
        self._lines: list[McuLine] = []

    @property
    def lines(self) -> Iterable[McuLine]:
        """Every line."""
        return tuple(self._lines)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for endpoint in self._endpoints:
                line = McuLine(self, endpoint, self._config.heartbeat_s)
                self._lines.append(line)
                tasks.create_task(line.run())
            await asyncio.Event().wait()

    def candidates(self) -> Iterator[Ends]:
        """Who may be at a line: the name is that of the EdgeDevice, with or without its namespace."""
        gateway = self.services.gateway.encode()
        privates, retired = self.keys.privates, self.keys.retired
        for device in self.services.fleet.devices.values():
            if device.device_class not in _CLASSES or device.revoked:
                continue
            key = key_of(device)
            full = f"{device.namespace}/{device.name}"
            for name in (full, device.name):
                if len(name.encode()) <= 64:
                    yield Ends(name.encode(), gateway, privates, (key,) if key else (), full, retired)

    def devices(self) -> Iterator[str]:
        """The names of all devices that may be at a line."""
        for device in self.services.fleet.devices.values():
            if device.device_class in _CLASSES and not device.revoked:
                yield f"{device.namespace}/{device.name}"

    def check_devices(self) -> None:
        """The devices of the slices changed: end sessions that would not be opened now."""
        for line in self._lines:
            if line.device and not self._allowed(line):
                self.refuse("Revoked", str(line.session.endpoint), f"EdgeDevice {line.device} is not its any more")
                line.session.drop("the device is no longer known by this key, or is revoked")

    def _allowed(self, line: McuLine) -> bool:
        namespace, _, name = line.device.partition("/")
        device = self.services.fleet.known((namespace, name))
        return (
            device is not None
            and not device.revoked
            and device.device_class in _CLASSES
            and key_of(device) == line.session.device_key
        )

    def taken(self, line: McuLine) -> bool:
        """Whether another line has this device already."""
        return any(other is not line and other.device == line.device and other.session.up for other in self._lines)

    def refuse(self, reason: str, who: str, text: str) -> None:
        """Count and log a session that is not opened or goes on no more."""
        self.services.metrics.link_refusals.labels(reason).inc()
        _log.warning("line refused line=%s reason=%s error=%s", who, reason, text)


class McuLine:
    """One line and, while there is a session, the device behind it."""

    def __init__(self, lines: Lines, endpoint: Endpoint, heartbeat_s: float) -> None:
        self._parent = lines
        self._services = lines.services
        self._change = asyncio.Event()
        self._state = LinkState(False)
        self.device = ""
        self.statistics: dict[str, int] = {}
        """The device's own counters, as it told them last."""
        self._heartbeat_s = heartbeat_s
        self.session = McuSession(
            endpoint,
            lines.candidates,
            heartbeat_s=heartbeat_s,
            on_link=self._on_link,
            on_stranger=self._on_stranger,
        )

    def _on_link(self, state: LinkState) -> None:
        self._state = state
        self._change.set()

    def _on_stranger(self, stranger: Stranger) -> None:
        if stranger.outdated:
            self._parent.refuse(
                "OldKey",
                str(self.session.endpoint),
                f"EdgeDevice {stranger.name} knows the gateway by its previous key, whose time ended at "
                f"{self._parent.keys.until}; give it the new one (`wasmbed provision --gateway-key`, or the role "
                "qemu_host), or set previous_key_until later",
            )
            return
        key = base64.b64encode(stranger.key).decode()
        self._parent.refuse(
            "WrongKey",
            str(self.session.endpoint),
            f"EdgeDevice {stranger.name} has not the key of this device; set spec.publicKey to {key} if it is yours",
        )

    async def run(self) -> None:
        """Keep the line and serve its device, one session after the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.session.run())
            while True:
                await self._change.wait()
                self._change.clear()
                state = self._state
                if not state.up:
                    continue
                self.device = self.session.device
                if self._parent.taken(self):
                    self._parent.refuse(
                        "Duplicate", str(self.session.endpoint), f"EdgeDevice {self.device} is at another line already"
                    )
                    self.session.drop("another line has this device")
                    self.device = ""
                    continue
                self._services.metrics.link_sessions.inc()
                _log.info("session opened device=%s line=%s", self.device, self.session.endpoint)
                try:
                    await self._serve()
                except Exception:  # one line's trouble must not end the others
                    _log.exception("session failed device=%s", self.device)
                    self.session.drop("the gateway failed to serve the device")
                finally:
                    self.device, self.statistics = "", {}

    async def _serve(self) -> None:
        """Until this session ends, or another one begins."""
        namespace, _, name = self.device.partition("/")
        key = (namespace, name)
        fleet = self._services.fleet
        reconciler = fleet.join(key)
        work: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                work.append(tasks.create_task(self._follow(reconciler, tasks, work)))
                await self._change.wait()
                for task in work:
                    task.cancel()
        finally:
            fleet.leave(key, reconciler)

    async def _follow(self, reconciler: Reconciler, tasks: asyncio.TaskGroup, work: list[asyncio.Task[None]]) -> None:
        hosted = await self._attach(reconciler)
        # Not before it is known what runs there, or all of it would be started anew.
        work.append(tasks.create_task(reconciler.run()))
        work.append(tasks.create_task(self._watch_statistics()))
        try:
            async for event in self.session.events():
                if isinstance(event, LogEvent):
                    self._services.logs.forward(event)
                elif isinstance(event, StateEvent):
                    await hosted.observe(event)
                    reconciler.observe(event)
                elif isinstance(event, HostRequest):
                    # A device speaks for itself alone.
                    hosted.submit(event._replace(device=self.device))
        finally:
            hosted.lost()

    async def _attach(self, reconciler: Reconciler) -> HostedRuntime:
        while True:
            try:
                await self._change_keys()
                await self.session.info()
                await self._fetch_crash()
                instances = await self.session.list()
                hosted, instances = await self._services.hosts.attach(self.session, instances, reconciler.wanted)
            except (RuntimeGone, RequestRefused) as error:
                _log.warning("device not readable device=%s error=%s", self.device, error)
                await asyncio.sleep(RETRY_S)
                continue
            reconciler.attach(hosted, instances)
            return hosted

    async def _change_keys(self) -> None:
        """Tell the device the gateway's new key if it knows the one before; have it make its own if that is wanted."""
        session, keys = self.session, self._parent.keys
        known = self._parent.key_states.get(self.device)
        state = self._parent.key_states[self.device] = "previous" if session.gateway_key else "current"
        try:
            if state == "previous":
                await session.change_gateway_key(keys.public)
                _log.info("gateway key told device=%s", self.device)
                if known != state:
                    # From the next handshake on it uses the new one; asked once, so that there is no end of handshakes.
                    session.renew()
                    await asyncio.sleep(RENEWED_S)
            elif keys.is_replaced(session.device_key):
                next_key = base64.b64encode(await session.change_device_key()).decode()
                self._parent.next_keys[self.device] = next_key
                _log.info("device key made device=%s key=%s", self.device, next_key)
            else:
                self._parent.next_keys.pop(self.device, None)
        except RequestRefused as error:
            _log.warning("key not changed device=%s error=%s; another change is under way", self.device, error)

    async def _fetch_crash(self) -> None:
        """Tell of the crash whose record waits on the device, and forget it there: at least once, if the link goes."""
        health = self.session.health
        if health is None or not health.crashed:
            return
        try:
            record = await self.session.crash()
            if record is None:
                return
            count, *_ = self._parent.crashes.get(self.device, (0,))
            self._parent.crashes[self.device] = (count + 1, record, health.reset_reason)
            _log.error(
                "device crashed device=%s what=%s kind=%d cause=0x%x pc=0x%08x address=0x%08x place=0x%x uptime_s=%d "
                "count=%d reset=%s",
                *(self.device, record.what, record.kind, record.cause, record.pc, record.address, record.place),
                *(record.uptime_s, record.count, health.reset_reason),
            )
            await self.session.clear_crash()
        except (RuntimeGone, RequestRefused) as error:  # what runs there matters more
            _log.warning("crash record not fetched device=%s error=%s", self.device, error)

    async def _watch_statistics(self) -> None:
        """Ask for the device's own counters as often as it gives a sign of life."""
        while True:
            try:
                self.statistics = await self.session.device_statistics()
            except (RuntimeGone, RequestRefused) as error:
                _log.debug("statistics not readable device=%s error=%s", self.device, error)
            await asyncio.sleep(self._heartbeat_s)
