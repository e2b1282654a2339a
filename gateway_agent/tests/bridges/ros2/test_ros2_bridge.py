"""The bridge: applications' routes on the DDS backend, with another node at the other end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
import pytest_asyncio
from ros2_support import DISTRIBUTIONS, LOOPBACK, domain, rclpy_environment, rclpy_python, until
from wasmbed.bridges.ros2 import Bridge, Delivery, Node, Policy, parse_routes
from wasmbed.bridges.ros2.actions import ABORTED, CANCELED, MAX_GOALS, SUCCEEDED
from wasmbed.bridges.ros2.config import BridgeConfig, start
from wasmbed.bridges.ros2.dds import DdsBackend, binding
from wasmbed.bridges.ros2.errors import BusyError, CallError, ConfigurationError, NotGrantedError, ValidationError
from wasmbed.bridges.ros2.handlers import MAX_OUTSTANDING, TOO_BIG, ServiceServe
from wasmbed.bridges.ros2.qos import SERVICES, QosProfile
from wasmbed.bridges.ros2.queues import SHORT_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from wasmbed.bridges.ros2 import Session
    from wasmbed.bridges.ros2.types import CodecFactory

ALL = Policy(("/*",), ("/*",), ("/*",), ("/*",), frozenset(range(233)))
IMU = "sensor_msgs/msg/Imu"
SET_BOOL = "std_srvs/srv/SetBool"
FIBONACCI = "fib_msgs/action/Fibonacci"
CROWD = Path(__file__).with_name("ros2_crowd.py")
PARTICIPANT_BYTES = 256 << 10


class Site:
    """A bridge and, in another participant, a node of somebody else."""

    def __init__(self, backends: Callable[..., DdsBackend], codecs: CodecFactory, domain_id: int) -> None:
        self.codecs = codecs
        self.node = Node(backends("other", codecs=codecs), codecs, name="other")
        self.bridge = Bridge(Node(backends("bridge", codecs=codecs), codecs, name="bridge"), ALL, domain_id)

    def open(self, name: str = "app", on_ready: Callable[[str], None] = lambda _: None, **routes: Any) -> Session:
        return self.bridge.open(name, parse_routes(routes, self.bridge.node.resolve, self.codecs), on_ready)


async def receive(session: Session, name: str) -> Delivery:
    found = await until(lambda: session.receive(name))
    assert isinstance(found, Delivery)
    return found


@pytest_asyncio.fixture
async def site(backends: Callable[..., DdsBackend], tmp_path: Path, domain_id: int) -> AsyncIterator[Site]:
    (tmp_path / "fib_msgs/action").mkdir(parents=True)
    (tmp_path / "fib_msgs/action/Fibonacci.action").write_text(
        "int32 order\n---\nint32[] sequence\n---\nint32[] sequence\n"
    )
    site = Site(backends, BridgeConfig(packages=(tmp_path,)).codecs(), domain_id)
    yield site
    site.bridge.close()


def topic(**options: Any) -> dict[str, Any]:
    return {"topic": "/imu", "type": IMU, "direction": "subscribe", **options}


async def test_a_topic_reaches_applications_in_their_encodings(site: Site) -> None:
    ready: list[str] = []
    session = site.open(
        topics=[
            topic(name="cdr", encoding="cdr"),
            topic(name="cbor"),
            topic(name="json", encoding="json", fields=["linear_acceleration.x"]),
        ],
        on_ready=ready.append,
    )
    publisher = site.node.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    assert publisher.statistics.matched == 1  # the three routes share one subscription
    message = site.codecs.cls(IMU)()
    message.linear_acceleration.x = 9.5
    message.header.frame_id = "base"
    publisher.publish(message)
    data = site.codecs.codec(IMU).dumps(message)
    assert (await receive(session, "cdr")).data == data
    assert cbor2.loads((await receive(session, "cbor")).data)["header"]["frame_id"] == "base"
    assert json.loads((await receive(session, "json")).data) == {"linear_acceleration": {"x": 9.5}}
    assert sorted(ready) == ["cbor", "cdr", "json"]
    assert session.receive("cdr") is None


async def test_a_delivery_that_does_not_fit_stays(site: Site) -> None:
    session = site.open(topics=[topic(encoding="cdr")])
    publisher = site.node.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    publisher.publish(site.codecs.cls(IMU)())
    size = len(site.codecs.codec(IMU).dumps(site.codecs.cls(IMU)()))
    assert await until(lambda: session.receive("/imu", 10)) == size
    assert len((await receive(session, "/imu")).data) == size


async def test_an_application_publishes_what_its_type_allows(site: Site) -> None:
    session = site.open(topics=[topic(direction="publish", encoding="json")])
    received: list[Any] = []
    subscription = site.node.subscription("/imu", IMU, received.append)
    await until(lambda: subscription.statistics.matched)
    session.publish("/imu", b'{"linear_acceleration": {"z": -9.81}, "orientation_covariance": [1,0,0,0,1,0,0,0,1]}')
    await until(lambda: received)
    assert received[0].linear_acceleration.z == -9.81
    assert received[0].orientation_covariance[8] == 1.0
    assert received[0].orientation.w == 1.0  # the default of the definition
    for wrong in (b"", b"[]", b'{"linear_acceleration": {"z": "up"}}', b'{"orientation_covariance": [1]}', b'{"x": 1}'):
        with pytest.raises(ValidationError):
            session.publish("/imu", wrong)
    statistics = session.statistics()["publish /imu"]
    assert (statistics["received"], statistics["delivered"], statistics["malformed"]) == (6, 1, 5)


async def test_what_is_not_granted_fails(site: Site) -> None:
    session = site.open(topics=[topic()])
    for attempt in (
        lambda: session.publish("/alarm", b""),
        lambda: session.publish("/imu", b""),
        lambda: session.receive("/alarm"),
        lambda: session.call("/imu", b""),
        lambda: session.respond("/imu", 1, b""),
        lambda: session.cancel("/imu", 1),
    ):
        with pytest.raises(NotGrantedError):
            attempt()
    with pytest.raises(ConfigurationError, match="open already"):
        site.open(topics=[])
    closed = Bridge(site.bridge.node, Policy(), 0)
    with pytest.raises(ConfigurationError, match=r"app: domain 0 is not in the gateway's policy\.domains"):
        closed.open("app", parse_routes({"topics": [topic()]}, site.node.resolve, site.codecs))


async def test_rates_are_limited_both_ways(site: Site) -> None:
    session = site.open(
        topics=[topic(maxRateHz=10, encoding="cdr", queue=1000), topic(direction="publish", name="out", maxRateHz=10)]
    )
    publisher = site.node.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    message = site.codecs.cls(IMU)()
    began = time.monotonic()
    for _ in range(200):
        publisher.publish(message)
        await asyncio.sleep(0.002)
    elapsed = time.monotonic() - began
    statistics = await until(lambda: (found := session.statistics()["subscribe /imu"])["received"] >= 200 and found)
    assert statistics["queued"] <= elapsed * 10 + 2
    assert statistics["rate_limited"] >= 200 - statistics["queued"]
    sent = 0
    for _ in range(50):
        try:
            session.publish("out", b"\xa0")
            sent += 1
        except BusyError:
            pass
    assert sent <= 2
    assert session.statistics()["publish out"]["rate_limited"] == 50 - sent


async def test_a_slow_application_loses_messages_and_they_are_counted(site: Site) -> None:
    """10,000 messages a second into an application that reads none: bounded, the newest kept, every loss counted."""
    session = site.open(topics=[topic(encoding="cdr", queue=64, qos={"depth": 1000})])
    publisher = site.node.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    codec = site.codecs.codec(IMU)
    message = codec.cls()

    def storm() -> None:
        for number in range(20_000):
            message.header.stamp.sec = number
            publisher.raw.publish(codec.dumps(message))
            if number % 10 == 0:
                time.sleep(0.001)

    thread = threading.Thread(target=storm)
    thread.start()
    while thread.is_alive():
        assert session.statistics()["subscribe /imu"]["queued"] <= 64
        await asyncio.sleep(0.01)
    statistics = await until(
        lambda: (found := session.statistics()["subscribe /imu"])["received"] >= 19_000 and found, timeout_s=10
    )
    assert statistics["queued"] == 64
    assert statistics["queued_bytes"] <= 64 * len(codec.dumps(message))
    assert statistics["received"] == statistics["dropped"] + statistics["queued"]
    first = await receive(session, "/imu")
    assert codec.loads(first.data).header.stamp.sec > 19_000


async def test_malformed_messages_of_a_peer_are_counted_and_not_delivered(site: Site) -> None:
    """A peer that writes other bytes than its type says, which cyclonedds itself lets through."""
    reliable = {"reliability": "reliable", "depth": 10}
    session = site.open(topics=[topic(encoding="cdr", qos=reliable), topic(name="cbor", qos=reliable)])
    publisher = site.node.publisher("/imu", IMU, QosProfile(reliable=True, depth=10))
    await until(lambda: publisher.statistics.matched)
    good = site.codecs.codec(IMU).dumps(site.codecs.cls(IMU)())
    # Little-endian ones, since cyclonedds writes no other: PL_CDR, XCDR2, and none there is.
    for header in (b"\0\3", b"\0\7", b"\xff\xff"):
        assert binding._clayer.ddspy_write(publisher.raw.entity._ref, header + good[2:]) == 0
    publisher.raw.publish(good)
    assert (await receive(session, "/imu")).data == good
    assert session.receive("/imu") is None
    shared = next(iter(site.bridge._shared.values()))
    counted = shared.subscription.statistics
    assert (counted.malformed, counted.lost, counted.dropped) == (3, 0, 0)
    assert (await receive(session, "cbor")).data
    figures = session.statistics()
    assert [figures[route]["malformed"] for route in ("subscribe /imu", "subscribe cbor")] == [3, 3]


async def test_services_are_called_and_served_by_applications(site: Site) -> None:
    session = site.open(
        services=[
            {"service": "/theirs", "type": SET_BOOL, "direction": "call"},
            {"service": "/ours", "type": SET_BOOL, "direction": "serve", "encoding": "json"},
        ]
    )

    async def serve(request: Any) -> Any:
        return site.codecs.cls(f"{SET_BOOL}_Response")(request.data, "theirs")

    site.node.service("/theirs", SET_BOOL, serve)
    token = session.call("/theirs", cbor2.dumps({"data": True}))
    reply = await receive(session, "/theirs")
    assert (reply.kind, reply.token) == ("reply", token)
    assert cbor2.loads(reply.data) == {"success": True, "message": "theirs"}

    client = site.node.client("/ours", SET_BOOL)
    call = asyncio.create_task(client.call(client.request(data=True)))
    request = await receive(session, "/ours")
    assert (request.kind, json.loads(request.data)) == ("request", {"data": True})
    with pytest.raises(ValidationError):
        session.respond("/ours", request.token, b'{"success": 1}')
    session.respond("/ours", request.token, b'{"success": true, "message": "ours"}')
    assert (await call).message == "ours"


async def test_calls_that_fail_are_told_and_their_number_is_limited(site: Site) -> None:
    session = site.open(
        services=[{"service": "/none", "type": SET_BOOL, "direction": "call", "timeoutSeconds": 0.3, "queue": 100}]
    )
    for _ in range(MAX_OUTSTANDING):
        session.call("/none", b"\xa0")
    with pytest.raises(BusyError):
        session.call("/none", b"\xa0")
    delivery = await receive(session, "/none")
    assert (delivery.kind, delivery.token) == ("failure", 1)
    assert b"no server within 0.3 s" in delivery.data
    await until(lambda: session.statistics()["call /none"]["failed"] == MAX_OUTSTANDING)
    session.call("/none", b"\xa0")


async def test_actions_are_called_and_served_by_applications(site: Site) -> None:
    session = site.open(
        actions=[
            {"action": "/theirs", "type": FIBONACCI, "direction": "call"},
            {"action": "/ours", "type": FIBONACCI, "direction": "serve"},
        ]
    )

    async def execute(goal: Any) -> Any:
        sequence = [0, 1]
        while len(sequence) <= goal.request.order and not goal.cancel_requested:
            sequence.append(sequence[-1] + sequence[-2])
            goal.publish_feedback(site.codecs.cls(f"{FIBONACCI}_Feedback")(sequence=sequence))
            await asyncio.sleep(0.02)
        return site.codecs.cls(f"{FIBONACCI}_Result")(sequence=sequence)

    site.node.action_server("/theirs", FIBONACCI, execute, lambda goal: goal.order < 100_000)
    token = session.call("/theirs", cbor2.dumps({"order": 4}))
    kinds = []
    while True:
        delivery = await receive(session, "/theirs")
        assert delivery.token == token
        kinds.append(delivery.kind)
        if delivery.kind == "result":
            break
    assert kinds[0] == "accepted"
    assert kinds.count("feedback") == 3
    assert (delivery.status, cbor2.loads(delivery.data)) == (SUCCEEDED, {"sequence": [0, 1, 1, 2, 3]})
    session.call("/theirs", cbor2.dumps({"order": 1_000_000}))
    assert (await receive(session, "/theirs")).kind == "rejected"
    token = session.call("/theirs", cbor2.dumps({"order": 50_000}))
    assert (await receive(session, "/theirs")).kind == "accepted"
    session.cancel("/theirs", token)
    while (delivery := await receive(session, "/theirs")).kind != "result":
        pass
    assert delivery.status == CANCELED

    client = site.node.action_client("/ours", FIBONACCI)
    feedback: list[Any] = []
    goal_id = await client.send(client.goal(order=7), feedback.append)
    assert goal_id is not None
    delivery = await receive(session, "/ours")
    assert (delivery.kind, cbor2.loads(delivery.data)) == ("goal", {"order": 7})
    session.feedback("/ours", delivery.token, cbor2.dumps({"sequence": [1]}))
    await until(lambda: feedback)
    result = asyncio.create_task(client.result(goal_id))
    assert await client.cancel(goal_id)
    assert (await receive(session, "/ours")).kind == "cancel"
    session.respond("/ours", delivery.token, cbor2.dumps({"sequence": [1]}), CANCELED)
    status, message = await result
    assert (status, list(message.sequence)) == (CANCELED, [1])


@pytest.mark.parametrize("drop", ["newest", "oldest"])
async def test_results_of_goals_are_kept_for_a_slow_application_and_feedback_is_dropped(site: Site, drop: str) -> None:
    """Results were dropped like messages, so that an application waited for ever."""
    session = site.open(actions=[{"action": "/go", "type": FIBONACCI, "direction": "call", "queue": 4, "drop": drop}])

    async def execute(goal: Any) -> Any:
        for number in range(50):
            goal.publish_feedback(site.codecs.cls(f"{FIBONACCI}_Feedback")(sequence=[number]))
            await asyncio.sleep(0.001)
        return site.codecs.cls(f"{FIBONACCI}_Result")(sequence=[goal.request.order])

    site.node.action_server("/go", FIBONACCI, execute, lambda goal: goal.order > 0)
    tokens = [session.call("/go", cbor2.dumps({"order": order})) for order in (1, 2, 0)]
    # Accepted twice, rejected once, 2 results, and of the feedback what the route's queue takes.
    await until(lambda: session.statistics()["call /go"]["queued"] == 5 + 4, timeout_s=20)
    found = []
    while (delivery := session.receive("/go")) is not None:
        assert isinstance(delivery, Delivery)
        found.append((delivery.kind, delivery.token, delivery.data))
    assert sorted(item[:2] for item in found if item[0] != "feedback") == [
        ("accepted", tokens[0]),
        ("accepted", tokens[1]),
        ("rejected", tokens[2]),
        ("result", tokens[0]),
        ("result", tokens[1]),
    ]
    results = {token: cbor2.loads(data)["sequence"] for kind, token, data in found if kind == "result"}
    assert results == {tokens[0]: [1], tokens[1]: [2]}
    assert session.statistics()["call /go"]["dropped"] == 100 - 4


async def test_calls_whose_ends_the_application_does_not_take_are_bounded(site: Site) -> None:
    session = site.open(
        services=[{"service": "/theirs", "type": SET_BOOL, "direction": "call", "encoding": "json", "queueBytes": 2000}]
    )

    async def serve(request: Any) -> Any:
        return site.codecs.cls(f"{SET_BOOL}_Response")(request.data, "x" * 1500)

    site.node.service("/theirs", SET_BOOL, serve)
    for _ in range(MAX_OUTSTANDING):
        session.call("/theirs", b"{}")
    figures = await until(
        lambda: (found := session.statistics()["call /theirs"])["queued"] == MAX_OUTSTANDING and found, timeout_s=20
    )
    # The first reply has room, the others are told as failures.
    assert figures["queued_bytes"] <= 2000 + MAX_OUTSTANDING * SHORT_BYTES
    with pytest.raises(BusyError, match="64 calls are under way"):
        session.call("/theirs", b"{}")
    ends = [await receive(session, "/theirs") for _ in range(MAX_OUTSTANDING)]
    assert {end.token for end in ends} == set(range(1, MAX_OUTSTANDING + 1))
    assert [end.kind for end in ends].count("reply") == 1
    assert {end.status for end in ends if end.kind == "failure"} == {TOO_BIG}
    assert all(b"does not fit queueBytes" in end.data for end in ends if end.kind == "failure")
    session.call("/theirs", b"{}")
    assert (await receive(session, "/theirs")).kind == "reply"


@pytest.mark.parametrize("drop", ["newest", "oldest"])
async def test_goals_without_room_are_refused_and_those_that_were_accepted_are_not_dropped(
    site: Site, drop: str
) -> None:
    """Accepted goals were dropped for newer ones, and their clients waited until the route's timeout."""
    route = {"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json", "queue": 2, "drop": drop}
    session = site.open(actions=[route])
    client = site.node.action_client("/go", FIBONACCI)
    goals = await asyncio.gather(*(client.send(client.goal(order=order)) for order in range(6)))
    assert [goal_id is not None for goal_id in goals].count(True) == 2
    figures = session.statistics()["serve /go"]
    assert (figures["received"], figures["queued"], figures["dropped"]) == (6, 2, 4)
    (problem,) = figures["problems"]
    assert "too slow for the goals, the newest are not accepted: no room in queue or queueBytes" in problem
    accepted = [goal_id for goal_id in goals if goal_id is not None]
    assert await client.cancel(accepted[0])
    # A cancel has room in a full queue.
    await until(lambda: session.statistics()["serve /go"]["queued"] == 3)
    found = [await receive(session, "/go") for _ in range(3)]
    assert [item.kind for item in found] == ["goal", "goal", "cancel"]
    assert found[2].token == found[0].token
    for item in found[:2]:
        session.respond("/go", item.token, b'{"sequence": [7]}', CANCELED if item is found[0] else SUCCEEDED)
    results = [await client.result(goal_id) for goal_id in accepted]
    assert [(status, list(result.sequence)) for status, result in results] == [(CANCELED, [7]), (SUCCEEDED, [7])]
    assert await client.send(client.goal(order=9)) is not None
    assert (await receive(session, "/go")).kind == "goal"


