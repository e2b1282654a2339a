"""Leader election by a Lease (``coordination.k8s.io/v1``), so that one controller writes at a time.

``kubernetes.aio.leaderelection`` (37.0) is not used: a refused or reset connection ends its ``run`` by an exception
while the task that leads goes on; a request that hangs holds up its renewal beyond ``renew_deadline`` (the transport's
own limit is 5 minutes); a leading task that fails is not noticed while its Lease is renewed; it measures with the wall
clock; and it does not release the Lease at the end, so that every restart costs a lease time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wasmbed.kube import LEASE, ApiError, Kube

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds: how long a Lease holds, within which a leader must renew it, and between two attempts."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class LeaderElector:
    """One candidate. Another's Lease counts as expired when this process has not seen it change for its duration."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, timing: Timing | None = None) -> None:
        """Prepare a candidate for the Lease `namespace`/`name`; `identity` must differ between candidates."""
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing or Timing()
        self._seen = ("", 0.0)
        self._version = ""
        self._transitions = 0

    async def run(self, lead: Callable[[], Awaitable[None]], on_change: Callable[[bool], None]) -> None:
        """Wait to become leader, run `lead` while it lasts, and begin anew when it is lost; until cancelled.

        `lead` is cancelled, and waited for, before another candidate can take over. What it raises is raised.
        """
        while True:
            await self._acquire()
            logger.info("leading identity=%s", self._identity)
            on_change(True)
            leading = asyncio.ensure_future(lead())
            renewing = asyncio.ensure_future(self._renew())
            try:
                await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
                if leading.done():
                    leading.result()
                    raise RuntimeError("what the leader does must not end")
                if (failure := renewing.exception()) is not None:
                    raise failure
                logger.warning("leadership lost identity=%s", self._identity)
            finally:
                on_change(False)
                lost = renewing.done()
                for task in (leading, renewing):
                    task.cancel()
                await asyncio.gather(leading, renewing, return_exceptions=True)
                if not lost:
                    await self._release()

    async def _acquire(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._timing.renew_deadline_s):
                    if await self._try_acquire():
                        return
            except (ApiError, TimeoutError) as error:
                logger.warning("cannot become leader lease=%s/%s error=%s", self._namespace, self._name, error)
            await asyncio.sleep(self._timing.retry_s)

    async def _try_acquire(self) -> bool:
        lease = await self._kube.get(LEASE, self._name, self._namespace)
        now = asyncio.get_running_loop().time()
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            spec = self._spec() | {"acquireTime": _now(), "leaseTransitions": 0}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
            created = await self._kube.create(LEASE, body)
            self._version = created["metadata"]["resourceVersion"]
            return True
        spec, version = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, now)
        holder = spec.get("holderIdentity") or ""
        duration = float(spec.get("leaseDurationSeconds") or self._timing.lease_s)
        if holder not in {"", self._identity} and now - self._seen[1] < duration:
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        await self._write(version, self._spec() | {"acquireTime": _now(), "leaseTransitions": transitions})
        return True

    async def _renew(self) -> None:
        """Renew until that has failed for the deadline, or another holds the Lease."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(self._timing.retry_s)
            try:
                async with asyncio.timeout_at(renewed + self._timing.renew_deadline_s):
                    started = loop.time()
                    if await self._write_held(self._spec()):
                        renewed = started
                        continue
                    return
            except ApiError as error:
                logger.warning("lease not renewed lease=%s/%s error=%s", self._namespace, self._name, error)
            except TimeoutError:
                logger.warning("lease not renewed in time lease=%s/%s", self._namespace, self._name)
            if loop.time() >= renewed + self._timing.renew_deadline_s:
                return

    async def _write_held(self, spec: dict[str, Any]) -> bool:
        """Write the Lease that this candidate holds; False when another one holds it."""
        try:
            await self._write(self._version, spec)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
            # Written by someone else, or by a request of ours whose answer was lost.
            lease = await self._kube.get(LEASE, self._name, self._namespace)
            if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self._identity:
                return False
            await self._write(lease["metadata"]["resourceVersion"], spec)
        return True

    async def _release(self) -> None:
        """Let another candidate take over at once. A renewal that was cancelled under way may have been written."""
        patch = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(2):
                await self._write_held(patch)

    async def _write(self, version: str, spec: dict[str, Any]) -> None:
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        written = await self._kube.merge_patch(LEASE, self._name, self._namespace, patch)
        self._version = written["metadata"]["resourceVersion"]

    def _spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease_s)),
            "renewTime": _now(),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
