"""What is wanted of the device, on disk before it is done: instances with their requests, and sealing keys."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import cbor2

from wasmbed.device.store import SecretRow, WantedRow
from wasmbed.runtime import ProtocolError, Secret, StartRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wasmbed.device.store import Store

_log = logging.getLogger(__name__)

# Numbers that the runtime may use for sealing before it is given others.
SEQUENCE_BLOCK: Final = 1000


class Wanted:
    """The instances by name, each with the gateway's key of its content, and the sealing keys by application."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, WantedRow] = {}
        self._requests: dict[str, StartRequest] = {}
        self._secrets: dict[tuple[str, str], SecretRow] = {}
        # The gateway's name of a content by the runtime's, for as long as either may speak of it.
        self._keys: dict[str, str] = {}

    async def open(self) -> None:
        """Take up what is on disk."""
        for row in await self._store.wanted():
            try:
                self._remember(row)
            except ProtocolError as error:
                _log.error("a saved instance cannot be read and is forgotten instance=%s error=%s", row.instance, error)
                await self._store.drop_wanted(row.instance)
        self._secrets = {(row.application, row.device): row for row in await self._store.secrets()}

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def request(self, name: str) -> StartRequest | None:
        """What is to run under a name."""
        return self._requests.get(name)

    def key(self, name: str) -> str:
        """The gateway's key of what is to run under a name, empty when nothing is."""
        row = self._rows.get(name)
        return "" if row is None else row.key

    def gateway_key(self, key: str) -> str:
        """The gateway's key of a content by the runtime's, or the same where there is none."""
        return self._keys.get(key, key)

    def digests(self) -> set[str]:
        """The modules that are needed, those to which an update may still be rolled back among them."""
        digests = {request.digest for request in self._requests.values()}
        for row in self._rows.values():
            if row.before is not None:
                digests.add(_request(cbor2.loads(row.before)[1]).digest)
        return digests

    async def put(self, request: StartRequest, key: str) -> WantedRow | None:
        """Want a request; returns what was wanted under its name before, to be put back by `restore`."""
        before = self._rows.get(request.instance)
        previous = None if before is None else cbor2.dumps([before.key, before.request])
        row = WantedRow(request.instance, key, cbor2.dumps(request.to_wire()), previous)
        await self._store.save_wanted(row)
        self._remember(row)
        return before

    async def restore(self, name: str, before: WantedRow | None) -> None:
        """Want what was wanted before."""
        if before is None:
            await self.drop(name)
        else:
            await self._store.save_wanted(before)
            self._remember(before)

    async def roll_back(self, name: str, failed: str) -> StartRequest | None:
        """The content `failed` (the runtime's key) was left for the one before: return that, None if unknown."""
        row, request = self._rows.get(name), self._requests.get(name)
        if row is None or request is None or row.before is None or request.key() != failed:
            return None
        key, content = cbor2.loads(row.before)
        await self.restore(name, WantedRow(name, key, content))
        return self._requests[name]

    async def drop(self, name: str) -> None:
        """Want an instance no longer; the last one of an application takes its key with it."""
        await self._store.drop_wanted(name)
        row, request = self._rows.pop(name, None), self._requests.pop(name, None)
        if row is None or request is None:
            return
        in_use = {item.key() for item in self._requests.values()}
        self._keys = {ours: theirs for ours, theirs in self._keys.items() if ours in in_use}
        place = (request.application, request.device)
        others = any((item.application, item.device) == place for item in self._requests.values())
        if not others and self._secrets.pop(place, None) is not None:
            await self._store.drop_secret(*place)

    @property
    def secrets(self) -> list[Secret]:
        """The sealing keys, with the next numbers that nobody has used."""
        return [Secret(row.application, row.device, row.key, row.next) for row in self._secrets.values()]

    async def use_secret(self, secret: Secret) -> Secret:
        """The key with a block of numbers that nobody has used and that the disk knows as used when this returns."""
        place = (secret.application, secret.device)
        before = self._secrets.get(place)
        first = max(secret.sequence, before.next if before is not None else 0)
        row = SecretRow(*place, secret.key, first + SEQUENCE_BLOCK)
        await self._store.save_secret(row)
        self._secrets[place] = row
        return replace(secret, sequence=first)

    def _remember(self, row: WantedRow) -> None:
        request = _request(row.request)
        self._rows[row.instance], self._requests[row.instance] = row, request
        self._keys[request.key()] = row.key


def _request(content: bytes) -> StartRequest:
    try:
        return StartRequest.from_wire(cbor2.loads(content))
    except ProtocolError:
        raise
    except Exception as error:  # whatever a damaged row makes the decoder say
        raise ProtocolError(f"not a request: {error}") from error
