"""Leader election on the real API server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from wasmbed.controller.election import LeaderElector, Timing
from wasmbed.kube import LEASE, Kube

from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import busy, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster import Cluster

TIMING = Timing(lease_s=5.0, renew_deadline_s=3.5, retry_s=0.1)
NAMESPACE = "default"


class Candidate:
    """An elector behind a proxy of its own."""

    def __init__(self, kube: Kube, proxy: Proxy, lease: str, identity: str) -> None:
        self.proxy = proxy
        self.identity = identity
        self.leading = False
        self.history: list[bool] = []
        self.failure: Exception | None = None
        self._elector = LeaderElector(kube, NAMESPACE, lease, identity, TIMING)
        self.task = asyncio.ensure_future(self._elector.run(self._lead, self.history.append))

    async def _lead(self) -> None:
        self.leading = True
        try:
            while True:
                if self.failure is not None:
                    raise self.failure
                await asyncio.sleep(0.01)
        finally:
            self.leading = False

    async def leads(self, expected: bool = True) -> None:
        async def check() -> bool:
            return self.leading is expected

        await eventually(check, f"{self.identity} leads: {expected}")

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Candidates:
    """Makes candidates for one Lease."""

    def __init__(self, cluster: Cluster, kube: Kube, stack: contextlib.AsyncExitStack) -> None:
        self.kube = kube
        self.lease = f"lease-{secrets.token_hex(4)}"
        self._cluster = cluster
        self._stack = stack

    async def add(self, identity: str) -> Candidate:
        proxy = await self._stack.enter_async_context(proxy_to(self._cluster.port))
        kubeconfig = self._cluster.user(identity, "system:masters", url=f"https://127.0.0.1:{proxy.port}")
        kube = await self._stack.enter_async_context(Kube.from_kubeconfig(kubeconfig, user_agent="test"))
        candidate = Candidate(kube, proxy, self.lease, identity)
        self._stack.push_async_callback(candidate.stop)
        return candidate

    async def spec(self) -> dict[str, Any]:
        found = await self.kube.get(LEASE, self.lease, NAMESPACE)
        assert found is not None
        return dict(found["spec"])


@pytest.fixture
async def candidates(cluster: Cluster) -> AsyncIterator[Candidates]:
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube.from_kubeconfig(cluster.kubeconfig, user_agent="test"))
        candidates = Candidates(cluster, kube, stack)
        yield candidates
        await stack.aclose()
    async with Kube.from_kubeconfig(cluster.kubeconfig, user_agent="test") as kube:
        await kube.delete(LEASE, candidates.lease, NAMESPACE)


async def test_lease_is_released_when_a_renewal_was_written_and_its_answer_lost(candidates: Candidates) -> None:
    """A stop in the middle of a renewal left the Lease to run out: its release was refused as a conflict."""
    first = await candidates.add("first")
    await first.leads()
    await candidates.kube.merge_patch(LEASE, candidates.lease, NAMESPACE, {"metadata": {"annotations": {"a": "b"}}})
    await first.stop()
    assert (await candidates.spec())["holderIdentity"] == ""


async def test_one_leads_and_the_next_takes_over_at_once_when_it_stops(candidates: Candidates) -> None:
    first = await candidates.add("first")
    await first.leads()
    second = await candidates.add("second")
    for _ in range(5):
        await asyncio.sleep(TIMING.retry_s)
        assert first.leading
        assert not second.leading
    stopped = asyncio.get_running_loop().time()
    await first.stop()
    await second.leads()
    assert asyncio.get_running_loop().time() - stopped < TIMING.lease_s * busy()
    spec = await candidates.spec()
    assert spec["holderIdentity"] == "second"
    assert spec["leaseTransitions"] == 1
    assert first.history == [True, False]


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_leader_without_network_stops_before_another_leads(candidates: Candidates, how: str) -> None:
    first = await candidates.add("first")
    await first.leads()
    second = await candidates.add("second")
    if how == "cut":
        await first.proxy.cut()
    else:
        first.proxy.silent = True
    overlap = False

    async def taken_over() -> bool:
        nonlocal overlap
        overlap |= first.leading and second.leading
        return second.leading

    await eventually(taken_over, "the second leads")
    assert not overlap
    first.proxy.silent = False
    if how == "cut":
        await first.proxy.open()
    await second.stop()
    await first.leads()
    assert first.history == [True, False, True]


async def test_lost_answer_of_a_renewal_does_not_lose_the_lease(candidates: Candidates) -> None:
    first = await candidates.add("first")
    await first.leads()
    # As if a renewal of ours had been stored and its answer lost.
    await candidates.kube.merge_patch(LEASE, candidates.lease, NAMESPACE, {"spec": {"leaseTransitions": 7}})
    before = (await candidates.spec())["renewTime"]

    async def renewed() -> bool:
        return bool((await candidates.spec())["renewTime"] > before)

    await eventually(renewed, "the lease is renewed")
    assert first.history == [True]


async def test_failure_of_what_the_leader_does_ends_it_and_frees_the_lease(candidates: Candidates) -> None:
    first = await candidates.add("first")
    await first.leads()
    first.failure = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(first.task, 60)
    assert (await candidates.spec())["holderIdentity"] == ""
