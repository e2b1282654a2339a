"""The host calls of `wasmbed:ros2` against a node of somebody else: good, bad and hostile, on the DDS backend."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
import pytest_asyncio
from mcap.reader import make_reader
from ros2_host import Host, hosted, other_node, section, until
from ros2_support import domain
from wasmbed.bridges.ros2.config import BridgeConfig
from wasmbed.bridges.ros2.handlers import MAX_OUTSTANDING
from wasmbed.bridges.ros2.qos import LATCHED, PARAMETERS, SENSOR_DATA
from wasmbed.bridges.ros2.recording import Recorder
from wasmbed.bridges.ros2.replay import read
from wasmbed.gateway import ros2_session
from wasmbed.gateway.ros2_config import Ros2PolicyConfig, Ros2RecordedConfig, Ros2RecordingConfig
from wasmbed.gateway.ros2_recording import prune
from wasmbed.hostcalls import Ended, RefusedError, Status
from wasmbed.runtime.abi import Ros2Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wasmbed.bridges.ros2 import Node
    from wasmbed.bridges.ros2.types import CodecFactory

IMU = "sensor_msgs/msg/Imu"
STRING = "std_msgs/msg/String"
SET_BOOL = "std_srvs/srv/SetBool"
FIBONACCI = "fib_msgs/action/Fibonacci"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of the user's with an action."""
    folder = tmp_path / "packages"
    (folder / "fib_msgs/action").mkdir(parents=True)
    (folder / "fib_msgs/action/Fibonacci.action").write_text(
        "int32 order\n---\nint32[] sequence\n---\nint32[] sequence\n"
    )
    return folder


@pytest.fixture
def with_fibonacci(package: Path) -> CodecFactory:
    return BridgeConfig(packages=(package,)).codecs()