async def test_goals_above_the_limit_are_refused_whether_they_were_taken_or_not(site: Site) -> None:
    route = {"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "cdr", "queue": 100}
    session = site.open(actions=[route])
    client = site.node.action_client("/go", FIBONACCI)
    goals = await asyncio.gather(*(client.send(client.goal(order=1)) for _ in range(MAX_OUTSTANDING + 3)))
    assert [goal_id is not None for goal_id in goals].count(True) == MAX_OUTSTANDING
    assert f"{MAX_OUTSTANDING} are under way" in session.statistics()["serve /go"]["problems"][0]
    while session.receive("/go") is not None:
        pass
    assert await client.send(client.goal(order=1)) is None
    assert len(session.statistics()["serve /go"]["problems"]) == 1


async def test_goal_ends_as_the_application_says(site: Site) -> None:
    """One that succeeded though its cancel was on the way was told as canceled, one canceled unasked as succeeded.

    One ended with a negative status stayed until its timeout.
    """
    session = site.open(actions=[{"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json"}])
    client = site.node.action_client("/go", FIBONACCI)
    for said, asked, expected in (
        (SUCCEEDED, True, SUCCEEDED),
        (SUCCEEDED, False, SUCCEEDED),
        (CANCELED, True, CANCELED),
        (CANCELED, False, ABORTED),  # ROS has no way from executing to canceled
        (ABORTED, True, ABORTED),
        (-1, False, ABORTED),
    ):
        goal_id = await client.send(client.goal(order=1))
        assert goal_id is not None
        goal = await receive(session, "/go")
        if asked:
            assert await client.cancel(goal_id)
            assert (await receive(session, "/go")).kind == "cancel"
        session.respond("/go", goal.token, b"" if said < 0 else b"{}", said)
        assert (await client.result(goal_id))[0] == expected


async def test_goal_whose_time_is_over_is_aborted_and_not_given(site: Site) -> None:
    route = {"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json", "timeoutSeconds": 0.3}
    session = site.open(actions=[route])
    client = site.node.action_client("/go", FIBONACCI)
    goal_id = await client.send(client.goal(order=1))
    assert goal_id is not None
    assert (await client.result(goal_id))[0] == ABORTED
    assert session.receive("/go") is None
    assert session.statistics()["serve /go"]["dropped"] == 1


@pytest.mark.parametrize("drop", ["newest", "oldest"])
async def test_requests_without_room_are_dropped_newest_first_and_told(site: Site, drop: str) -> None:
    """The oldest were dropped, though their clients still waited."""
    route = {"service": "/ours", "type": SET_BOOL, "direction": "serve", "encoding": "json", "queue": 2, "drop": drop}
    session = site.open(services=[route])
    client = site.node.client("/ours", SET_BOOL)
    await client.ready(20.0)
    calls = [asyncio.create_task(client.call(client.request(data=number < 2), 3.0)) for number in range(5)]
    await until(lambda: session.statistics()["serve /ours"]["received"] == 5)
    figures = session.statistics()["serve /ours"]
    assert (figures["queued"], figures["dropped"], figures["failed"]) == (2, 3, 0)
    assert "too slow for the requests, the newest get no reply: no room in queue" in figures["problems"][0]
    for _ in range(2):
        request = await receive(session, "/ours")
        assert json.loads(request.data) == {"data": True}
        session.respond("/ours", request.token, b'{"success": true}')
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, CallError) for answer in answers] == [False, False, True, True, True]
    (handler,) = session._handlers
    assert isinstance(handler, ServiceServe)
    assert not handler._waiting


