"""The informer against the real API server, through losses of the network, the server and the history."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from wasmbed.api import EDGE_DEVICE
from wasmbed.kube import NAMESPACE, Informer, Kube
from wasmbed.kube import informer as informer_module

from tests.support.proxy import Proxy, proxy_to
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster import Cluster


class Seen:
    """An informer of one namespace behind a proxy, and what it said."""

    def __init__(self, cluster: Cluster, kube: Kube, proxied: Kube, proxy: Proxy) -> None:
        self.cluster = cluster
        self.kube = kube
        self.proxy = proxy
        self.namespace = f"informer-{secrets.token_hex(4)}"
        self.changes: list[tuple[str, str]] = []
        self.informer = Informer(proxied, EDGE_DEVICE, namespace=self.namespace, on_change=self._changed)

    def _changed(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        item = new or old or {}
        verb = "added" if old is None else "deleted" if new is None else "changed"
        self.changes.append((verb, item["metadata"]["name"]))
        assert "managedFields" not in item["metadata"]

    async def create(self, *names: str) -> None:
        for name in names:
            metadata = {"name": name, "namespace": self.namespace}
            body = {"apiVersion": "wasmbed.io/v1", "kind": "EdgeDevice", "metadata": metadata}
            await self.kube.create(EDGE_DEVICE, {**body, "spec": {"deviceType": "drone"}})

    async def delete(self, *names: str) -> None:
        for name in names:
            await self.kube.delete(EDGE_DEVICE, name, self.namespace)

    def names(self) -> set[str]:
        return {item["metadata"]["name"] for item in self.informer.items()}

    async def knows(self, *names: str) -> None:
        async def check() -> bool:
            return self.names() == set(names)

        await eventually(check, f"the informer knows {names}", timeout_s=60)

    async def live(self, *, after: float | None = -1) -> float:
        """Wait for a healthy watch that began after a time."""

        async def check() -> float | None:
            since = self.informer.live_since
            return since if since is not None and since > (after or 0) else None

        return await eventually(check, "the watch is healthy", timeout_s=60) or 0.0

    async def lost(self) -> None:
        async def check() -> bool:
            return self.informer.live_since is None

        await eventually(check, "the loss is noticed")


@pytest.fixture
async def seen(cluster: Cluster) -> AsyncIterator[Seen]:
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_to(cluster.port))
        kube = await stack.enter_async_context(Kube.from_kubeconfig(cluster.kubeconfig, user_agent="test"))
        kubeconfig = cluster.user("informer", "system:masters", url=f"https://127.0.0.1:{proxy.port}")
        proxied = await stack.enter_async_context(Kube.from_kubeconfig(kubeconfig, user_agent="test"))
        seen = Seen(cluster, kube, proxied, proxy)
        await kube.create(NAMESPACE, {"metadata": {"name": seen.namespace}})
        await seen.create("before")
        task = asyncio.ensure_future(seen.informer.run())
        try:
            await asyncio.wait_for(seen.informer.wait_synced(), 60)
            await seen.live()
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await seen.delete(*(item["metadata"]["name"] for item in (await kube.list(EDGE_DEVICE, seen.namespace))[0]))


async def test_changes_arrive_as_they_happen(seen: Seen) -> None:
    assert seen.changes == [("added", "before")]
    await seen.create("one")
    await seen.knows("before", "one")
    await seen.kube.merge_patch(EDGE_DEVICE, "one", seen.namespace, {"metadata": {"labels": {"a": "b"}}})
    await seen.delete("before")
    await seen.knows("one")
    assert seen.changes[1:] == [("added", "one"), ("changed", "one"), ("deleted", "before")]
    found = seen.informer.get("one", seen.namespace)
    assert found is not None
    assert found["metadata"]["labels"] == {"a": "b"}
    assert seen.informer.relists == 1


async def test_lost_connections_are_taken_up_without_a_list(seen: Seen) -> None:
    since = await seen.live()
    seen.proxy.drop()
    await seen.create("one")
    await seen.delete("before")
    await seen.knows("one")
    assert await seen.live(after=since) > since
    assert seen.informer.relists == 1
    assert seen.changes[1:] == [("added", "one"), ("deleted", "before")]


async def test_outage_of_the_network_is_noticed_and_made_good(seen: Seen) -> None:
    since = await seen.live()
    await seen.proxy.cut()
    await seen.lost()
    await seen.create("one")
    await seen.delete("before")
    await seen.proxy.open()
    await seen.knows("one")
    await seen.live(after=since)
    assert seen.informer.relists == 1


async def test_restart_of_the_api_server_is_survived(seen: Seen) -> None:
    seen.cluster.stop_apiserver()
    await seen.lost()
    await asyncio.to_thread(seen.cluster.start_apiserver)
    await seen.create("one")
    await seen.delete("before")
    await seen.knows("one")
    await seen.live()
    assert ("deleted", "before") in seen.changes


async def test_history_that_is_gone_leads_to_a_list_and_the_same_changes(seen: Seen) -> None:
    await seen.proxy.cut()
    await seen.lost()
    await seen.create("one", "two")
    await seen.delete("before", "two")
    # Neither etcd nor the watch cache of a new process has the versions the informer saw.
    seen.cluster.compact()
    seen.cluster.stop_apiserver()
    await asyncio.to_thread(seen.cluster.start_apiserver)
    await seen.proxy.open()
    await seen.knows("one")
    assert seen.informer.relists == 2
    assert sorted(seen.changes[1:]) == [("added", "one"), ("deleted", "before")]


async def test_watch_that_the_server_ends_stays_healthy(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "WATCH_S", (1, 1))
    seen.proxy.drop()
    await seen.create("one")
    await seen.knows("before", "one")
    since = await seen.live(after=None)
    deadline = asyncio.get_running_loop().time() + 2.5

    async def ended_twice() -> bool:
        assert seen.informer.live_since == since
        return asyncio.get_running_loop().time() > deadline

    await eventually(ended_twice)
    await seen.create("two")
    await seen.knows("before", "one", "two")
    assert seen.informer.live_since == since
    assert seen.informer.relists == 1


async def test_failing_handler_does_not_stop_the_informer(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_old: object, _new: object) -> None:
        raise RuntimeError("handler")

    seen.informer._on_change = fail
    await seen.create("one")
    await seen.knows("before", "one")
    assert "handler failed" in caplog.text
