"""Sealed messages to and from the cloud: POSTs of JSON over HTTPS with mutual TLS (docs/security.md).

A request has `version`, `gateway`, `messages` [{id, application, device, envelope}] and `received` [{id, status}]; the
answer `accepted` [id], `refused` [{id, reason}] and `messages` [{id, application, device, envelope}]. Envelopes are in
base64. A message is sent again until the server accepts or refuses it, so a server may see one twice, with the same id.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp

from wasmbed.gateway.model import retry_delay_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wasmbed.gateway.uplink_config import UplinkConfig
    from wasmbed.gateway.uplink_spool import Kept, Spool

_log = logging.getLogger(__name__)

VERSION: Final = 1
BATCH_MESSAGES: Final = 200
BATCH_BYTES: Final = 512 * 1024
MAX_ANSWER_BYTES: Final = 4 << 20
MAX_DOWN: Final = 256
MAX_ID: Final = 128
FIRST_RETRY_S: Final = 1.0

Received = Literal["delivered", "duplicate", "rejected", "away"]


class UplinkError(Exception):
    """The server could not be asked or did not understand; the message says where and why."""


class Uplink:
    """The forwarder. `deliver(application, device, envelope)` tells what became of a message from the cloud."""

    def __init__(
        self,
        config: UplinkConfig,
        gateway: str,
        spool: Spool,
        deliver: Callable[[str, str, bytes], Awaitable[Received]],
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._spool = spool
        self._deliver = deliver
        # What the server does not know yet of its own messages.
        self._received: list[dict[str, str]] = []
        self.sent = self.refused = self.failures = 0
        self.down: dict[str, int] = {}
        self.problem = ""

    async def run(self) -> None:
        """Forward until cancelled."""
        failures = 0
        while True:
            try:
                async with aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=await asyncio.to_thread(self._context), limit=1),
                    timeout=aiohttp.ClientTimeout(total=self._config.timeout_s),
                ) as session:
                    while True:
                        more = await self._exchange(session)
                        if self.problem:
                            _log.info("uplink works again url=%s", self._config.url)
                        failures, self.problem = 0, ""
                        if not more:
                            await self._wait()
            except (UplinkError, aiohttp.ClientError, TimeoutError, OSError) as error:
                failures += 1
                self.failures += 1
                problem = str(error) or f"no answer within {self._config.timeout_s:g} s"
                if problem != self.problem:
                    _log.warning("uplink failed, tried again url=%s error=%s", self._config.url, problem)
                self.problem = problem
            # With new files and a new connection.
            await asyncio.sleep(retry_delay_s(failures, first_s=FIRST_RETRY_S, cap_s=self._config.max_retry_s))

    def _context(self) -> ssl.SSLContext:
        config = self._config
        try:
            context = ssl.create_default_context(cafile=str(config.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(config.certificate, config.key)
        except OSError as error:
            raise UplinkError(
                f"{config.ca_file}, {config.certificate} or {config.key} cannot be used: {error.strerror or error}"
            ) from error
        return context

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._config.poll_s):
                await self._spool.arrived.wait()
        except TimeoutError:
            pass

    async def _exchange(self, session: aiohttp.ClientSession) -> bool:
        """One request; whether there is more to tell now. Raises UplinkError."""
        self._spool.arrived.clear()
        batch = await self._spool.oldest(BATCH_MESSAGES, BATCH_BYTES)
        told = list(self._received)
        answer = await self._post(session, batch, told)
        accepted, refused = _numbers(answer, "accepted"), _refusals(answer)
        ids = {item.id: item for item in batch}
        for number, reason in refused.items():
            if number in ids:
                self.refused += 1
                item = ids[number]
                _log.error(
                    "the server refuses a sealed message application=%s device=%s reason=%s",
                    *(item.application, item.device, reason),
                )
        done = [number for number in ids if number in accepted or number in refused]
        if done:
            await self._spool.drop(done)
        self.sent += sum(number in accepted for number in ids)
        del self._received[: len(told)]
        await self._take(answer)
        if batch and not done:
            raise UplinkError("the server accepted none of the messages and said nothing against them")
        return bool(self._spool.messages or self._received)

    async def _post(
        self, session: aiohttp.ClientSession, batch: list[Kept], told: list[dict[str, str]]
    ) -> dict[str, Any]:
        body = {
            "version": VERSION,
            "gateway": self._gateway,
            "messages": [
                {
                    "id": item.id,
                    "application": item.application,
                    "device": item.device,
                    "envelope": base64.b64encode(item.envelope).decode(),
                }
                for item in batch
            ],
            "received": told,
        }
        async with session.post(self._config.url, json=body, allow_redirects=False) as response:
            if response.status != 200:
                raise UplinkError(f"the server answered {response.status} {(response.reason or '')[:80]}")
            data = await response.content.read(MAX_ANSWER_BYTES + 1)
            while len(data) <= MAX_ANSWER_BYTES and (part := await response.content.read(MAX_ANSWER_BYTES)):
                data += part
        if len(data) > MAX_ANSWER_BYTES:
            raise UplinkError(f"the server's answer is longer than {MAX_ANSWER_BYTES} bytes")
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UplinkError(f"the server's answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise UplinkError("the server's answer is not an object")
        return answer

    async def _take(self, answer: dict[str, Any]) -> None:
        """Deliver messages from the cloud; one for an application that is away is left for the server to send again."""
        rows = answer.get("messages", [])
        if not isinstance(rows, list):
            raise UplinkError("the server's answer: messages is not a list")
        for row in rows[:MAX_DOWN]:
            number, status = await self._take_one(row)
            self.down[status] = self.down.get(status, 0) + 1
            if status != "away" and number:
                self._received.append({"id": number, "status": status})

    async def _take_one(self, row: object) -> tuple[str, Received]:
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not 0 < len(row["id"]) <= MAX_ID:
            _log.error("a message from the cloud without an id is left out")
            return "", "rejected"
        application, device, text = row.get("application"), row.get("device"), row.get("envelope")
        if not isinstance(application, str) or not isinstance(device, str) or not isinstance(text, str):
            return row["id"], "rejected"
        try:
            envelope = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return row["id"], "rejected"
        return row["id"], await self._deliver(application, device, envelope)


def _numbers(answer: dict[str, Any], name: str) -> set[int]:
    values = answer.get(name, [])
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise UplinkError(f"the server's answer: {name} is not a list of numbers")
    return set(values)


def _refusals(answer: dict[str, Any]) -> dict[int, str]:
    values = answer.get("refused", [])
    if not isinstance(values, list):
        raise UplinkError("the server's answer: refused is not a list")
    found = {}
    for value in values:
        if not isinstance(value, dict) or type(value.get("id")) is not int:
            raise UplinkError("the server's answer: refused holds something else than {id, reason}")
        found[value["id"]] = str(value.get("reason", ""))[:200]
    return found