async def test_request_whose_time_is_over_is_not_given(site: Site) -> None:
    route = {"service": "/ours", "type": SET_BOOL, "direction": "serve", "timeoutSeconds": 0.2, "queue": 1}
    session = site.open(services=[route])
    client = site.node.client("/ours", SET_BOOL)
    for number in range(1, 3):
        with pytest.raises(CallError, match="no answer"):
            await client.call(client.request(), 0.6)
        assert session.statistics()["serve /ours"]["dropped"] == number
    assert session.receive("/ours") is None
    assert session.statistics()["serve /ours"]["failed"] == 0


async def test_requests_left_unanswered_make_room_at_once(site: Site) -> None:
    """Each held one of 64 places until the route's timeout."""
    session = site.open(services=[{"service": "/ours", "type": SET_BOOL, "direction": "serve", "timeoutSeconds": 600}])
    client = site.node.client("/ours", SET_BOOL)
    await client.ready(20.0)
    for _ in range(MAX_OUTSTANDING + 1):
        call = asyncio.create_task(client.call(client.request(), 60.0))
        request = await receive(session, "/ours")
        session.respond("/ours", request.token, b"", -1)
        call.cancel()
    (handler,) = session._handlers
    assert isinstance(handler, ServiceServe)
    await until(lambda: not handler._waiting)


