"""Against real nodes of rclpy, in processes of their own: jazzy (Fast DDS 2) and kilted (Fast DDS 3)."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from ros2_host import hosted, section
from ros2_support import LOOPBACK, Peer, listed, message_of, until
from wasmbed.bridges.ros2 import Node, qos
from wasmbed.bridges.ros2.dds import DdsBackend
from wasmbed.bridges.ros2.errors import IncompatiblePeerError
from wasmbed.bridges.ros2.types import Plain, type_hash

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wasmbed.bridges.ros2.types import CodecFactory

TYPES = (
    "std_msgs/msg/Empty",
    "std_msgs/msg/Bool",
    "std_msgs/msg/Byte",
    "std_msgs/msg/Char",
    "std_msgs/msg/Int64",
    "std_msgs/msg/UInt16",
    "std_msgs/msg/Float32",
    "std_msgs/msg/String",
    "std_msgs/msg/Header",
    "std_msgs/msg/ColorRGBA",
    "std_msgs/msg/UInt8MultiArray",
    "std_msgs/msg/Float64MultiArray",
    "builtin_interfaces/msg/Time",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/PolygonStamped",
    "geometry_msgs/msg/TransformStamped",
    "sensor_msgs/msg/Imu",
    "sensor_msgs/msg/NavSatFix",
    "sensor_msgs/msg/BatteryState",
    "sensor_msgs/msg/JointState",
    "sensor_msgs/msg/LaserScan",
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/OccupancyGrid",
    "diagnostic_msgs/msg/DiagnosticArray",
    "visualization_msgs/msg/MarkerArray",
    "trajectory_msgs/msg/JointTrajectory",
    "rcl_interfaces/msg/ParameterEvent",
    "test_msgs/msg/Arrays",
    "test_msgs/msg/BoundedSequences",
    "test_msgs/msg/BoundedPlainSequences",
    "test_msgs/msg/UnboundedSequences",
    "test_msgs/msg/MultiNested",
    "test_msgs/msg/Strings",
    "test_msgs/msg/WStrings",
    "test_msgs/msg/Defaults",
    "test_msgs/msg/Builtins",
)
STRING = "std_msgs/msg/String"
SET_BOOL = "std_srvs/srv/SetBool"
IMU = "sensor_msgs/msg/Imu"
COLOR = "std_msgs/msg/ColorRGBA"
# Until a peer is seen at all.
DISCOVERY_S = 3.0


@pytest.fixture
def ours(ros_python: tuple[str, Path], ros_codecs: CodecFactory, domain_id: int) -> Iterator[Node]:
    """Our node on the DDS backend."""
    backend = DdsBackend(ros_codecs, domain_id=domain_id, node="ours", discovery=LOOPBACK, distribution=ros_python[0])
    yield Node(backend, ros_codecs, name="ours")
    backend.context.close()


async def connected(peer: Peer, ours: Node, type_name: str, number: int) -> tuple[Any, Any, list[Any]]:
    """A topic to the peer, which tells what it gets and sends it back on another one."""
    received: list[Any] = []
    to, back = f"/to{number}", f"/back{number}"
    subscription = ours.subscription(back, type_name, received.append)
    publisher = ours.publisher(to, type_name)
    await peer.run("subscribe", topic=to, type_name=type_name)
    await peer.run("echo", source=to, target=back, type_name=type_name)
    await until(lambda: publisher.statistics.matched == 2 and subscription.statistics.matched == 1)
    return publisher, subscription, received


async def test_topics_pass_both_ways(peer: Peer, ours: Node) -> None:
    """What rclpy says of a message is what was sent, and what it sends back is read as the same."""
    chance = random.Random(11)
    for number, type_name in enumerate(TYPES):
        publisher, subscription, received = await connected(peer, ours, type_name, number)
        for size in (0, 5):
            message = message_of(ours.codecs, type_name, chance, size)
            received.clear()
            publisher.publish(message)
            try:
                said = await peer.next_message()
            except AssertionError:
                pytest.fail(f"{type_name} did not arrive")
            assert said["message"] == listed(_as_seen(ours.codecs, type_name, message)), type_name
            await until(lambda got=received: got)
            assert received == [message], type_name
        publisher.close()
        subscription.close()


def _as_seen(codecs: CodecFactory, type_name: str, message: Any) -> Any:
    return Plain(codecs, type_name).to_dict(message)


async def test_an_image_of_a_megabyte_passes_both_ways(peer: Peer, ours: Node) -> None:
    type_name = "sensor_msgs/msg/Image"
    received: list[Any] = []
    subscription = ours.subscription("/back", type_name, received.append)
    publisher = ours.publisher("/to", type_name)
    await peer.run("echo", source="/to", target="/back", type_name=type_name)
    await until(lambda: publisher.statistics.matched and subscription.statistics.matched)
    message = ours.codecs.cls(type_name)(height=1, width=2, data=random.Random(12).randbytes(1_000_000))
    # Cyclone leaves out a fragmented message that comes with a Fast DDS writer's first heartbeat.
    small = ours.codecs.cls(type_name)()
    publisher.publish(small)
    await until(lambda: received)
    await asyncio.sleep(0.1)
    publisher.publish(message)
    await asyncio.sleep(0.5)
    for _ in range(5):
        received.clear()
        publisher.publish(message)
        await until(lambda: received)
        assert received[-1] == message


@pytest.mark.parametrize("offer", [(True, True), (True, False), (False, True), (False, False)])
async def test_qos_matches_as_with_ros(peer: Peer, ours: Node, offer: tuple[bool, bool]) -> None:
    """Each offer against each request, both ways."""
    for number, request in enumerate(((True, True), (True, False), (False, True), (False, False))):
        offered, requested = (qos.QosProfile(reliable, local) for reliable, local in (offer, request))
        expected = qos.incompatibility(offered, requested)
        theirs = {"best_effort": not request[0], "transient_local": request[1]}
        publisher = ours.publisher(f"/a{number}", STRING, offered)
        await peer.run("subscribe", topic=f"/a{number}", type_name=STRING, **theirs)
        theirs = {"best_effort": not offer[0], "transient_local": offer[1]}
        subscription = ours.subscription(f"/b{number}", STRING, lambda _: None, requested)
        await peer.run("publisher", topic=f"/b{number}", type_name=STRING, **theirs)
        for endpoint in (publisher, subscription):
            if expected is None:
                await until(lambda it=endpoint: it.statistics.matched == 1)
            else:
                await until(lambda it=endpoint: it.statistics.problems)
                assert expected in endpoint.statistics.problems[0]
                assert endpoint.statistics.matched == 0


async def test_late_joiners_get_what_is_kept(peer: Peer, ours: Node) -> None:
    profile = qos.QosProfile(transient_local=True, depth=2)
    theirs = {"transient_local": True, "depth": 2}
    publisher = ours.publisher("/ours", STRING, profile)
    await peer.run("publisher", topic="/theirs", type_name=STRING, **theirs)
    for number in range(4):
        publisher.publish(ours.codecs.cls(STRING)(str(number)))
        await peer.run("publish", topic="/theirs", values={"data": str(number)})
    await peer.run("subscribe", topic="/ours", type_name=STRING, **theirs)
    assert [(await peer.next_message())["message"]["data"] for _ in range(2)] == ["2", "3"]
    received: list[str] = []
    ours.subscription("/theirs", STRING, lambda message: received.append(message.data), profile)
    await until(lambda: received == ["2", "3"])


async def test_our_node_is_one_of_theirs(peer: Peer, ours: Node, ros_python: tuple[str, Path]) -> None:
    publisher = ours.publisher("/ours", STRING)
    ours.subscription("/ours", STRING, lambda _: None)
    await peer.run("subscribe", topic="/ours", type_name=STRING)
    await until(lambda: publisher.statistics.matched == 2)
    async with asyncio.timeout(60):
        while True:
            found = await peer.run("graph", topic="/ours")
            topics = await peer.run("node_topics", node="ours", namespace="/") if "/ours" in found["nodes"] else {}
            if "/ours" in topics.get("publishers", {}) and "/ours" in topics.get("subscriptions", {}):
                break
            await asyncio.sleep(0.05)
    assert found["nodes"] == ["/ours", "/peer"]
    assert found["topics"]["/ours"] == [STRING]
    assert topics["publishers"]["/ours"] == topics["subscriptions"]["/ours"] == [STRING]
    assert [item["hash"] for item in found["publishers"]] == [type_hash(ours.codecs.store, STRING)]
    # kilted does not relate endpoints of Cyclone to their participant when it is asked by topic.
    names = ["ours", "peer"] if ros_python[0] == "jazzy" else ["_CREATED_BY_BARE_DDS_APP_", "peer"]
    assert sorted(item["node"] for item in found["subscriptions"]) == names
    graph = ours.backend.graph  # type: ignore[attr-defined]
    await until(lambda: graph.nodes() == ["/ours", "/peer"])
    await until(lambda: {it.node for it in graph.endpoints("/ours", publishers=False)} == {"/ours", "/peer"})


async def test_our_log_lines_are_read(peer: Peer, ours: Node) -> None:
    await peer.run("subscribe", topic="/rosout", type_name="rcl_interfaces/msg/Log", transient_local=True, depth=100)
    ours.log(30, "watch out")
    said = await peer.next_message()
    while said["message"]["name"] != "ours":
        said = await peer.next_message()
    assert (said["message"]["msg"], said["message"]["level"]) == ("watch out", 30)


async def test_a_killed_peer_comes_back(ros_python: tuple[str, Path], domain_id: int, ours: Node) -> None:
    received: list[str] = []
    ours.subscription("/theirs", STRING, lambda message: received.append(message.data), qos.LATCHED)
    for life in ("first", "second"):
        peer = Peer(ros_python[1], domain_id)
        try:
            await peer.run("publisher", topic="/theirs", type_name=STRING, transient_local=True, depth=1)
            await peer.run("publish", topic="/theirs", values={"data": life})
            await until(lambda now=life: received and received[-1] == now)
        finally:
            peer.kill()
    assert received == ["first", "second"]


async def test_services_of_fast_dds_are_refused_with_what_helps(peer: Peer, ours: Node) -> None:
    await peer.run("serve", service="/toggle", type_name=SET_BOOL)
    client = ours.client("/toggle", SET_BOOL)
    with pytest.raises(IncompatiblePeerError, match="rmw_fastrtps does; use the backend rclpy"):
        await client.call(client.request(data=True), 10.0)


async def test_a_client_of_fast_dds_is_not_answered_and_told(peer: Peer, ours: Node) -> None:
    async def handler(_: Any) -> Any:
        raise AssertionError("the request of another implementation was taken")

    server = ours.service("/toggle", SET_BOOL, handler)
    answer = await peer.run("call", service="/toggle", type_name=SET_BOOL, values={"data": True}, timeout=3.0)
    assert answer["error"] == "no answer"
    problems = server.endpoints[0].statistics.problems  # type: ignore[attr-defined]
    assert any("use the backend rclpy" in problem for problem in problems)


@pytest.mark.parametrize(
    ("type_name", "definition", "says"),
    [
        (IMU, None, "a peer has /t as std_msgs::msg::dds_::ColorRGBA_, not sensor_msgs::msg::dds_::Imu_"),
        (COLOR, "float32 r\nfloat32 g\n", "a peer has another definition of std_msgs/msg/ColorRGBA on /t: RIHS01_"),
        (COLOR, "float64 r\nfloat64 g\n", "a peer has another definition of std_msgs/msg/ColorRGBA on /t: RIHS01_"),
    ],
    ids=["another type", "shorter", "as long"],
)
async def test_a_node_with_another_type_on_a_topic_is_a_problem_of_the_route_within_five_seconds(
    peer: Peer,
    ros_python: tuple[str, Path],
    domain_id: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    type_name: str,
    definition: str | None,
    says: str,
) -> None:
    """Also one with another definition of the type, which DDS matches by its name; what does not fit is malformed."""
    packages: tuple[Path, ...] = ()
    if definition is not None:
        message = tmp_path / "packages/std_msgs/msg/ColorRGBA.msg"
        message.parent.mkdir(parents=True)
        message.write_text(definition)
        packages = (tmp_path / "packages",)
    await peer.run("publisher", topic="/t", type_name=COLOR)
    async with hosted(section(domain_id, packages=packages, distribution=ros_python[0]), tmp_path) as host:
        await host.open(topics=[{"topic": "/t", "type": type_name, "direction": "subscribe", "encoding": "json"}])
        host.call("open", "/t", 0)
        began = time.monotonic()
        await until(lambda: f"route=subscribe /t problem={says}" in caplog.text)
        assert time.monotonic() - began < (5 + DISCOVERY_S) * busy()
        if definition is None:
            return
        while not host.fate("subscribe /t", "received"):
            await peer.run("publish", topic="/t", values={"r": 1.0, "g": 2.0})
        # What is as long as ours cannot be told from it, and is delivered.
        fates = ("delivered", "malformed") if "float64" in definition else ("malformed", "delivered")
        await until(lambda: host.fate("subscribe /t", fates[0]))
        assert host.fate("subscribe /t", fates[1]) == 0


async def test_a_node_with_the_same_definition_of_a_type_is_no_problem(peer: Peer, ours: Node) -> None:
    subscription = ours.subscription("/t", COLOR, lambda _: None)
    await peer.run("publisher", topic="/t", type_name=COLOR)
    await until(lambda: subscription.statistics.matched)
    hashes = [seen.type_hash for seen in await ours.backend.endpoints("/t", publishers=True)]
    assert hashes == [type_hash(ours.codecs.store, COLOR)]
    assert ours.backend.type_problems("/t", COLOR) == []
