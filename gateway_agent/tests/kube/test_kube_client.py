"""The client against the real API server."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest
from wasmbed.api import EDGE_DEVICE, GATEWAY, PLACEMENT
from wasmbed.kube import EVENT, NAMESPACE, SECRET, ApiError, ApiUnreachableError, Kube, Recorder
from wasmbed.kube import client as client_module

from tests.support.processes import free_ports
from tests.support.proxy import proxy_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.cluster import Cluster


@pytest.fixture
async def kube(cluster: Cluster) -> AsyncIterator[Kube]:
    async with Kube.from_kubeconfig(cluster.kubeconfig, user_agent="test") as kube:
        yield kube


@pytest.fixture
async def namespace(kube: Kube) -> str:
    name = f"kube-{secrets.token_hex(4)}"
    await kube.create(NAMESPACE, {"metadata": {"name": name}})
    return name


def device(name: str, namespace: str, device_type: str = "drone") -> dict[str, object]:
    return {
        "apiVersion": "wasmbed.io/v1",
        "kind": "EdgeDevice",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"deviceType": device_type},
    }


def test_paths_of_kinds() -> None:
    assert SECRET.path("ns", "s") == "/api/v1/namespaces/ns/secrets/s"
    assert EDGE_DEVICE.path() == "/apis/wasmbed.io/v1/edgedevices"
    assert PLACEMENT.path("ns", "p", "status") == "/apis/wasmbed.io/v1/namespaces/ns/placements/p/status"
    assert GATEWAY.path(None, "g/../x") == "/apis/wasmbed.io/v1/gateways/g%2F..%2Fx"
    with pytest.raises(ValueError, match="needs a namespace"):
        PLACEMENT.path(None, "p")


async def test_life_of_an_object(kube: Kube, namespace: str) -> None:
    assert await kube.get(EDGE_DEVICE, "d", namespace) is None
    created = await kube.create(EDGE_DEVICE, device("d", namespace))
    applied = await kube.apply(EDGE_DEVICE, device("d", namespace, "rover"), manager="test")
    assert applied["spec"]["deviceType"] == "rover"
    status = {"metadata": {"name": "d", "namespace": namespace}, "status": {"phase": "Pending"}}
    assert (await kube.apply_status(EDGE_DEVICE, status, manager="test"))["status"] == {"phase": "Pending"}
    patched = await kube.merge_patch(EDGE_DEVICE, "d", namespace, {"metadata": {"labels": {"a": "b"}}})
    assert patched["metadata"]["labels"] == {"a": "b"}
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "spec": {"deviceType": "x"}}
    with pytest.raises(ApiError) as refused:
        await kube.merge_patch(EDGE_DEVICE, "d", namespace, stale)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    assert not await kube.delete(EDGE_DEVICE, "d", namespace, uid="00000000-0000-0000-0000-000000000000")
    assert await kube.delete(EDGE_DEVICE, "d", namespace, uid=created["metadata"]["uid"])
    assert not await kube.delete(EDGE_DEVICE, "d", namespace)


async def test_refusal_carries_the_server_s_words(kube: Kube, namespace: str) -> None:
    with pytest.raises(ApiError) as refused:
        await kube.create(EDGE_DEVICE, {**device("d", namespace), "spec": {}})
    assert refused.value.status == 422
    assert "spec.deviceType" in refused.value.message


async def test_list_reads_all_pages(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE_OBJECTS", 3)
    await asyncio.gather(*(kube.create(EDGE_DEVICE, device(f"d{number}", namespace)) for number in range(8)))
    items, version = await kube.list(EDGE_DEVICE, namespace)
    assert sorted(item["metadata"]["name"] for item in items) == [f"d{number}" for number in range(8)]
    assert int(version) > 0
    items, _ = await kube.list(EDGE_DEVICE, namespace, field_selector="metadata.name=d3")
    assert [item["metadata"]["name"] for item in items] == ["d3"]
    await asyncio.gather(*(kube.delete(EDGE_DEVICE, f"d{number}", namespace) for number in range(8)))


async def test_answer_above_the_limit_is_refused(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RESPONSE_BYTES", 100)
    with pytest.raises(ApiError) as refused:
        await kube.get(NAMESPACE, namespace)
    assert refused.value.reason == "TooLarge"


async def test_silent_server_is_unreachable_in_time(cluster: Cluster) -> None:
    async with proxy_to(cluster.port) as proxy:
        proxy.silent = True
        kubeconfig = cluster.user("silent", url=f"https://127.0.0.1:{proxy.port}")
        async with Kube.from_kubeconfig(kubeconfig, user_agent="test", timeout_s=0.3) as kube:
            with pytest.raises(ApiUnreachableError, match=r"no answer|cannot be reached"):
                await kube.get(NAMESPACE, "default")


async def test_refused_connection_is_unreachable(cluster: Cluster) -> None:
    (port,) = free_ports(1)
    kubeconfig = cluster.user("refused", url=f"https://127.0.0.1:{port}")
    async with Kube.from_kubeconfig(kubeconfig, user_agent="test") as kube:
        with pytest.raises(ApiUnreachableError, match="cannot be reached") as failed:
            await kube.get(NAMESPACE, "default")
        assert failed.value.status == 0


async def test_server_of_another_authority_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    from tests.support.pki import Authority  # noqa: PLC0415 - only here

    other = Authority(tmp_path, "other")
    text = cluster.kubeconfig.read_text().replace(str(cluster.authority.ca_file), str(other.ca_file))
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    async with Kube.from_kubeconfig(path, user_agent="test") as kube:
        with pytest.raises(ApiUnreachableError, match="certificate"):
            await kube.get(NAMESPACE, "default")


async def test_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    with pytest.raises(ApiError, match=str(path)):
        async with Kube.from_kubeconfig(path, user_agent="test"):
            pass
    path.write_text("{")
    with pytest.raises(ApiError, match=str(path)):
        async with Kube.from_kubeconfig(path, user_agent="test"):
            pass


async def test_repeated_event_becomes_a_series(kube: Kube, namespace: str) -> None:
    regarding = await kube.create(EDGE_DEVICE, device("d", namespace))
    recorder = Recorder(kube, controller="wasmbed.io/test", instance="test")
    for _ in range(5):
        await recorder.event(regarding, "Warning", "NoGateway", "there is none")
    await recorder.event(regarding, "Normal", "Connected", "it is there")
    events = {item["reason"]: item for item in (await kube.list(EVENT, namespace))[0]}
    assert set(events) == {"NoGateway", "Connected"}
    assert events["NoGateway"]["series"]["count"] == 2
    assert events["NoGateway"]["regarding"]["uid"] == regarding["metadata"]["uid"]
    await kube.delete(EDGE_DEVICE, "d", namespace)


async def test_events_of_one_object_are_bounded(kube: Kube, namespace: str) -> None:
    regarding = await kube.create(EDGE_DEVICE, device("d", namespace))
    recorder = Recorder(kube, controller="wasmbed.io/test", instance="test")
    for number in range(40):
        await recorder.event(regarding, "Normal", "Changed", f"number {number}")
    assert len((await kube.list(EVENT, namespace))[0]) == 25
    await kube.delete(EDGE_DEVICE, "d", namespace)


async def test_event_that_cannot_be_written_does_not_fail_its_writer(kube: Kube) -> None:
    recorder = Recorder(kube, controller="wasmbed.io/test", instance="test")
    await recorder.event(device("d", "no-such-namespace"), "Normal", "Changed", "x" * 5000)