async def test_goal_is_canceled_as_soon_as_it_is_accepted(site: Site) -> None:
    """A cancel that came before the acceptance was lost, and the goal ran on."""
    session = site.open(actions=[{"action": "/theirs", "type": FIBONACCI, "direction": "call"}])

    async def execute(goal: Any) -> Any:
        while not goal.cancel_requested:  # noqa: ASYNC110 - a goal has no event for it
            await asyncio.sleep(0.01)
        return site.codecs.cls(f"{FIBONACCI}_Result")()

    site.node.action_server("/theirs", FIBONACCI, execute)
    token = session.call("/theirs", cbor2.dumps({"order": 1}))
    session.cancel("/theirs", token)
    assert (await receive(session, "/theirs")).kind == "accepted"
    result = await receive(session, "/theirs")
    assert (result.kind, result.status) == ("result", CANCELED)
    with pytest.raises(NotGrantedError):
        session.cancel("/theirs", token)


async def test_goals_that_have_ended_do_not_count_as_running(site: Site) -> None:
    """After a hundred goals all others of the next quarter of an hour were rejected."""

    async def execute(goal: Any) -> Any:
        return site.codecs.cls(f"{FIBONACCI}_Result")(sequence=[goal.request.order])

    server = site.node.action_server("/quick", FIBONACCI, execute)
    client = site.bridge.node.action_client("/quick", FIBONACCI)
    for order in range(MAX_GOALS + 20):
        goal_id = await client.send(client.goal(order=order))
        assert goal_id is not None
        assert list((await client.result(goal_id))[1].sequence) == [order]
    assert len(server._goals) == MAX_GOALS + 1


