"""An informer: a local copy of a collection, kept up to date by a watch."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wasmbed.kube.errors import ApiError, ApiUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.kube.client import Kube
    from wasmbed.kube.kind import Kind

logger = logging.getLogger(__name__)

Key = tuple[str, str]
WATCH_S = (40, 50)
BACKOFF_S = (0.1, 5.0)


class Informer:
    """A copy of the objects of one kind: paged list, then watch with bookmarks.

    A watch that is lost goes on from the last resource version seen, so nothing is missed; only when that is too old
    (HTTP 410) or refused the collection is listed again and compared. Objects come without ``managedFields`` and must
    not be changed. The server ends a watch within 50 s and the next begins; one it does not end is lost 10 s later.
    """

    def __init__(
        self,
        kube: Kube,
        kind: Kind,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        on_change: Callable[[dict[str, Any] | None, dict[str, Any] | None], None],
    ) -> None:
        """Prepare an informer; `on_change` gets an object's old and new state, None for one that is not there."""
        self._kube = kube
        self._kind = kind
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._on_change = on_change
        self._items: dict[Key, dict[str, Any]] = {}
        self._resource_version = ""
        self._synced = asyncio.Event()
        self._live_since: float | None = None
        self._failures = 0
        self.relists = 0

    @property
    def kind(self) -> Kind:
        """The kind that is watched."""
        return self._kind

    @property
    def live_since(self) -> float | None:
        """Loop time since when the watch is healthy without a break; None while it is not."""
        return self._live_since

    async def wait_synced(self) -> None:
        """Wait until the collection was listed for the first time."""
        await self._synced.wait()

    def get(self, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The copy of one object, or None."""
        return self._items.get((namespace or "", name))

    def items(self) -> list[dict[str, Any]]:
        """The copies of all objects."""
        return list(self._items.values())

    async def run(self) -> None:
        """Keep the copy up to date until cancelled; errors of the API are waited out with back-off."""
        while True:
            try:
                if not self._resource_version:
                    await self._list()
                await self._watch()
            except ApiError as error:
                self._lost(error)
                await asyncio.sleep(self._backoff())

    def _lost(self, error: ApiError) -> None:
        if not isinstance(error, ApiUnreachableError):
            # Gone, or a version the server does not accept, such as after its store was restored.
            self._resource_version = ""
        if self._live_since is not None or not self._failures:
            level = logging.INFO if error.gone else logging.WARNING
            logger.log(level, "watch lost kind=%s reason=%s message=%s", self._kind.kind, error.reason, error.message)
        self._live_since = None
        self._failures += 1

    def _backoff(self) -> float:
        shortest, longest = BACKOFF_S
        return min(longest, shortest * 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311

    async def _list(self) -> None:
        items, version = await self._kube.list(
            self._kind, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        self.relists += 1
        listed = {_key(item): _strip(item) for item in items}
        for key in [key for key in self._items if key not in listed]:
            self._set(key, None)
        for key, item in listed.items():
            self._set(key, item)
        self._resource_version = version
        self._synced.set()

    async def _watch(self) -> None:
        seconds = random.randint(*WATCH_S)  # noqa: S311
        started = time.monotonic()
        events = self._kube.watch(
            self._kind,
            self._namespace,
            resource_version=self._resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_s=seconds,
        )
        async with aclosing(events):
            async for event in events:
                if event is None:
                    self._live()
                else:
                    self._event(event)
        if time.monotonic() - started < 1:
            raise ApiUnreachableError("the watch was ended at once")

    def _event(self, event: dict[str, Any]) -> None:
        item = event["object"]
        if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
            self._set(_key(item), None if event["type"] == "DELETED" else _strip(item))
        self._resource_version = _version(item) or self._resource_version

    def _live(self) -> None:
        if self._live_since is None:
            self._live_since = asyncio.get_running_loop().time()
            if self._failures:
                logger.info("watch is back kind=%s", self._kind.kind)
        self._failures = 0

    def _set(self, key: Key, item: dict[str, Any] | None) -> None:
        old = self._items.get(key)
        if item is None:
            if old is None:
                return
            del self._items[key]
        else:
            if old is not None and _version(old) == _version(item):
                return
            self._items[key] = item
        try:
            self._on_change(old, item)
        except Exception:
            logger.exception("handler failed kind=%s namespace=%s name=%s", self._kind.kind, *key)


def _key(item: dict[str, Any]) -> Key:
    metadata = item["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])


def _version(item: dict[str, Any]) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def _strip(item: dict[str, Any]) -> dict[str, Any]:
    item["metadata"].pop("managedFields", None)
    return item
