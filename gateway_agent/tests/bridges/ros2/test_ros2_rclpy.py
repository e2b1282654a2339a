"""The backend rclpy against real nodes: services, actions, parameters, topics, and a whole bridge on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
import pytest_asyncio
from ros2_host import hosted, section
from ros2_support import Peer, message_of, rclpy_environment, until
from wasmbed.bridges.ros2 import Bridge, BridgeConfig, Delivery, Node, Policy, parse_routes, qos, start
from wasmbed.bridges.ros2.errors import BusyError, CallError, ConfigurationError
from wasmbed.bridges.ros2.rclpy import RclpyBackend, RclpyInstallation
from wasmbed.bridges.ros2.rclpy import backend as rclpy_backend
from wasmbed.bridges.ros2.rclpy.backend import WORKER, RclpyServer
from wasmbed.gateway.ros2_config import Ros2RclpyConfig
from wasmbed.runtime.abi import Ros2Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wasmbed.bridges.ros2.actions import Goal
    from wasmbed.bridges.ros2.backend import Received
    from wasmbed.bridges.ros2.dds import DdsBackend
    from wasmbed.bridges.ros2.types import CodecFactory

STRING = "std_msgs/msg/String"
SET_BOOL = "std_srvs/srv/SetBool"
FIBONACCI = "test_msgs/action/Fibonacci"


@pytest_asyncio.fixture
async def bridged(ros_python: tuple[str, Path], ros_codecs: CodecFactory, domain_id: int) -> AsyncIterator[Node]:
    """Our node on the rclpy backend."""
    installation = RclpyInstallation(ros_python[1], environment=rclpy_environment(domain_id))
    backend = await RclpyBackend.start(installation, ros_codecs, domain_id=domain_id, node="bridged")
    yield Node(backend, ros_codecs, name="bridged")
    await backend.aclose()


async def test_rclpy_services_pass_both_ways(peer: Peer, bridged: Node) -> None:
    await peer.run("serve", service="/theirs", type_name=SET_BOOL)
    client = bridged.client("/theirs", SET_BOOL)
    # More at a time than the ten that the peer's queue holds would be lost there.
    answers = await asyncio.gather(*(client.call(client.request(data=bool(n % 2)), 20.0) for n in range(8)))
    assert [answer.message for answer in answers] == [f"got {bool(n % 2)}" for n in range(8)]

    async def handler(request: Any) -> Any:
        return bridged.codecs.cls(f"{SET_BOOL}_Response")(request.data, "ours")

    bridged.service("/ours", SET_BOOL, handler)
    answer = await peer.run("call", service="/ours", type_name=SET_BOOL, values={"data": True})
    assert answer["reply"] == {"success": True, "message": "ours"}
    await peer.run("serve", service="/basic", type_name="test_msgs/srv/BasicTypes")
    client = bridged.client("/basic", "test_msgs/srv/BasicTypes")
    request = message_of(bridged.codecs, "test_msgs/srv/BasicTypes_Request", random.Random(13))
    reply = await client.call(request, 20.0)
    assert (reply.int64_value, reply.string_value) == (request.int64_value, request.string_value)


async def test_rclpy_actions_pass_both_ways(peer: Peer, bridged: Node) -> None:
    await peer.run("serve_fibonacci", action="/theirs")
    client = bridged.action_client("/theirs", FIBONACCI)
    feedback: list[list[int]] = []
    goal_id = await client.send(client.goal(order=5), lambda item: feedback.append(list(item.sequence)), 20.0)
    assert goal_id is not None
    status, result = await client.result(goal_id)
    assert (status, list(result.sequence)) == (4, [0, 1, 1, 2, 3, 5])
    assert feedback[-1] == [0, 1, 1, 2, 3, 5]
    await until(lambda: client.statuses.get(goal_id) == 4)
    assert await client.send(client.goal(order=5000)) is None
    goal_id = await client.send(client.goal(order=500))
    assert goal_id is not None
    assert await client.cancel(goal_id)
    assert (await client.result(goal_id))[0] == 5

    async def execute(goal: Any) -> Any:
        sequence = [0, 1]
        while len(sequence) <= goal.request.order and not goal.cancel_requested:
            sequence.append(sequence[-1] + sequence[-2])
            goal.publish_feedback(bridged.codecs.cls(f"{FIBONACCI}_Feedback")(sequence=sequence))
            await asyncio.sleep(0.05)
        return bridged.codecs.cls(f"{FIBONACCI}_Result")(sequence=sequence[:40])

    bridged.action_server("/ours", FIBONACCI, execute, lambda goal: goal.order < 1000)
    answer = await peer.run("fibonacci", action="/ours", order=5)
    assert (answer["status"], answer["sequence"]) == (4, [0, 1, 1, 2, 3, 5])
    assert answer["feedback"][-1] == [0, 1, 1, 2, 3, 5]
    assert (await peer.run("fibonacci", action="/ours", order=900, cancel=True))["status"] == 5
    assert not (await peer.run("fibonacci", action="/ours", order=1000))["accepted"]


async def test_rclpy_goals_that_run_hold_up_neither_each_other_nor_topics(peer: Peer, bridged: Node) -> None:
    """Each waiting get_result held one of eight threads, and was answered with an invented result after a minute."""
    goals: dict[int, Goal] = {}
    ends = [asyncio.Event() for _ in range(12)]
    heard: list[Any] = []

    async def execute(goal: Goal) -> Any:
        goals[goal.request.order] = goal
        await ends[goal.request.order].wait()
        return bridged.codecs.cls(f"{FIBONACCI}_Result")(sequence=[goal.request.order])

    bridged.action_server("/long", FIBONACCI, execute)
    bridged.subscription("/word", STRING, heard.append, qos.LATCHED)
    assert (await peer.run("send_goals", action="/long", count=12))["accepted"] == [True] * 12
    assert (await peer.run("cancel_goal", index=7))["canceling"] == 1
    assert [goal.cancel_requested for _, goal in sorted(goals.items())] == [order == 7 for order in range(12)]
    await peer.run("publisher", topic="/word", type_name=STRING, transient_local=True)
    await peer.run("publish", topic="/word", values={"data": "heard"})
    await until(lambda: heard)
    assert (await peer.run("goal_results"))["results"] == [None] * 12
    # One after the other: a client's queue holds ten replies.
    for order, end in enumerate(ends):
        end.set()
        results = await told(peer, "goal_results", lambda results, order=order: results[order])
        assert results[order] == [5 if order == 7 else 4, [order]]
        assert results[order + 1 :] == [None] * (11 - order)


async def test_rclpy_request_whose_handler_fails_gets_no_reply(peer: Peer, bridged: Node) -> None:
    async def handler(request: Any) -> Any:
        if not request.data:
            raise ValueError("not for me")
        return bridged.codecs.cls(f"{SET_BOOL}_Response")(True, "ours")

    bridged.service("/ours", SET_BOOL, handler)
    asked = {"service": "/ours", "type_name": SET_BOOL}
    assert (await peer.run("call", **asked, values={"data": False}, timeout=3.0))["error"] == "no answer"
    assert (await peer.run("call", **asked, values={"data": True}))["reply"]["message"] == "ours"


async def test_rclpy_request_answered_with_a_negative_status_gets_no_reply(
    peer: Peer, ros_python: tuple[str, Path], domain_id: int, tmp_path: Path
) -> None:
    """Nor does it when the route's time for it is over."""
    rclpy = Ros2RclpyConfig(ros_python[1], environment=rclpy_environment(domain_id))
    async with hosted(section(domain_id, backend="rclpy", distribution=ros_python[0], rclpy=rclpy), tmp_path) as host:
        served = {"service": "/ours", "type": "std_srvs/SetBool", "direction": "serve", "encoding": "json"}
        await host.open(services=[served | {"timeoutSeconds": 1}])
        host.call("open", "/ours", 0)
        for status, expected in ((-1, None), (0, {"success": True, "message": "mine"})):
            host.runtime.events.clear()
            call = asyncio.create_task(
                peer.run("call", service="/ours", type_name=SET_BOOL, values={"data": True}, timeout=4.0)
            )
            (request,) = await until(lambda: host.runtime.told(Ros2Kind.REQUEST))
            host.call("respond", 0, request.token, status, data=b'{"success": true, "message": "mine"}')
            assert (await call).get("reply") == expected