async def test_cancel_before_the_execution_begins_is_not_lost(site: Site) -> None:
    seen: list[bool] = []

    async def execute(goal: Any) -> Any:
        seen.append(goal.cancel_requested)
        return site.codecs.cls(f"{FIBONACCI}_Result")()

    server = site.node.action_server("/quick", FIBONACCI, execute)
    request: Any = site.codecs.cls(f"{FIBONACCI}_SendGoal_Request")()
    request.goal_id.uuid = bytes(range(16))
    cancel: Any = site.codecs.cls("action_msgs/srv/CancelGoal_Request")()
    await server._on_goal(request)
    await server._on_cancel(cancel)
    await until(lambda: seen)
    assert seen == [True]


async def test_goal_that_is_not_answered_leaves_nothing_at_its_client(site: Site) -> None:
    async def fail(_: Any) -> Any:
        raise CallError("no answer")

    for part, kind in (
        ("send_goal", f"{FIBONACCI}_SendGoal"),
        ("get_result", f"{FIBONACCI}_GetResult"),
        ("cancel_goal", "action_msgs/srv/CancelGoal"),
    ):
        site.node.service(f"/mute/_action/{part}", kind, fail)
    client = site.bridge.node.action_client("/mute", FIBONACCI)
    with pytest.raises(CallError, match="no answer"):
        await client.send(client.goal(order=1), lambda _: None, 1.0)
    assert not client._callbacks


