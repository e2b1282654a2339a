"""The life of applications on the real control plane, with a gateway that answers by plain API writes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from wasmbed.api import DEVICE_SLICE, EDGE_DEVICE, LABEL_APPLICATION_UID, PLACEMENT, WASM_APPLICATION, timestamp
from wasmbed.kube import EVENT, ApiError

from tests.support.proxy import proxy_to
from tests.support.waiting import eventually


async def test_application_reaches_running_updates_scales_and_leaves_nothing(world: Any, run: Any) -> None:
    old, new = world.image("app-old"), world.image("app-new")
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1", capabilities=["px4", "camera"])
        await world.device("drone-2", labels={"model": "b"})
        await world.device_in("drone-1", "Connected")
        await world.application("app", old, env=[{"name": "A", "value": "1"}])
        found = await world.application_in("app", "Running", running=1)
        status = found["status"]
        assert status["resolvedImage"] == old
        assert status["resolvedDigest"] == world.images[old]
        assert status["counts"] == {"selected": 1, "running": 1, "failed": 0, "pending": 0}
        assert status["devices"] == [{"name": "drone-1", "gateway": world.gateway.name, "state": "Running"}]
        assert {item["type"]: item["status"] for item in status["conditions"]} == {
            "ImageResolved": "True",
            "Ready": "True",
        }
        (placement,) = await world.gateway.placements()
        assert placement["spec"]["digest"] == world.images[old]
        assert placement["spec"]["grants"] == ["wasmbed:secure", "wasmbed:sensor", "wasmbed:sys"]
        assert placement["spec"]["devices"][0]["capabilities"] == ["camera", "px4"]

        await world.application("app", new)
        found = await world.application_in("app", "Running", running=1)
        assert found["status"]["resolvedDigest"] == world.images[new]
        (updated,) = await world.gateway.placements()
        assert updated["metadata"]["uid"] == placement["metadata"]["uid"]
        assert updated["spec"]["digest"] == world.images[new]

        await world.device("drone-2", labels={"model": "a"})
        await world.application_in("app", "Running", running=2)
        await world.device("drone-1", labels={"model": "c"})
        found = await world.application_in("app", "Running", running=1)
        assert [device["name"] for device in found["status"]["devices"]] == ["drone-2"]
        await world.device("drone-2", labels={"model": "c"})
        await world.application_in("app", "Pending", "NoMatchingDevice")
        assert await world.gateway.placements() == []
        await world.device("drone-2", labels={"model": "a"})
        await world.application_in("app", "Running", running=1)

        await world.kube.delete(WASM_APPLICATION, "app", world.namespace)

        async def gone() -> bool:
            return await world.kube.get(WASM_APPLICATION, "app", world.namespace) is None

        await eventually(gone, "the application is gone")
        assert await world.gateway.placements() == []
    assert world.resolved == [old, new]
    events = await world.events("app")
    assert ("Normal", "Running") in events
    assert ("Warning", "NoMatchingDevice") in events


async def test_first_published_manifests_unchanged_give_no_matching_device(world: Any, run: Any) -> None:
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-alpha-001", labels={})
        await world.application("monitoring", world.image("monitoring"))
        await world.application_in("monitoring", "Pending", "NoMatchingDevice")
        await world.device("drone-alpha-001", labels={"model": "a"})
        await world.application_in("monitoring", "Running", running=1)


async def test_apply_to_running_takes_well_below_a_second(world: Any, run: Any) -> None:
    image = world.image("fast")
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.device_in("drone-1", "Connected")
        durations = []
        for number in range(5):
            started = time.perf_counter()
            await world.application(f"fast-{number}", image)
            await world.application_in(f"fast-{number}", "Running", running=1)
            durations.append(time.perf_counter() - started)
        print(f"apply to Running, ms: {[round(seconds * 1000) for seconds in durations]}")
        assert sorted(durations)[2] < 0.5


async def test_unknown_image_fails_while_a_neighbour_runs_on(world: Any, run: Any) -> None:
    good = world.image("good")
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.application("good", good)
        neighbour = await world.application_in("good", "Running", running=1)
        await world.application("bad", "registry.example/missing:v1")
        bad = await world.application_in("bad", "Failed", "ImagePullFailed")
        assert "does not exist; push it" in bad["status"]["message"]
        assert bad["status"]["conditions"][0]["status"] == "False"
        again = await world.get(WASM_APPLICATION, "good")
        assert again["metadata"]["resourceVersion"] == neighbour["metadata"]["resourceVersion"]

        world.images["registry.example/missing:v1"] = "sha256:" + "1" * 64
        await world.application_in("bad", "Running", running=1)
        assert world.resolved.count(good) == 1


async def test_registries_that_let_one_wait_hold_up_no_neighbour(world: Any, run: Any) -> None:
    """As many as there were workers held up everything; any user can name such a registry."""
    resolve, waiting = world.resolve, asyncio.Event()

    async def slow(reference: str) -> str:
        if "tarpit" in reference:
            await waiting.wait()
        return str(await resolve(reference))

    world.resolve = slow
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone")
        good = world.image("good")
        await world.application("neighbour", good)
        await world.application_in("neighbour", "Running", running=1)
        for number in range(20):
            await world.application(f"stuck{number}", f"tarpit.example/app{number}:v1")
        await world.application_in("stuck19", "Deploying", running=0)
        await world.device("second")
        await world.application_in("neighbour", "Running", running=2)
        waiting.set()
        await world.application_in("stuck0", "Failed", "ImagePullFailed")


async def test_update_to_an_unknown_image_leaves_the_old_one_running(world: Any, run: Any) -> None:
    good = world.image("good")
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.device("drone-2")
        await world.application("app", good)
        await world.application_in("app", "Running", running=2)
        await world.application("app", "registry.example/missing:v2")
        found = await world.application_in("app", "Failed", "ImagePullFailed", running=0)
        assert "stays where it runs" in found["status"]["message"]
        (placement,) = await world.gateway.placements()
        assert placement["spec"]["digest"] == world.images[good]
        await world.device("drone-2", labels={})

        async def shrunk() -> bool:
            (left,) = await world.gateway.placements()
            return [device["name"] for device in left["spec"]["devices"]] == ["drone-1"]

        await eventually(shrunk, "the device that is not selected any more is gone from the placement")
        await world.application("app", good)
        await world.application_in("app", "Running", running=1)


async def test_failing_module_is_reported_with_its_reason(world: Any, run: Any) -> None:
    bad, good = world.image("bad"), world.image("good")
    world.gateway.failing[world.images[bad]] = ("InvalidModule", "unknown import env.f")
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.application("bad", bad)
        await world.application("good", good)
        found = await world.application_in("bad", "Failed", "InvalidModule")
        assert found["status"]["message"] == "failed on 1 of 1 device; drone-1: unknown import env.f"
        assert found["status"]["counts"]["failed"] == 1
        await world.application_in("good", "Running", running=1)
        await world.told("bad", ("Warning", "InvalidModule"))


async def test_an_image_that_runs_without_a_good_signature_is_an_event_told_once(world: Any, run: Any) -> None:
    image = world.image("bare")
    world.gateway.warnings[world.images[image]] = "warning: bare:v1: it has no signature; sign it"
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.device("drone-2")
        await world.application("bare", image)
        await world.application_in("bare", "Running", running=2)

        async def told() -> list[tuple[str, str]]:
            items, _ = await world.kube.list(EVENT, world.namespace)
            return [(item["type"], item["note"]) for item in items if item["reason"] == "SignatureNotVerified"]

        found = await eventually(told, "the event")
    assert found == await told() == [("Warning", "bare:v1: it has no signature; sign it")]


async def test_expired_lease_marks_devices_unreachable_and_renewal_brings_them_back(world: Any, run: Any) -> None:
    world.gateway.lease_s = 1
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.application("app", world.image("app"))
        await world.application_in("app", "Running", running=1)
        await world.device_in("drone-1", "Connected")
        world.gateway.renewing = False
        await world.device_in("drone-1", "Unreachable", "GatewayUnreachable")
        found = await world.application_in("app", "Failed", "GatewayUnreachable")
        assert found["status"]["devices"][0]["state"] == "Failed"
        world.gateway.renewing = True
        await world.device_in("drone-1", "Connected")
        await world.application_in("app", "Running", running=1)


async def test_vehicle_suspension_and_incidents_of_a_device(world: Any, run: Any) -> None:
    vehicle = {"armed": True, "inAir": True, "mode": "offboard", "battery": 80, "fix": "3D"}
    incident = {"time": timestamp(), "reason": "OwnerLost", "message": "it trapped; hold", "application": ""}
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1", px4={"systemId": 7}, capabilities=["px4"])
        await world.application("app", world.image("app"), allowInFlight=True, communication={"px4": {"enabled": True}})
        await world.application_in("app", "Running", running=1)
        (placement,) = await world.gateway.placements()
        assert placement["spec"]["px4"] == {"rights": ["command", "mission", "offboard"]}
        assert placement["spec"]["allowInFlight"] is True
        incident["application"] = f"{world.namespace}/app"
        world.gateway.tell("drone-1", vehicle=vehicle, incidents=[incident])

        async def shown() -> Any:
            return (await world.get(EDGE_DEVICE, "drone-1"))["status"].get("vehicle") == vehicle

        await eventually(shown, "the vehicle is shown")
        for name in ("drone-1", "app"):
            await world.told(name, ("Warning", "OwnerLost"))
        await world.device("drone-1", px4={"systemId": 7}, capabilities=["px4"], suspend=True)
        await world.device_in("drone-1", "Connected", "Suspended")
        slices, _ = await world.kube.list(DEVICE_SLICE, world.gateway.namespace)
        (entry,) = slices[0]["spec"]["devices"]
        assert (entry["suspended"], entry["systemId"]) == (True, 7)
        await world.device("drone-1", px4={"systemId": 7}, capabilities=["px4"], suspend=False)
        await world.device_in("drone-1", "Connected")
        await world.told("drone-1", ("Warning", "Suspended"), ("Normal", "Resumed"))
    async with world.controller() as controller, run(world.gateway.run()):
        await world.device_in("drone-1", "Connected")
        await controller.wait_idle()
        assert (await world.events("drone-1")).count(("Warning", "OwnerLost")) == 1, "told by the one before already"


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_outage_of_the_api_is_not_the_loss_of_a_gateway(world: Any, run: Any, how: str) -> None:
    world.gateway.lease_s = 1
    loop = asyncio.get_running_loop()
    async with proxy_to(world.cluster.port) as proxy, run(world.gateway.run()), world.controller(port=proxy.port):
        await world.device("drone-1")
        await world.application("app", world.image("app"))
        device = await world.device_in("drone-1", "Connected")
        application = await world.application_in("app", "Running", running=1)
        over = loop.time() + 3 * world.gateway.lease_s
        if how == "cut":
            await proxy.cut()
        else:
            proxy.silent = True
        await eventually(lambda: _passed(over), "the outage is longer than a lease")
        if how == "cut":
            await proxy.open()
        else:
            proxy.silent = False
            proxy.drop()
        await world.device("drone-2")
        await world.application_in("app", "Running", running=2)
        after = await world.get(EDGE_DEVICE, "drone-1")
        assert after["metadata"]["resourceVersion"] == device["metadata"]["resourceVersion"]
        assert ("Warning", "GatewayUnreachable") not in await world.events(application["metadata"]["name"])


async def _passed(moment: float) -> bool:
    return asyncio.get_running_loop().time() > moment


async def test_device_without_gateway_says_so_until_the_gateway_comes(world: Any, run: Any) -> None:
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1", network={"gatewayEndpoint": "nobody.example:1"})
        found = await world.device_in("drone-1", "Pending", "NoGateway")
        assert "no Gateway has the endpoint nobody.example:1" in found["status"]["message"]
        await world.application("app", world.image("app"))
        found = await world.application_in("app", "Deploying")
        assert found["status"]["devices"][0]["reason"] == "NoGateway"
        await world.device("drone-1", gatewayRef={"name": world.gateway.name})
        await world.device_in("drone-1", "Connected")
        await world.application_in("app", "Running", running=1)
    assert ("Warning", "NoGateway") in await world.events("drone-1")


async def test_class_follows_from_the_cpu(world: Any, run: Any) -> None:
    async with world.controller(), run(world.gateway.run()):
        await world.device("board-1", hardware={"cpu": "cortex-m4"})
        found = await world.device_in("board-1", "Connected")
        assert found["status"]["deviceClass"] == "mcu"


async def test_device_that_never_opened_a_session_is_not_enrolled(world: Any) -> None:
    async with world.controller():
        await world.device("board-1", hardware={"cpu": "fe310"})
        found = await world.device_in("board-1", "Pending", "NotEnrolled")
        assert found["status"]["deviceClass"] == "riscv"
        await world.application("app", world.image("app"))
        found = await world.application_in("app", "Deploying")
        assert found["status"]["devices"][0]["message"] == "waiting for the device"


async def test_restart_of_the_controller_loses_and_writes_nothing(world: Any, run: Any) -> None:
    async def versions() -> dict[str, str]:
        found = {}
        for kind, namespace in (
            (WASM_APPLICATION, world.namespace),
            (EDGE_DEVICE, world.namespace),
            (PLACEMENT, world.gateway.namespace),
            (DEVICE_SLICE, world.gateway.namespace),
        ):
            for item in (await world.kube.list(kind, namespace))[0]:
                found[f"{kind.kind}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        return found

    async with run(world.gateway.run()):
        async with world.controller() as controller:
            for number in range(5):
                await world.device(f"drone-{number}")
            await world.application("app", world.image("app"))
            await world.application_in("app", "Running", running=5)
            for number in range(5):
                await world.device_in(f"drone-{number}", "Connected")
            await controller.wait_idle()
        before = await versions()
        async with world.controller() as controller:
            await eventually(lambda: _reconciled(world, "status"), "the application was reconciled")
            await controller.wait_idle()
            assert await versions() == before
        assert len(world.resolved) == 1
        # What happens while no controller runs is made good by the next.
        await world.device("drone-0", labels={})
        await world.kube.delete(EDGE_DEVICE, "drone-1", world.namespace)
        async with world.controller():
            await world.application_in("app", "Running", running=3)


async def _reconciled(world: Any, name: str) -> bool:
    labels = {"reconciler": name}
    return bool(world.metrics.registry.get_sample_value("wasmbed_controller_reconciles_total", labels))


async def test_deletion_while_the_controller_is_away_is_completed(world: Any, run: Any) -> None:
    async with run(world.gateway.run()):
        async with world.controller():
            await world.device("drone-1")
            await world.application("app", world.image("app"))
            await world.application_in("app", "Running", running=1)
        await world.kube.delete(WASM_APPLICATION, "app", world.namespace)
        assert await world.kube.get(WASM_APPLICATION, "app", world.namespace)
        async with world.controller():

            async def gone() -> bool:
                return await world.kube.get(WASM_APPLICATION, "app", world.namespace) is None

            await eventually(gone, "the application is gone")
        assert await world.gateway.placements() == []


async def test_placement_without_its_application_is_deleted(world: Any, run: Any) -> None:
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        found = await world.application("app", world.image("app"))
        await world.application_in("app", "Running", running=1)
        # As an operator does who removes the finalizer by force.
        finalizers = {"metadata": {"finalizers": None}}
        await world.kube.delete(WASM_APPLICATION, "app", world.namespace)
        with contextlib.suppress(ApiError):
            await world.kube.merge_patch(WASM_APPLICATION, "app", world.namespace, finalizers)

        async def none_left() -> bool:
            selector = f"{LABEL_APPLICATION_UID}={found['metadata']['uid']}"
            return (await world.kube.list(PLACEMENT, label_selector=selector))[0] == []

        await eventually(none_left, "the placement is gone")


async def test_tampered_placement_is_set_right(world: Any, run: Any) -> None:
    async with world.controller(), run(world.gateway.run()):
        await world.device("drone-1")
        await world.application("app", world.image("app"))
        await world.application_in("app", "Running", running=1)
        (placement,) = await world.gateway.placements()
        patch = {"spec": {"grants": ["wasmbed:px4"]}}
        await world.kube.merge_patch(PLACEMENT, placement["metadata"]["name"], world.gateway.namespace, patch)

        async def right() -> bool:
            (found,) = await world.gateway.placements()
            return bool(found["spec"]["grants"] == placement["spec"]["grants"])

        await eventually(right, "the grants are as before")


async def test_large_application_is_divided_into_chunks(world: Any, run: Any) -> None:
    async with run(world.gateway.run()):
        for number in range(260):
            await world.device(f"drone-{number:03}")
        async with world.controller():
            await world.application("app", world.image("app"))
            await world.application_in("app", "Running", running=260)
            placements = await world.gateway.placements()
            assert sorted(len(item["spec"]["devices"]) for item in placements) == [10, 250]
            where = {
                device["name"]: item["metadata"]["name"] for item in placements for device in item["spec"]["devices"]
            }
            await world.kube.delete(EDGE_DEVICE, "drone-000", world.namespace)
            found = await world.application_in("app", "Running", running=259)
            assert len(found["status"]["devices"]) == 50
            for item in await world.gateway.placements():
                for device in item["spec"]["devices"]:
                    assert where[device["name"]] == item["metadata"]["name"]


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("patch", "edgedevices.wasmbed.io status", "yes"),
        ("patch", "placements.wasmbed.io", "yes"),
        ("create", "edgedevices.wasmbed.io", "no"),
        ("patch", "edgedevices.wasmbed.io", "no"),
        ("delete", "wasmapplications.wasmbed.io", "no"),
        ("patch", "placements.wasmbed.io status", "no"),
        ("patch", "gateways.wasmbed.io status", "no"),
        ("list", "leases.coordination.k8s.io", "no"),
        ("get", "secrets", "no"),
    ],
)
def test_controller_has_the_rights_it_needs_and_no_more(
    cluster: Any, controller_rights: None, verb: str, resource: str, answer: str
) -> None:
    name, _, subresource = resource.partition(" ")
    arguments = ["auth", "can-i", verb, name, "--as=wasmbed:controller", "-A", f"--subresource={subresource}"]
    assert cluster.kubectl(*arguments, check=False).stdout.strip() == answer