async def test_rclpy_refuses_the_newest_of_too_many_requests(
    peer: Peer,
    ros_python: tuple[str, Path],
    ros_codecs: CodecFactory,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest was forgotten, though its client still waited."""
    monkeypatch.setattr(rclpy_backend, "MAX_REQUESTS", 4)
    installation = RclpyInstallation(ros_python[1], environment=rclpy_environment(domain_id))
    backend = await RclpyBackend.start(installation, ros_codecs, domain_id=domain_id, node="bridged")
    node = Node(backend, ros_codecs, name="bridged")
    finish, ended = asyncio.Event(), 0

    async def handler(_: Any) -> Any:
        nonlocal ended
        try:
            await finish.wait()
        finally:
            ended += 1
        return ros_codecs.cls(f"{SET_BOOL}_Response")(True, "late")

    try:
        server = node.service("/ours", SET_BOOL, handler)
        assert isinstance(server, RclpyServer)
        asked = {"service": "/ours", "type_name": SET_BOOL, "values": {"data": True}}
        await peer.run("ask", **asked, count=4)
        await until(lambda: len(server._calls) == 4)
        await peer.run("ask", **asked, count=2)
        await until(lambda: server.statistics.dropped == 2)
        assert server.problems() == ["more than 4 requests waited for replies, the newest get none"]
        assert (await peer.run("replied"))["results"] == [None] * 6
        finish.set()
        results = await told(peer, "replied", lambda results: results.count(None) <= 2)
        assert results == [{"success": True, "message": "late"}] * 4 + [None] * 2
        await until(lambda: ended == 4)
    finally:
        await backend.aclose()


async def test_rclpy_waits_no_longer_for_replies_than_we_do(
    peer: Peer,
    ros_python: tuple[str, Path],
    ros_codecs: CodecFactory,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """rclpy kept what it was to answer for every call without a reply, for ever."""
    monkeypatch.setattr(rclpy_backend, "WORKER", Path(__file__).with_name("ros2_worker_probe.py"))
    environment = {**rclpy_environment(domain_id), "WASMBED_TEST_WORKER": str(WORKER)}
    installation = RclpyInstallation(ros_python[1], environment=environment)
    backend = await RclpyBackend.start(installation, ros_codecs, domain_id=domain_id, node="bridged")
    node = Node(backend, ros_codecs, name="bridged")

    async def waiting() -> tuple[int, int]:
        header, _ = await backend.ask("waiting")
        return header["rclpy"], header["ours"]

    try:
        await peer.run("serve_mute", service="/mute", type_name=SET_BOOL)
        await peer.run("serve_endless", action="/endless")
        client = node.client("/mute", SET_BOOL)
        await client.ready(20.0)
        calls = [asyncio.create_task(client.call(client.request(), 1.0)) for _ in range(20)]
        async with asyncio.timeout(20):
            while await waiting() != (20, 20):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        calls[0].cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(end) for end in ends[1:]] == ["/mute: no answer within 1 s"] * 19
        assert await waiting() == (0, 0)
        goals = node.action_client("/endless", FIBONACCI)
        goal_id = await goals.send(goals.goal(order=1), lambda _: None, 20.0)
        assert goal_id is not None
        with pytest.raises(CallError, match=r"get_result: no answer within 0\.5 s"):
            await goals.result(goal_id, 0.5)
        assert await waiting() == (0, 0)
        assert not goals._callbacks
        # What is under way when the client is closed.
        call = asyncio.create_task(client.call(client.request(), 60.0))
        async with asyncio.timeout(20):
            while await waiting() != (1, 1):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        client.close()
        assert await waiting() == (0, 0)
        call.cancel()
    finally:
        await backend.aclose()


async def test_rclpy_services_show_clients_that_cannot_be_matched(peer: Peer, bridged: Node) -> None:
    routes = {
        "services": [
            {"service": name, "type": kind, "direction": "serve"}
            for name, kind in (("/ours", SET_BOOL), ("/other", SET_BOOL), ("/none", "px4_msgs/srv/VehicleCommand"))
        ]
        + [{"service": "/theirs", "type": SET_BOOL, "direction": "call"}],
        "actions": [{"action": "/go", "type": FIBONACCI, "direction": "serve"}],
    }
    bridge = Bridge(bridged, Policy(call=("/*",), serve=("/*",), domains=frozenset({0})), 0)
    session = bridge.open("app", parse_routes(routes, bridged.resolve, bridged.codecs))
    await peer.run("client", service="/ours", type_name=SET_BOOL, best_effort=True)
    await peer.run("client", service="/other", type_name="std_srvs/srv/Trigger")
    await peer.run("serve", service="/theirs", type_name="std_srvs/srv/Trigger")
    await peer.run("client", service="/go/_action/cancel_goal", type_name="std_srvs/srv/Trigger")
    for route, says in (
        ("serve /ours", "incompatible QoS with a client: reliability"),
        ("serve /other", "a client has the service with another type: std_srvs::srv::dds_::Trigger_Request_, not"),
        ("serve /none", "the installation has no px4_msgs/srv/VehicleCommand"),
        ("call /theirs", "a server has the service with another type: std_srvs::srv::dds_::Trigger_Re"),
        ("serve /go", "a client has the service with another type: std_srvs::srv::dds_::Trigger_Request_, not"),
    ):

        def seen(route: str = route, says: str = says) -> bool:
            bridge.look()
            return says in str(session.statistics()[route]["problems"])

        await until(seen, 20)
    await peer.run("client", service="/ours", type_name=SET_BOOL)
    bridge.look()
    await bridged.backend.nodes()
    assert len(session.statistics()["serve /ours"]["problems"]) == 1
    bridge.close()


async def test_rclpy_clients_learn_at_once_that_there_is_no_room_for_their_goals(peer: Peer, bridged: Node) -> None:
    """Goals that had been accepted were dropped for newer ones, and never ended."""
    declared = {"actions": [{"action": "/go", "type": FIBONACCI, "direction": "serve", "queue": 2}]}
    bridge = Bridge(bridged, Policy(serve=("/*",), domains=frozenset({0})), 0)
    session = bridge.open("app", parse_routes(declared, bridged.resolve, bridged.codecs))
    assert (await peer.run("send_goals", action="/go", count=4))["accepted"] == [True, True, False, False]
    assert (await peer.run("cancel_goal", index=1))["canceling"] == 1
    await until(lambda: session.statistics()["serve /go"]["queued"] == 3)
    found = []
    while (delivery := session.receive("/go")) is not None:
        assert isinstance(delivery, Delivery)
        found.append((delivery.kind, delivery.token))
        if delivery.kind == "goal":
            session.respond("/go", delivery.token, cbor2.dumps({"sequence": [delivery.token]}))
    assert [kind for kind, _ in found] == ["goal", "goal", "cancel"]
    results = await told(peer, "goal_results", lambda results: None not in results[:2])
    assert results[:2] == [[4, [found[0][1]]], [4, [found[1][1]]]]
    bridge.close()


async def test_rclpy_requests_without_room_are_dropped_newest_first(peer: Peer, bridged: Node) -> None:
    declared = {"services": [{"service": "/ours", "type": SET_BOOL, "direction": "serve", "queue": 2}]}
    bridge = Bridge(bridged, Policy(serve=("/*",), domains=frozenset({0})), 0)
    session = bridge.open("app", parse_routes(declared, bridged.resolve, bridged.codecs))
    asked = {"service": "/ours", "type_name": SET_BOOL, "values": {"data": True}, "count": 2}
    for count in (2, 4):
        await peer.run("ask", **asked)
        figures = await until(
            lambda count=count: (found := session.statistics()["serve /ours"])["received"] == count and found
        )
        assert (figures["queued"], figures["dropped"]) == (2, count - 2)
    assert "too slow for the requests" in figures["problems"][0]
    while (delivery := session.receive("/ours")) is not None:
        assert isinstance(delivery, Delivery)
        session.respond("/ours", delivery.token, cbor2.dumps({"success": True, "message": "in time"}))
    results = await told(peer, "replied", lambda results: results.count(None) <= 2)
    assert results == [{"success": True, "message": "in time"}] * 2 + [None] * 2
    bridge.close()


async def test_rclpy_subscription_whose_callback_fails_leaves_the_others_alone(peer: Peer, bridged: Node) -> None:
    """The bridge took the worker for dead and started another."""
    heard: list[Any] = []

    def fail(_: Any) -> None:
        raise ValueError("not for me")

    bridged.subscription("/bad", STRING, fail, qos.LATCHED)
    bridged.subscription("/good", STRING, heard.append, qos.LATCHED)
    for name in ("/bad", "/good"):
        await peer.run("publisher", topic=name, type_name=STRING, transient_local=True)
        await peer.run("publish", topic=name, values={"data": "heard"})
    await until(lambda: heard)
    assert "/peer" in await bridged.backend.nodes()


async def test_rclpy_parameters_pass_both_ways(peer: Peer, bridged: Node) -> None:
    for name, value in {"gain": 1.5, "name": "x", "list": [1, 2], "flag": True}.items():
        await peer.run("declare", name=name, value=value)
    remote = bridged.remote_parameters("/peer")
    assert await remote.get("gain", "name", "list", "flag", "none", timeout_s=20.0) == {
        "gain": 1.5,
        "name": "x",
        "list": [1, 2],
        "flag": True,
        "none": None,
    }
    answers = await remote.set({"gain": 2.5, "name": 7})
    assert answers["gain"] == ""
    assert "Wrong parameter type" in answers["name"]
    assert (await peer.run("parameter", name="gain"))["value"] == 2.5
    assert {"gain", "name", "list", "flag"} < set(await remote.list())
    bridged.offer_parameters({"rate": 10, "mode": "auto"})
    service = "rcl_interfaces/srv/{}"
    answer = await peer.run(
        "call", service="/bridged/get_parameters", type_name=service.format("GetParameters"), values={"names": ["rate"]}
    )
    assert answer["reply"]["values"][0]["integer_value"] == 10
    answer = await peer.run(
        "call", service="/bridged/list_parameters", type_name=service.format("ListParameters"), values={}
    )
    assert answer["reply"]["result"]["names"] == ["mode", "rate"]
    answer = await peer.run(
        "call",
        service="/bridged/set_parameters",
        type_name=service.format("SetParameters"),
        values={"parameters": [{"name": "rate", "value": {"type": 2, "integer_value": 20}}]},
    )
    assert answer["reply"]["results"] == [{"successful": True, "reason": ""}]
    assert bridged.parameters is not None
    assert bridged.parameters["rate"] == 20


async def test_rclpy_topics_pass_both_ways(peer: Peer, bridged: Node) -> None:
    received: list[Any] = []
    bridged.subscription("/back", "sensor_msgs/msg/Imu", received.append, qos.LATCHED)
    await peer.run("echo", source="/to", target="/back", type_name="sensor_msgs/msg/Imu", transient_local=True)
    publisher = bridged.publisher("/to", "sensor_msgs/msg/Imu", qos.LATCHED)
    message = message_of(bridged.codecs, "sensor_msgs/msg/Imu", random.Random(14))
    publisher.publish(message)
    await until(lambda: received)
    assert received == [message]
    async with asyncio.timeout(60):  # the graph follows the data
        while True:
            if {"/bridged", "/peer"} <= set(await bridged.backend.nodes()):
                break
            await asyncio.sleep(0.05)
    (seen,) = await bridged.backend.endpoints("/back", publishers=True)
    assert (seen.node, seen.type) == ("/peer", "sensor_msgs/msg/Imu")


async def test_rclpy_tells_when_a_message_was_written_as_dds_does(
    peer: Peer, bridged: Node, backends: Callable[..., DdsBackend], ros_codecs: CodecFactory
) -> None:
    """It told when the message had come: here long after it was written."""
    stamps: dict[str, int] = {}
    started = time.time_ns()
    await peer.run("publisher", topic="/old", type_name=STRING, transient_local=True)
    await peer.run("publish", topic="/old", values={"data": "news of yesterday"})
    written = time.time_ns()
    for backend in (bridged.backend, backends("ours", codecs=ros_codecs)):

        def received(_: bytes, info: Received, name: str = backend.name) -> None:
            stamps[name] = info.source_timestamp

        backend.create_subscription("/old", STRING, qos.LATCHED, received)
    await until(lambda: len(stamps) == 2)
    assert started < stamps["rclpy"] < written
    # RTPS counts in parts of 2^32 of a second.
    assert abs(stamps["rclpy"] - stamps["dds"]) <= 1000


async def test_rclpy_tells_of_peers_it_cannot_match(peer: Peer, bridged: Node) -> None:
    subscription = bridged.subscription("/in", STRING, lambda _: None)
    publisher = bridged.publisher("/out", STRING, qos.SENSOR_DATA)
    await peer.run("publisher", topic="/in", type_name=STRING, best_effort=True)
    await peer.run("subscribe", topic="/out", type_name=STRING)
    for statistics, kind in ((subscription.statistics, "publisher"), (publisher.statistics, "subscription")):
        await until(lambda it=statistics: it.problems, 20)
        assert statistics.problems == [f"incompatible QoS with a {kind}: reliability"]


async def test_rclpy_without_a_type_says_so_and_what_helps(bridged: Node) -> None:
    """Publishing what the installation has no type for was counted as delivered."""
    backend = bridged.backend
    kind = "px4_msgs/msg/VehicleStatus"
    publisher = bridged.publisher("/status", kind)
    subscription = bridged.subscription("/status", kind, lambda _: None)
    message = bridged.codecs.cls(kind)()
    publisher.publish(message)
    await until(lambda: publisher.statistics.problems and subscription.statistics.problems)
    for statistics in (publisher.statistics, subscription.statistics):
        assert statistics.problems == [statistics.refused]
        assert "no px4_msgs/msg/VehicleStatus (No module named 'px4_msgs'): build px4_msgs there" in statistics.refused
        assert "or use the backend dds" in statistics.refused
    assert not publisher.publish(message)
    assert (publisher.statistics.messages, publisher.statistics.dropped) == (0, 2)
    declared = {"topics": [{"topic": "/status", "type": kind, "direction": "publish"}]}
    bridge = Bridge(bridged, Policy(publish=("/*",), domains=frozenset({0})), 0)
    session = bridge.open("app", parse_routes(declared, bridged.resolve, bridged.codecs))

    def refusal() -> str:
        try:
            session.publish("/status", cbor2.dumps({}))
        except CallError as error:
            return str(error)
        except BusyError:
            return ""
        return ""

    await until(lambda: "build px4_msgs there" in refusal())
    figures = session.statistics()["publish /status"]
    assert figures["failed"] > 0
    assert figures["problems"]
    bridge.close()
    client = bridged.client("/none", "px4_msgs/srv/VehicleCommand")
    with pytest.raises(CallError, match="build px4_msgs there"):
        await client.call(client.request())
    assert isinstance(backend, RclpyBackend)
    assert not backend._answers


async def test_rclpy_is_chosen_where_it_comes_up(ros_python: tuple[str, Path], domain_id: int) -> None:
    distribution, python = ros_python
    rclpy = {"python": str(python), "environment": rclpy_environment(domain_id)}
    config = BridgeConfig.from_dict({"backend": "auto", "distribution": distribution, "rclpy": rclpy})
    async with start(config, domain_id) as bridge:
        assert bridge.node.backend.name == "rclpy"


async def test_an_application_uses_rclpy_through_its_routes(
    peer: Peer, ros_python: tuple[str, Path], domain_id: int
) -> None:
    """A whole bridge on the backend rclpy, from its configuration."""
    distribution, python = ros_python
    everything = {key: ["/*"] for key in ("subscribe", "publish", "call", "serve")}
    config = BridgeConfig.from_dict(
        {
            "backend": "rclpy",
            "distribution": distribution,
            "packages": [str(python.parents[1] / "share/test_msgs")],
            "rclpy": {"python": str(python), "environment": rclpy_environment(domain_id)},
            "policy": everything | {"domains": [domain_id]},
        }
    )
    await peer.run("serve", service="/toggle", type_name=SET_BOOL)
    await peer.run("serve_fibonacci", action="/fibonacci")
    await peer.run("echo", source="/to", target="/back", type_name=STRING, transient_local=True)
    async with start(config, domain_id) as bridge:
        declared = {
            "topics": [
                {"topic": "/to", "type": STRING, "direction": "publish", "qos": "latched", "encoding": "json"},
                {"topic": "/back", "type": STRING, "direction": "subscribe", "qos": "latched", "encoding": "json"},
            ],
            "services": [
                {"service": "/toggle", "type": SET_BOOL, "direction": "call", "timeoutSeconds": 20},
                {"service": "/ours", "type": SET_BOOL, "direction": "serve", "timeoutSeconds": 20},
            ],
            "actions": [{"action": "/fibonacci", "type": FIBONACCI, "direction": "call"}],
        }
        session = bridge.open("app", parse_routes(declared, bridge.node.resolve, bridge.node.codecs))
        session.publish("/to", b'{"data": "there and back"}')
        delivery = await until(lambda: session.receive("/back"))
        assert delivery.data == b'{"data":"there and back"}'
        session.call("/toggle", cbor2.dumps({"data": True}))
        delivery = await until(lambda: session.receive("/toggle"))
        assert (delivery.kind, cbor2.loads(delivery.data)["message"]) == ("reply", "got True")
        call = asyncio.create_task(peer.run("call", service="/ours", type_name=SET_BOOL, values={"data": True}))
        request = await until(lambda: session.receive("/ours"))
        session.respond("/ours", request.token, cbor2.dumps({"success": True, "message": "by the application"}))
        assert (await call)["reply"]["message"] == "by the application"
        session.call("/fibonacci", cbor2.dumps({"order": 3}))
        kinds = []
        while not kinds or kinds[-1] not in {"result", "failure"}:
            delivery = await until(lambda: session.receive("/fibonacci"))
            kinds.append(delivery.kind)
        assert kinds[0] == "accepted"
        assert cbor2.loads(delivery.data) == {"sequence": [0, 1, 1, 2]}
        # What the bridge itself offers.
        answer = await peer.run(
            "call",
            service="/wasmbed_bridge/get_parameters",
            type_name="rcl_interfaces/srv/GetParameters",
            values={"names": ["backend", "domain_id"]},
        )
        backend, number = answer["reply"]["values"]
        assert (backend["string_value"], number["integer_value"]) == ("rclpy", domain_id)
        await peer.run("subscribe", topic="/rosout", type_name="rcl_interfaces/msg/Log", transient_local=True)
        bridge.node.log(40, "something is wrong")
        await until(lambda: "something is wrong" in [item["message"].get("msg") for item in tuple(peer.messages)])


async def test_a_killed_worker_ends_calls(bridged: Node) -> None:
    backend = bridged.backend
    assert isinstance(backend, RclpyBackend)
    call = asyncio.create_task(backend.ask("ready", entity=99999))
    with pytest.raises(CallError, match="KeyError"):
        await call
    backend._process.kill()
    await backend._process.wait()
    with pytest.raises(CallError, match="worker has ended"):
        await backend.ask("nodes")


async def test_an_interpreter_without_rclpy_is_refused(ros_codecs: CodecFactory, tmp_path: Path) -> None:
    for python in (tmp_path / "none", "/bin/false"):
        with pytest.raises(ConfigurationError, match="rclpy:"):
            await RclpyBackend.start(RclpyInstallation(type(tmp_path)(python)), ros_codecs, domain_id=1, node="n")


async def test_killed_worker_is_started_again_with_all_routes(
    peer: Peer, ros_python: tuple[str, Path], domain_id: int, tmp_path: Path
) -> None:
    """Calls under way fail, meanwhile all is UNAVAILABLE, and what was open is open again without the application."""
    rclpy = Ros2RclpyConfig(ros_python[1], environment=rclpy_environment(domain_id))
    wanted = section(domain_id, backend="rclpy", distribution=ros_python[0], rclpy=rclpy)
    async with hosted(wanted, tmp_path) as host:
        await host.open(
            topics=[
                {"topic": "/back", "type": "std_msgs/String", "direction": "subscribe", "encoding": "json"},
                {"topic": "/to", "type": "std_msgs/String", "direction": "publish", "encoding": "json"},
            ],
            services=[{"service": "/never", "type": "std_srvs/SetBool", "direction": "call", "encoding": "json"}],
        )
        for handle, alias in enumerate(("/back", "/to", "/never")):
            host.call("open", alias, handle)
        await peer.run("echo", source="/to", target="/back", type_name=STRING)

        async def echoed(word: str) -> None:
            async with asyncio.timeout(120):
                while not any(word.encode() in told.data for told in host.runtime.told(Ros2Kind.MESSAGE)):
                    host.call("publish", 1, data=json.dumps({"data": word}).encode())
                    await asyncio.sleep(0.05)

        await echoed("before")
        host.call("call", 2, data=b'{"data": true}', token=9)
        await until(lambda: host.results("call"))
        (worker,) = children_with("ros2/rclpy/worker.py")
        os.kill(worker, signal.SIGKILL)
        await until(lambda: host.runtime.told(Ros2Kind.FAILURE))
        assert [(told.token, told.status < 0) for told in host.runtime.told(Ros2Kind.FAILURE)] == [(9, True)]
        await until(lambda: any(offer.available == () for offer in host.runtime.offers))
        await until(lambda: host.runtime.offers[-1].available == ("ros2",))
        await echoed("after")
        starts = host.registry.get_sample_value("wasmbed_ros2_starts_total", {"domain": str(domain_id)})
        assert starts == 2
        assert children_with("ros2/rclpy/worker.py") != [worker]


def children_with(word: str) -> list[int]:
    """Children of this process whose command line has a word."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and word in (status.parent / "cmdline").read_text():
                found.append(int(status.parent.name))
    return found


async def told(peer: Peer, operation: str, condition: Callable[[list[Any]], Any]) -> list[Any]:
    """Ask a peer until its results are as wanted."""
    async with asyncio.timeout(60):
        while True:
            results: list[Any] = (await peer.run(operation))["results"]
            if condition(results):
                return results
            await asyncio.sleep(0.05)