async def test_services_and_actions_show_peers_that_cannot_be_matched(site: Site) -> None:
    session = site.open(
        services=[
            {"service": "/ours", "type": SET_BOOL, "direction": "serve"},
            {"service": "/other", "type": SET_BOOL, "direction": "serve"},
            {"service": "/theirs", "type": SET_BOOL, "direction": "call"},
        ],
        actions=[{"action": "/go", "type": FIBONACCI, "direction": "serve"}],
    )
    unreliable = QosProfile(reliable=False)
    backend = site.node.backend
    backend.create_client("/ours", SET_BOOL, unreliable)
    backend.create_client("/other", "std_srvs/srv/Trigger", SERVICES)
    backend.create_service("/theirs", "std_srvs/srv/Trigger", SERVICES, lambda data: asyncio.sleep(0, data))
    backend.create_client("/go/_action/send_goal", f"{FIBONACCI}_SendGoal", unreliable)
    for route, says in (
        ("serve /ours", "requests: incompatible QoS with a publisher: reliability"),
        ("serve /other", "requests: a peer has /other with std_srvs::srv::dds_::Trigger_Request_, not"),
        ("call /theirs", "replies: a peer has /theirs with std_srvs::srv::dds_::Trigger_Response_, not"),
        ("serve /go", "requests: incompatible QoS with a publisher: reliability"),
    ):

        def told(route: str = route, says: str = says) -> bool:
            site.bridge.look()
            return says in str(session.statistics()[route]["problems"])

        await until(told, timeout_s=20)