@pytest_asyncio.fixture
async def host(domain_id: int, package: Path, tmp_path: Path) -> AsyncIterator[Host]:
    async with hosted(section(domain_id, packages=(package,)), tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def other(domain_id: int, with_fibonacci: CodecFactory) -> AsyncIterator[Node]:
    async with other_node(with_fibonacci, domain_id) as node:
        yield node


def topic(name: str = "/imu", type_name: str = IMU, direction: str = "subscribe", **options: Any) -> dict[str, Any]:
    return {"topic": name, "type": type_name, "direction": direction, **options}


async def test_messages_come_from_when_the_route_is_opened(host: Host, other: Node) -> None:
    await host.open(topics=[topic(encoding="json", fields=["linear_acceleration.x"])])
    publisher = other.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    message: Any = other.codecs.cls(IMU)()
    publisher.publish(message)
    await until(lambda: host.fate("subscribe /imu", "dropped") == 1)
    assert host.runtime.told() == []
    host.call("open", "/imu", 0)
    message.linear_acceleration.x = 2.5
    publisher.publish(message)
    await until(host.runtime.told)
    (told,) = host.runtime.told()
    assert (told.handle, told.kind, told.token) == (0, Ros2Kind.MESSAGE, 0)
    assert json.loads(told.data) == {"linear_acceleration": {"x": 2.5}}
    host.call("close", 0)
    publisher.publish(message)
    # What nobody wants is dropped, not delivered.
    await until(lambda: host.fate("subscribe /imu", "dropped") == 2)
    assert len(host.runtime.told()) == 1
    assert host.fate("subscribe /imu", "received") == 3
    assert host.fate("subscribe /imu", "delivered") == 1


async def numbered(host: Host, other: Node, queue: int, count: int) -> None:
    """Publish so many messages to an application whose runtime tells what it takes."""
    await host.open(topics=[topic("/fast", STRING, encoding="cdr", queue=queue, qos={"profile": "parameters"})])
    host.call("open", "/fast", 0)
    publisher = other.publisher("/fast", STRING, PARAMETERS)
    await until(lambda: publisher.statistics.matched)
    host.call("taken", 0, 64)
    for number in range(count):
        publisher.publish(other.codecs.cls(STRING)(f"{number}"))
        # One after the other, so that none is dropped but for the application's sake.
        await until(lambda number=number: host.fate("subscribe /fast", "received") == number + 1)


def sent_numbers(host: Host, other: Node) -> list[int]:
    codec = other.codecs.codec(STRING)
    return [int(codec.loads(told.data).data) for told in host.runtime.told()]


async def test_what_an_application_has_no_room_for_waits_in_the_route(
    host: Host, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ros2_session, "LATE_S", 3600.0)
    await numbered(host, other, queue=16, count=200)
    # 128 are under way; of the others the last 16 wait.
    await until(lambda: len(host.runtime.told()) == 128)
    assert host.fate("subscribe /fast", "dropped") == 200 - 128 - 16
    host.call("taken", 0, 64)
    await until(lambda: len(host.runtime.told()) == 144)
    numbers = sent_numbers(host, other)
    assert numbers == sorted(numbers)
    assert numbers[128:] == list(range(184, 200))
    host.call("taken", 0, -1)
    host.call("taken", 9, 1)
    assert host.results("taken") == {"ok": 2, "invalid": 2}


async def test_application_that_is_not_heard_of_is_sent_more_after_a_while(host: Host, other: Node) -> None:
    await numbered(host, other, queue=16, count=200)
    await until(lambda: sent_numbers(host, other)[-1:] == [199])


async def test_latched_message_waits_until_the_route_is_opened(host: Host, other: Node) -> None:
    publisher = other.publisher("/map", STRING, LATCHED)
    publisher.publish(other.codecs.cls(STRING)("the map"))
    await host.open(topics=[topic("/map", STRING, encoding="json", qos={"profile": "latched"})])
    await until(lambda: host.registry.get_sample_value("wasmbed_ros2_route_queued", _labels("subscribe /map")))
    host.call("open", "/map", 0)
    await until(host.runtime.told)
    assert json.loads(host.runtime.told()[0].data) == {"data": "the map"}
    # One that comes later gets it too, though the topic is subscribed already.
    await host.open("late", topics=[topic("/map", STRING, encoding="json", qos={"profile": "latched"})])
    host.call("open", "/map", 0, name="late")
    await until(lambda: len(host.runtime.told()) == 2)


def _labels(route: str) -> dict[str, str]:
    return {"application": "default/app", "device": "default/drone-1", "route": route}


async def test_application_publishes_in_its_order(host: Host, other: Node) -> None:
    received: list[str] = []
    subscription = other.subscription("/out", STRING, lambda message: received.append(message.data), PARAMETERS)
    await host.open(topics=[topic("/out", STRING, "publish", qos={"profile": "parameters"})])
    host.call("open", "/out", 0)
    await until(lambda: subscription.statistics.matched)
    for number in range(200):
        host.call("publish", 0, data=cbor2.dumps({"data": str(number)}))
    await until(lambda: len(received) == 200)
    assert received == [str(number) for number in range(200)]
    assert host.results("publish") == {"ok": 200}


async def test_gateway_is_a_node_from_the_start_and_sees_the_others(host: Host, other: Node, domain_id: int) -> None:
    domain = {"domain": str(domain_id)}
    await until(lambda: host.registry.get_sample_value("wasmbed_ros2_up", domain) == 1)
    async with asyncio.timeout(60):
        while "/wasmbed_gw_1" not in await other.backend.nodes():  # noqa: ASYNC110 - a condition of another thread
            await asyncio.sleep(0.05)
    await until(lambda: host.registry.get_sample_value("wasmbed_ros2_nodes", domain) == 1)


async def test_device_stands_in_topics_for_its_name(host: Host, other: Node) -> None:
    received: list[str] = []
    subscription = other.subscription("/drone_1/out", STRING, lambda message: received.append(message.data))
    await host.open(topics=[topic("/{device}/out", STRING, "publish", encoding="json")])
    host.call("open", "/{device}/out", 0)
    await until(lambda: subscription.statistics.matched)
    host.call("publish", 0, data=b'{"data": "x"}')
    await until(lambda: received == ["x"])


async def test_application_is_in_the_domain_it_names_when_the_gateway_lets_it(
    domain_id: int, tmp_path: Path, with_fibonacci: CodecFactory
) -> None:
    theirs = domain()
    policy = Ros2PolicyConfig(subscribe=("/*",), domains=(domain_id, theirs))
    async with hosted(section(domain_id, policy=policy), tmp_path) as host, other_node(with_fibonacci, theirs) as node:
        await host.open(topics=[topic("/in", STRING, encoding="json")], domainId=theirs)
        host.call("open", "/in", 0)
        publisher = node.publisher("/in", STRING)
        await until(lambda: publisher.statistics.matched)
        publisher.publish(node.codecs.cls(STRING)("of another domain"))
        await until(host.runtime.told)
        assert json.loads(host.runtime.told()[0].data) == {"data": "of another domain"}


async def test_service_is_called_with_the_tokens_of_the_application(host: Host, other: Node) -> None:
    async def serve(request: Any) -> Any:
        await asyncio.sleep(0.05 if request.data else 0.0)
        return other.codecs.cls(f"{SET_BOOL}_Response")(request.data, "done")

    other.service("/set", SET_BOOL, serve)
    await host.open(services=[{"service": "/set", "type": SET_BOOL, "direction": "call", "encoding": "json"}])
    host.call("open", "/set", 0)
    host.call("call", 0, data=b'{"data": true}', token=71)
    host.call("call", 0, data=b'{"data": false}', token=72)
    await until(lambda: len(host.runtime.told()) == 2)
    told = {item.token: item for item in host.runtime.told()}
    assert {item.kind for item in told.values()} == {Ros2Kind.REPLY}
    assert json.loads(told[71].data) == {"success": True, "message": "done"}
    assert json.loads(told[72].data) == {"success": False, "message": "done"}


async def test_call_without_server_or_with_a_bad_request_fails_with_its_code(host: Host) -> None:
    await host.open(services=[{"service": "/no", "type": SET_BOOL, "direction": "call", "timeoutSeconds": 0.3}])
    host.call("open", "/no", 0)
    host.call("call", 0, data=cbor2.dumps({"data": True}), token=1)
    host.call("call", 0, data=cbor2.dumps({"data": "yes"}), token=2)
    host.call("call", 0, data=b"\xff" * 1000, token=3)
    await until(lambda: len(host.runtime.told()) == 3)
    assert {(item.token, item.kind, item.status) for item in host.runtime.told()} == {
        (1, Ros2Kind.FAILURE, Status.TIMEOUT),
        (2, Ros2Kind.FAILURE, Status.INVALID),
        (3, Ros2Kind.FAILURE, Status.INVALID),
    }


async def test_application_serves_a_service(host: Host, other: Node) -> None:
    await host.open(services=[{"service": "/mine", "type": SET_BOOL, "direction": "serve", "encoding": "json"}])
    host.call("open", "/mine", 0)
    client = other.client("/mine", SET_BOOL)
    asking = asyncio.ensure_future(client.call(client.request(data=True), 20.0))
    await until(lambda: host.runtime.told(Ros2Kind.REQUEST))
    (request,) = host.runtime.told()
    assert json.loads(request.data) == {"data": True}
    host.call("respond", 0, request.token + 99, 0, data=b'{"success": false}')
    host.call("respond", 0, request.token, 0, data=b'{"success": 5}')
    host.call("respond", 0, request.token, 0, data=b'{"success": true, "message": "mine"}')
    answer = await asking
    assert (answer.success, answer.message) == (True, "mine")
    assert host.fate("serve /mine", "malformed") == 1


async def test_goal_goes_there_and_back(host: Host, other: Node) -> None:
    """An action between two applications of different devices, one calling and one serving."""
    await host.open(actions=[{"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json"}])
    await host.open("pilot", actions=[{"action": "/go", "type": FIBONACCI, "direction": "call", "encoding": "json"}])
    host.call("open", "/go", 0)
    host.call("open", "/go", 0, name="pilot")
    host.call("call", 0, data=b'{"order": 3}', token=5, name="pilot")
    await until(lambda: host.runtime.told(Ros2Kind.GOAL))
    (goal,) = host.runtime.told(Ros2Kind.GOAL)
    await until(lambda: host.runtime.told(Ros2Kind.ACCEPTED))
    host.call("feedback", 0, goal.token, data=b'{"sequence": [0]}')
    await until(lambda: host.runtime.told(Ros2Kind.FEEDBACK))
    host.call("cancel", 0, 5, name="pilot")
    host.call("cancel", 0, 6, name="pilot")
    await until(lambda: host.runtime.told(Ros2Kind.CANCEL))
    host.call("respond", 0, goal.token, 5, data=b'{"sequence": [0, 1]}')
    await until(lambda: host.runtime.told(Ros2Kind.RESULT))
    (result,) = host.runtime.told(Ros2Kind.RESULT)
    assert (result.token, result.status, json.loads(result.data)) == (5, 5, {"sequence": [0, 1]})
    assert host.results("cancel") == {"ok": 1, "notfound": 1}


async def test_results_of_goals_reach_an_application_that_was_slow_for_their_feedback(
    host: Host, other: Node, with_fibonacci: CodecFactory
) -> None:
    """A result was dropped for feedback; the goal stayed open here and in the runtime, and calls failed for good."""

    async def execute(goal: Any) -> Any:
        for number in range(100):
            goal.publish_feedback(with_fibonacci.cls(f"{FIBONACCI}_Feedback")(sequence=[number]))
            await asyncio.sleep(0.001)
        return with_fibonacci.cls(f"{FIBONACCI}_Result")(sequence=[goal.request.order])

    other.action_server("/go", FIBONACCI, execute, lambda _: True)
    route = {"action": "/go", "type": FIBONACCI, "direction": "call", "encoding": "json", "queue": 4, "drop": "newest"}
    await host.open(actions=[route])
    host.call("open", "/go", 0)
    host.runtime.backlog_bytes = 64 << 20
    for token in (5, 6):
        host.call("call", 0, data=f'{{"order": {token}}}'.encode(), token=token)
    queued = "wasmbed_ros2_route_queued"
    await until(lambda: host.registry.get_sample_value(queued, _labels("call /go")) == 2 * 2 + 4)
    assert host.fate("call /go", "dropped") == 200 - 4
    host.runtime.backlog_bytes = 0
    await until(lambda: len(host.runtime.told(Ros2Kind.RESULT)) == 2)
    results = {told.token: json.loads(told.data)["sequence"] for told in host.runtime.told(Ros2Kind.RESULT)}
    assert results == {5: [5], 6: [6]}
    (session,) = host.backend._sessions.values()
    assert session._tokens == {}


async def test_goals_and_requests_of_a_route_that_is_not_open_are_refused_at_once(host: Host, other: Node) -> None:
    """Goals were accepted and waited; each request held one of 64 places until its timeout."""
    await host.open(
        services=[{"service": "/mine", "type": SET_BOOL, "direction": "serve", "encoding": "json"}],
        actions=[{"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json"}],
    )
    client, services = other.action_client("/go", FIBONACCI), other.client("/mine", SET_BOOL)
    assert await client.send(client.goal(order=1), timeout_s=20.0) is None
    await services.ready(20.0)
    calls = [asyncio.ensure_future(services.call(services.request(), 60.0)) for _ in range(MAX_OUTSTANDING)]
    await until(lambda: host.fate("serve /mine", "dropped") == MAX_OUTSTANDING)
    host.call("open", "/mine", 0)
    host.call("open", "/go", 1)
    goal_id = await client.send(client.goal(order=2))
    assert goal_id is not None
    calls.append(asyncio.ensure_future(services.call(services.request(data=True), 60.0)))
    await until(lambda: host.runtime.told(Ros2Kind.REQUEST) and host.runtime.told(Ros2Kind.GOAL))
    (request,), (goal,) = host.runtime.told(Ros2Kind.REQUEST), host.runtime.told(Ros2Kind.GOAL)
    assert (json.loads(request.data), json.loads(goal.data)) == ({"data": True}, {"order": 2})
    host.call("respond", 1, goal.token, 0, data=b"{}")
    assert (await client.result(goal_id))[0] == 4
    for call in calls:
        call.cancel()


async def test_goals_that_wait_when_their_route_is_closed_are_aborted(host: Host, other: Node) -> None:
    await host.open(actions=[{"action": "/go", "type": FIBONACCI, "direction": "serve", "encoding": "json"}])
    host.call("open", "/go", 0)
    client = other.action_client("/go", FIBONACCI)
    host.runtime.backlog_bytes = 64 << 20
    goal_id = await client.send(client.goal(order=1), timeout_s=20.0)
    assert goal_id is not None
    await until(lambda: host.registry.get_sample_value("wasmbed_ros2_route_queued", _labels("serve /go")) == 1)
    host.call("close", 0)
    assert (await client.result(goal_id, 20.0))[0] == 6
    assert host.fate("serve /go", "dropped") == 1


async def test_goal_is_canceled_right_behind_its_call(host: Host, other: Node, with_fibonacci: CodecFactory) -> None:
    """A cancel that came before the bridge had begun the call was not found."""

    async def execute(goal: Any) -> Any:
        while not goal.cancel_requested:  # noqa: ASYNC110 - a goal has no event for it
            await asyncio.sleep(0.01)
        return with_fibonacci.cls(f"{FIBONACCI}_Result")()

    other.action_server("/go", FIBONACCI, execute)
    await host.open(actions=[{"action": "/go", "type": FIBONACCI, "direction": "call", "encoding": "json"}])
    host.call("open", "/go", 0)
    host.call("call", 0, data=b'{"order": 1}', token=5)
    host.call("cancel", 0, 5)
    host.call("cancel", 0, 6)
    await until(lambda: host.runtime.told(Ros2Kind.RESULT))
    (result,) = host.runtime.told(Ros2Kind.RESULT)
    assert (result.token, result.status) == (5, 5)
    assert host.results("cancel") == {"ok": 1, "notfound": 1}
    (session,) = host.backend._sessions.values()
    assert not session._beginning


async def test_call_that_was_given_up_is_not_begun_later(
    host: Host, other: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as failed, and its reply came nevertheless."""
    served: list[bool] = []

    async def serve(request: Any) -> Any:
        served.append(request.data)
        return other.codecs.cls(f"{SET_BOOL}_Response")(request.data, "done")

    other.service("/set", SET_BOOL, serve)
    await host.open(services=[{"service": "/set", "type": SET_BOOL, "direction": "call", "encoding": "json"}])
    host.call("open", "/set", 0)
    monkeypatch.setitem(host.backend.operations, "call", 0.1)  # type: ignore[arg-type]
    busy = threading.Event()
    host.backend.bridges.post(lambda: busy.wait(30) and None)
    host.call("call", 0, data=b'{"data": true}', token=1)
    await until(lambda: host.runtime.told(Ros2Kind.FAILURE))
    busy.set()
    host.call("call", 0, data=b'{"data": false}', token=2)
    await until(lambda: host.runtime.told(Ros2Kind.REPLY))
    assert served == [False]
    assert [item.token for item in host.runtime.told()] == [1, 2]


@pytest.mark.parametrize(
    ("ros2", "says"),
    [
        ({"topics": [topic(type_name="sensor_msgs/Nothing")]}, r"communication\.ros2\.topics\[0\]\.type: .*Nothing"),
        ({"topics": [topic("/a b")]}, r"communication\.ros2\.topics\[0\]\.topic: "),
        ({"topics": [topic(), topic("/x" * 40)]}, r"communication\.ros2\.topics\[1\]\.name: 1 to 64"),
        ({"topics": [topic(), topic(direction="publish")]}, r"topics\[1\]\.topic: /imu is there twice"),
        ({"topics": [topic(fields=["nothing"])]}, r"communication\.ros2\.topics\[0\]\..*nothing"),
        (
            {"services": [{"service": "/s", "type": IMU, "direction": "call"}]},
            r"services\[0\]\.type: .*not of kind srv",
        ),
        (
            {"topics": [topic("/secret/imu")]},
            r"topics\[0\]\.topic: /secret/imu: the gateway's policy\.subscribe allows",
        ),
        ({"topics": [topic("/{device}/imu")], "domainId": 231}, r"communication\.ros2\.domainId: 231 is not in"),
    ],
)
async def test_wrong_route_is_refused_with_its_field(
    domain_id: int, tmp_path: Path, ros2: dict[str, Any], says: str
) -> None:
    policy = Ros2PolicyConfig(subscribe=("/imu", "/drone_1/*"), publish=("*",), call=("*",))
    async with hosted(section(domain_id, policy=policy), tmp_path) as host:
        with pytest.raises(RefusedError, match=says):
            await host.open(**ros2)
        host.call("open", "/imu", 0, token=1)
        await until(lambda: host.runtime.events)


async def test_calls_that_a_route_does_not_have_are_invalid(host: Host) -> None:
    await host.open(
        topics=[topic(), topic("/out", STRING, "publish")],
        services=[{"service": "/set", "type": SET_BOOL, "direction": "call"}],
    )
    for op, *args in (
        ("open", "/other", 0),
        ("open", "/imu", 9),
        ("open", 0, "/imu"),
        ("close", 3),
        ("close", -1),
        ("publish", 0),
        ("publish", "1"),
        ("publish",),
        ("respond", 0, 1, 0),
        ("feedback", 2, 1),
        ("cancel", 2, -1),
        ("cancel", 2, "1"),
    ):
        host.call(op, *args)
        assert host.results(op).get("invalid", 0) >= 1, op
        assert "ok" not in host.results(op), op


async def test_hostile_calls_have_a_code_and_harm_nobody(host: Host, other: Node) -> None:
    """Whatever a runtime sends, it is answered by a code, and the route beside it goes on."""
    chance = random.Random(11)
    await host.open(topics=[topic(encoding="cdr"), topic("/out", STRING, "publish")])
    host.call("open", "/imu", 0)
    publisher = other.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    values: list[Any] = [0, 1, 2, -1, 1 << 62, -(1 << 62), 1e300, float("nan"), "", "/imu", "x" * 10_000, "\0"]
    for _ in range(2000):
        op = chance.choice([*host.backend.operations, "nothing"])
        args = [chance.choice(values) for _ in range(chance.randrange(4))]
        host.call(op, *args, data=chance.randbytes(chance.randrange(64)), token=chance.randrange(3))
        await asyncio.sleep(0)
    host.call("open", "/imu", 0)
    publisher.publish(other.codecs.cls(IMU)())
    await until(lambda: host.runtime.told(Ros2Kind.MESSAGE))
    assert sum(sum(host.results(op).values()) for op in [*host.backend.operations, "other"]) == 2002
    assert all("io" not in host.results(op) for op in host.backend.operations)


async def test_sessions_end_with_their_instance_and_begin_anew_after_a_trap(host: Host, other: Node) -> None:
    await host.open(topics=[topic(encoding="cdr")])
    host.call("open", "/imu", 0)
    publisher = other.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    host.dispatcher.trapped(host.spec().name)
    host.call("open", "/imu", 0)
    deadline = time.monotonic() + 10
    while not host.runtime.told():
        assert time.monotonic() < deadline
        publisher.publish(other.codecs.cls(IMU)())
        await asyncio.sleep(0.02)
    await host.dispatcher.close(host.spec().name, Ended.STOPPED)
    await until(lambda: publisher.statistics.matched == 0)


async def test_slow_runtime_costs_messages_that_are_counted_and_no_memory(host: Host, other: Node) -> None:
    await host.open(topics=[topic("/fast", STRING, encoding="cdr", queue=16)])
    host.call("open", "/fast", 0)
    publisher = other.publisher("/fast", STRING)
    await until(lambda: publisher.statistics.matched)
    host.runtime.backlog_bytes = 64 << 20
    message = other.codecs.cls(STRING)("x" * 1000)
    deadline = time.monotonic() + 60
    while host.fate("subscribe /fast", "dropped") <= 100:
        assert time.monotonic() < deadline
        publisher.publish(message)
        await asyncio.sleep(0)
    assert host.runtime.told() == []
    queued = host.registry.get_sample_value("wasmbed_ros2_route_queued", _labels("subscribe /fast"))
    assert queued is not None
    assert queued <= 16
    host.runtime.backlog_bytes = 0
    await until(lambda: len(host.runtime.told()) >= 16)


async def test_peer_that_cannot_be_matched_is_in_the_figures_and_in_the_log(
    host: Host, other: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await host.open(topics=[topic(), topic("/other", STRING)])
    other.publisher("/imu", IMU, SENSOR_DATA)
    other.publisher("/other", IMU)
    for route, says in (
        ("subscribe /imu", "incompatible QoS with a publisher: reliability"),
        ("subscribe /other", "a peer has /other as sensor_msgs::msg::dds_::Imu_, not std_msgs::msg::dds_::String_"),
    ):
        await until(lambda name=route: host.registry.get_sample_value("wasmbed_ros2_route_problems", _labels(name)), 20)
        await until(lambda name=route, text=says: f"route={name} problem={text}" in caplog.text, 20)


async def test_configured_topics_are_recorded_and_old_recordings_make_room(
    domain_id: int, tmp_path: Path, codecs: CodecFactory
) -> None:
    wanted = Ros2RecordingConfig(
        (Ros2RecordedConfig("/rec", "std_msgs/String", "parameters"),), max_file_bytes=65536, max_total_bytes=200_000
    )
    async with hosted(section(domain_id, recording=wanted), tmp_path) as host, other_node(codecs, domain_id) as other:
        publisher = other.publisher("/rec", STRING, PARAMETERS)
        await until(lambda: publisher.statistics.matched)
        for number in range(50):
            publisher.publish(codecs.cls(STRING)(f"{number} " + "x" * 1000))
        written = {"domain": str(domain_id), "fate": "written"}
        await until(lambda: host.registry.get_sample_value("wasmbed_ros2_recorded_total", written) == 50)
    (folder,) = (tmp_path / "recordings").iterdir()
    assert len(list(read(folder))) == 50
    newer = tmp_path / "recordings/99999999T000000-domain0"
    newer.mkdir()
    (newer / "a.mcap").write_bytes(bytes(300_000))
    prune(tmp_path / "recordings", newer, 310_000)
    assert folder.exists()
    prune(tmp_path / "recordings", newer, 300_000)
    assert not folder.exists()
    assert newer.exists()


async def test_a_recording_of_an_earlier_run_is_finished_while_the_bridge_runs(
    domain_id: int, tmp_path: Path, codecs: CodecFactory
) -> None:
    recorder = Recorder(tmp_path / "recordings", "00000000T000000-domain0", codecs.store)
    for number in range(50):
        recorder.record("/rec", STRING, codecs.codec(STRING).dumps(codecs.cls(STRING)(str(number))), number + 1)
    recorder.close()
    path = tmp_path / "recordings/00000000T000000-domain0/00000000T000000-domain0_0.mcap"
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    wanted = Ros2RecordingConfig((Ros2RecordedConfig("/rec", "std_msgs/String", "parameters"),))
    async with hosted(section(domain_id, recording=wanted), tmp_path):
        await until(lambda: path.read_bytes().endswith(whole[-8:]))
    with path.open("rb") as stream:
        assert [message.log_time for _, _, message in make_reader(stream).iter_messages()] == list(range(1, 51))
