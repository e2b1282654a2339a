"""Events about objects (``events.k8s.io/v1``): repeated ones become a series, and their number is bounded."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from wasmbed.kube.errors import ApiError
from wasmbed.kube.kind import EVENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.kube.client import Kube

logger = logging.getLogger(__name__)

NOTE_BYTES = 1024
SERIES_S = 360.0
SERIES_WRITE_S = 5.0
REMEMBERED = 1024
BURST, PER_S = 25.0, 0.2


@dataclass
class _Series:
    name: str
    namespace: str
    count: int
    began: float
    written: float


@dataclass
class _Bucket:
    tokens: float = BURST
    filled: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(BURST, self.tokens + (now - self.filled) * PER_S)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Recorder:
    """Writes events in the name of one component. An event that cannot be written is logged and dropped."""

    def __init__(self, kube: Kube, *, controller: str, instance: str) -> None:
        """`controller` is such as ``wasmbed.io/controller``, `instance` tells its processes apart."""
        self._kube = kube
        self._controller = controller
        self._instance = instance[:128]
        self._series: OrderedDict[tuple[str, str, str, str], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def event(
        self,
        regarding: Mapping[str, Any],
        type_: Literal["Normal", "Warning"],
        reason: str,
        note: str,
        *,
        identity: str = "",
    ) -> None:
        """Record that something happened to an object; what has an `identity` (hexadecimal) is recorded once.

        The same event within 6 minutes counts up the first, written at most every 5 s. An object gets 25 events at
        once and then one every 5 s; more are dropped.
        """
        metadata = regarding["metadata"]
        note = note.encode("utf-8", "replace")[:NOTE_BYTES].decode("utf-8", "ignore")
        subject = str(metadata.get("uid") or f"{metadata.get('namespace', '')}/{metadata['name']}")
        key = (subject, type_, reason, note)
        now = time.monotonic()
        series = self._series.get(key)
        try:
            if identity:
                if self._bucket(subject).take():
                    await self._create_once(self._body(regarding, type_, reason, note, identity))
                return
            if series is not None and now - series.began < SERIES_S:
                self._series.move_to_end(key)
                series.count += 1
                if now - series.written >= SERIES_WRITE_S or series.count == 2:
                    series.written = now
                    await self._count_up(series)
                return
            if not self._bucket(subject).take():
                logger.debug("event dropped reason=%s object=%s", reason, metadata["name"])
                return
            body = self._body(regarding, type_, reason, note)
            self._series[key] = _Series(body["metadata"]["name"], body["metadata"]["namespace"], 1, now, now)
            while len(self._series) > REMEMBERED:
                self._series.popitem(last=False)
            await self._kube.create(EVENT, body)
        except ApiError as error:
            self._series.pop(key, None)
            logger.warning("event not written reason=%s object=%s error=%s", reason, metadata["name"], error)

    def _bucket(self, identity: str) -> _Bucket:
        bucket = self._buckets.setdefault(identity, _Bucket())
        self._buckets.move_to_end(identity)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket

    async def _count_up(self, series: _Series) -> None:
        patch = {"series": {"count": series.count, "lastObservedTime": _now()}}
        await self._kube.merge_patch(EVENT, series.name, series.namespace, patch)

    async def _create_once(self, body: dict[str, Any]) -> None:
        try:
            await self._kube.create(EVENT, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def _body(
        self, regarding: Mapping[str, Any], type_: str, reason: str, note: str, identity: str = ""
    ) -> dict[str, Any]:
        metadata = regarding["metadata"]
        # Events about cluster-scoped objects are in the namespace default.
        namespace = metadata.get("namespace") or "default"
        reference = {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace"),
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{metadata['name'][:230]}.{identity or secrets.token_hex(8)}",
                "namespace": namespace,
            },
            "eventTime": _now(),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": reason,
            "reason": reason,
            "regarding": {name: value for name, value in reference.items() if value},
            "note": note,
            "type": type_,
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