async def test_a_closed_session_leaves_nothing(site: Site) -> None:
    session = site.open(
        topics=[topic(), topic(direction="publish", name="out")],
        services=[{"service": "/s", "type": SET_BOOL, "direction": "serve"}],
    )
    graph = site.node.backend.graph  # type: ignore[attr-defined]
    await until(lambda: graph.endpoints("/imu", publishers=True) and graph.endpoints("/imu", publishers=False))
    session.close()
    await until(lambda: not graph.endpoints("/imu", publishers=True) and not graph.endpoints("/imu", publishers=False))
    await until(lambda: not graph.readers_of("rq/sRequest"))
    assert not site.bridge.statistics()
    site.open(topics=[topic()])


@pytest.mark.parametrize(
    ("rclpy", "reason"), [({}, "needs rclpy.python"), ({"rclpy": {"python": "/bin/false"}}, "/bin/false did not start")]
)
async def test_dds_is_chosen_where_no_rclpy_comes_up(
    domain_id: int, caplog: pytest.LogCaptureFixture, rclpy: dict[str, Any], reason: str
) -> None:
    section = {"discovery": {"interfaces": ["lo"]}, **rclpy}
    with caplog.at_level("INFO", "wasmbed.bridges.ros2"):
        async with start(BridgeConfig.from_dict({"backend": "auto", **section}), domain_id) as bridge:
            assert bridge.node.backend.name == "dds"
    assert "backend dds, since there is no rclpy" in caplog.text
    assert reason in caplog.text
    if rclpy:
        with pytest.raises(ConfigurationError, match=reason):
            async with start(BridgeConfig.from_dict({"backend": "rclpy", **section}), domain_id):
                pass


