"""The hub: a switch with the endpoints of a configuration, kept connected."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wasmbed.bridges.mavlink.datagram_links import UdpLink
from wasmbed.bridges.mavlink.endpoints import Endpoint, LogEndpoint, MavlinkConfig, parse_address
from wasmbed.bridges.mavlink.keystore import SAVE_EVERY_S, KeyStore
from wasmbed.bridges.mavlink.stream_links import SerialLink, TcpLink
from wasmbed.bridges.mavlink.switch import PortOptions, Switch
from wasmbed.bridges.mavlink.tlog import TelemetryLog

_log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.25
_LAST_RETRY_S = 8.0
_FLUSH_EVERY_S = 1.0

Link = UdpLink | TcpLink | SerialLink


class Hub:
    """Runs a configuration's endpoints; use it by `running`."""

    def __init__(self, config: MavlinkConfig) -> None:
        self.config = config
        # The loop's clock is the switch's clock, so that time-outs of both agree.
        self.switch = Switch(clock=time.monotonic)
        self.keys = KeyStore(config.key_folder) if config.key_folder is not None else None
        self.links: dict[str, Link] = {}
        self._ready: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Hub"]:
        """Endpoints are open (those that listen) or being connected (the others) within the context.

        Raises KeyStoreError for a signing key that cannot be used, before anything is opened.
        """
        for endpoint in self.config.endpoints:
            self.links[endpoint.name] = self._link(endpoint)
            self._ready[endpoint.name] = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(name, link), name=f"mavlink-{name}") for name, link in self.links.items()
            ]
            if self.config.log is not None:
                running.append(tasks.create_task(self._write_log(self.config.log)))
            if self.keys is not None:
                running.append(tasks.create_task(self._save_keys(self.keys)))
            try:
                yield self
            finally:
                for task in running:
                    task.cancel()

    async def ready(self, name: str) -> None:
        """Return when an endpoint is open or connected."""
        await self._ready[name].wait()

    def _link(self, endpoint: Endpoint) -> Link:
        address = parse_address(endpoint.address)
        signer = None
        if endpoint.signing_key and self.keys is not None:
            signer = self.keys.signer(endpoint.signing_key)
        options = PortOptions(
            policy=endpoint.policy,
            datagrams=address.kind.startswith("udp"),
            version=endpoint.version,
            signer=signer,
            link_id=endpoint.link_id,
            accept_unsigned=endpoint.accept_unsigned,
        )
        kind: Callable[..., Link] = UdpLink
        if address.kind == "serial":
            kind = SerialLink
        elif address.kind.startswith("tcp"):
            kind = TcpLink
        return kind(self.switch, endpoint, options, address)

    async def _keep(self, name: str, link: Link) -> None:
        delay_s = _FIRST_RETRY_S
        while True:
            reason = "the other end closed it"
            started = time.monotonic()
            try:
                await link.run(self._ready[name].set)
            except (OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            self._ready[name].clear()
            if time.monotonic() - started > _LAST_RETRY_S:
                delay_s = _FIRST_RETRY_S
            _log.warning("mavlink endpoint lost endpoint=%s reason=%r retry_s=%.2f", name, reason, delay_s)
            # A little chance, so that a hundred gateways do not knock at the same moment.
            await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311
            delay_s = min(delay_s * 2, _LAST_RETRY_S)

    async def _write_log(self, config: LogEndpoint) -> None:
        log = self.switch.log = TelemetryLog(config.folder, max_bytes=config.max_bytes, keep=config.keep)
        failed = False
        try:
            while True:
                await asyncio.sleep(_FLUSH_EVERY_S)
                try:
                    await asyncio.to_thread(log.flush, log.take(), time.time())
                    failed = False
                except OSError as error:
                    if not failed:
                        _log.error("mavlink log cannot be written folder=%s reason=%r", config.folder, str(error))
                    failed = True
        finally:
            self.switch.log = None
            try:
                log.flush(log.take(), time.time())
            except OSError as error:
                _log.error("mavlink log cannot be written folder=%s reason=%r", config.folder, str(error))

    async def _save_keys(self, keys: KeyStore) -> None:
        # At once: what this run uses must be known to the next one, however soon this one ends.
        keys.save(keys.snapshot())
        try:
            while True:
                await asyncio.sleep(SAVE_EVERY_S * 0.8)
                try:
                    await asyncio.to_thread(keys.save, keys.snapshot())
                except OSError as error:
                    # Links go on; what is lost is replay protection over a restart.
                    _log.error("mavlink signing state cannot be written reason=%r", str(error))
        finally:
            keys.save(keys.snapshot())