async def test_the_bridge_offers_parameters_and_its_log(
    domain_id: int, backends: Callable[..., DdsBackend], codecs: CodecFactory
) -> None:
    config = BridgeConfig.from_dict(
        {
            "discovery": {"interfaces": ["lo"]},
            "policy": {"subscribe": ["/*"], "domains": [domain_id]},
            "node": "gateway",
        }
    )
    node = Node(backends("other"), codecs, name="other")
    lines: list[Any] = []
    node.subscription("/rosout", "rcl_interfaces/msg/Log", lines.append)
    async with start(config, domain_id) as bridge:
        remote = node.remote_parameters("/gateway")
        assert await remote.get("backend", "domain_id") == {"backend": "dds", "domain_id": domain_id}
        answers = await remote.set({"backend": "x", "log_level": "loud", "nothing": 1})
        assert answers == {
            "backend": "backend is read-only",
            "log_level": "one of debug, info, warning, error is expected",
            "nothing": "nothing is not declared",
        }
        assert await remote.set({"log_level": "warning"}) == {"log_level": ""}
        assert (await remote.get("log_level"))["log_level"] == "warning"
        assert "distribution" in await remote.list()
        with pytest.raises(ConfigurationError, match=r"policy\.publish"):
            bridge.open("app", parse_routes({"topics": [topic(direction="publish")]}, node.resolve, codecs))
        bridge.node.log(40, "something is wrong")
        await until(lambda: [line for line in lines if line.msg == "something is wrong" and line.name == "gateway"])
    await until(lambda: node.backend.graph.nodes() == ["/other"])  # type: ignore[attr-defined]


async def test_domains_on_threads_of_their_own_do_not_disturb_each_other(codecs: CodecFactory) -> None:
    """Reading discovery data on several threads at once corrupted memory in cyclonedds."""
    for _ in range(3):
        made = [
            DdsBackend(codecs, domain_id=number, node=f"n{copy}", discovery=LOOPBACK)
            for number in (domain(), domain(), domain())
            for copy in range(6)
        ]
        try:
            await until(lambda them=made: all(len(backend.graph.nodes()) == 6 for backend in them), timeout_s=30)
        finally:
            for backend in made:
                await backend.aclose()


@pytest.fixture
def crowds(domain_id: int) -> Iterator[Callable[..., Crowd]]:
    """Makes processes of ten nodes, each in a participant of its own."""
    made: list[Crowd] = []

    def make(prefix: str, rclpy: Path | None = None, max_participants: int = LOOPBACK.max_participants) -> Crowd:
        made.append(Crowd(rclpy, domain_id, prefix, max_participants))
        return made[-1]

    yield make
    for crowd in made:
        crowd.end()


class Crowd:
    def __init__(self, rclpy: Path | None, domain_id: int, prefix: str, max_participants: int) -> None:
        python, kind = (rclpy, "rclpy") if rclpy is not None else (sys.executable, "dds")
        environment = rclpy_environment(domain_id) if rclpy is not None else {}
        self._process = subprocess.Popen(
            [str(python), str(CROWD), kind, str(domain_id), prefix, "10", str(max_participants)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            text=True,
        )

    def said(self) -> str:
        """`ready` with a number, or `failed` with why."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def own_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_fifty_participants_of_five_processes_are_seen(site: Site, crowds: Callable[..., Crowd]) -> None:
    """One of the processes is of rclpy where there is an interpreter, whose participants have ports of their own."""
    foreign = next((python for kind in DISTRIBUTIONS if (python := rclpy_python(kind)) is not None), None)
    gc.collect()
    before = own_bytes()
    made = [crowds(f"p{number}n", foreign if number == 4 else None) for number in range(5)]
    for crowd in made:
        assert await asyncio.to_thread(crowd.said) == "ready 10"
    expected = {f"/p{process}n{number}" for process in range(5) for number in range(10)}
    graph = site.bridge.node.backend.graph  # type: ignore[attr-defined]
    await until(lambda: expected <= set(graph.nodes()), timeout_s=60)
    gc.collect()
    each = (own_bytes() - before) / 50
    assert each < PARTICIPANT_BYTES
    for crowd in made:
        crowd.end()
    await until(lambda: not expected & set(graph.nodes()), timeout_s=60)


async def test_max_participants_is_the_number_of_processes_of_a_host(crowds: Callable[..., Crowd]) -> None:
    for name in "ab":
        assert await asyncio.to_thread(crowds(name, max_participants=2).said) == "ready 10"
    refused = await asyncio.to_thread(crowds("c", max_participants=2).said)
    assert "cyclonedds refused its configuration, or a port from" in refused
    assert await asyncio.to_thread(crowds("d").said) == "ready 10"
