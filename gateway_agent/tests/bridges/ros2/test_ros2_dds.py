"""The DDS backend: topics, QoS, discovery, graph, services in the manner of rmw_cyclonedds."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from ros2_support import LOOPBACK, domain, until
from wasmbed.bridges.ros2 import qos
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery, binding
from wasmbed.bridges.ros2.dds.endpoints import CACHE, QUICK_S
from wasmbed.bridges.ros2.dds.services import identity_text
from wasmbed.bridges.ros2.dds.types import DdsTypes
from wasmbed.bridges.ros2.errors import (
    CallError,
    CdrError,
    ConfigurationError,
    IncompatiblePeerError,
    NameRejectedError,
)
from wasmbed.bridges.ros2.names import dds_reply, dds_request
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.bridges.ros2.backend import Received

    Backends = Callable[..., DdsBackend]

STRING = "std_msgs/msg/String"
IMU = "sensor_msgs/msg/Imu"
SET_BOOL = "std_srvs/srv/SetBool"


def text(codecs: CodecFactory, value: str) -> bytes:
    return codecs.codec(STRING).dumps(codecs.cls(STRING)(value))


async def test_messages_pass_with_their_time(codecs: CodecFactory, backends: Backends) -> None:
    received: list[tuple[bytes, int]] = []
    backends("a").create_subscription(
        "/t", STRING, qos.DEFAULT, lambda data, info: received.append((data, info.source_timestamp))
    )
    publisher = backends("b").create_publisher("/t", STRING, qos.DEFAULT)
    await until(lambda: publisher.statistics.matched)
    before = time.time_ns()
    assert publisher.publish(text(codecs, "hello"))
    await until(lambda: received)
    assert received[0][0] == text(codecs, "hello")
    assert before <= received[0][1] <= time.time_ns()
    assert publisher.statistics.messages == 1


async def test_bytes_that_are_no_message_are_not_sent(codecs: CodecFactory, backends: Backends) -> None:
    publisher = backends("a").create_publisher("/t", IMU, qos.DEFAULT)
    good = codecs.codec(IMU).dumps(codecs.cls(IMU)())
    for data in (b"", good[:40], b"\0\6" + good[2:], b"\1\1" + good[2:]):
        with pytest.raises(CdrError):
            publisher.publish(data)
    assert publisher.statistics.malformed == 4
    assert publisher.publish(good)


OFFERS = [(reliable, local) for reliable in (True, False) for local in (True, False)]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("request_", OFFERS)
async def test_qos_matches_as_dds_says_and_what_does_not_is_reported(
    codecs: CodecFactory, backends: Backends, offer: tuple[bool, bool], request_: tuple[bool, bool]
) -> None:
    offered, requested = (qos.QosProfile(reliable, local, depth=1) for reliable, local in (offer, request_))
    expected = qos.incompatibility(offered, requested)
    received: list[bytes] = []
    subscription = backends("a").create_subscription("/t", STRING, requested, lambda data, _: received.append(data))
    publisher = backends("b").create_publisher("/t", STRING, offered)
    if expected is None:
        await until(lambda: publisher.statistics.matched and subscription.statistics.matched)
        publisher.publish(text(codecs, "x"))
        await until(lambda: received)
    else:
        await until(lambda: publisher.statistics.problems and subscription.statistics.problems)
        assert publisher.statistics.problems == [f"incompatible QoS with a subscription: {expected}"]
        assert subscription.statistics.problems == [f"incompatible QoS with a publisher: {expected}"]
        assert not publisher.statistics.matched


async def test_a_busy_process_loses_nothing_below_the_cache_and_is_told_above(
    codecs: CodecFactory, backends: Backends
) -> None:
    """DDS replaced the oldest of ten samples without a word whenever our thread was late."""
    received: list[bytes] = []
    going, held = threading.Event(), threading.Event()

    def hold(data: bytes, _: Received) -> None:
        received.append(data)
        held.set()
        going.wait(60)

    subscription = backends("a").create_subscription("/t", STRING, qos.DEFAULT, hold)
    publisher = backends("b").create_publisher("/t", STRING, qos.QosProfile(depth=2 * CACHE))
    await until(lambda: publisher.statistics.matched and subscription.statistics.matched)
    for count, overruns in ((CACHE - 1, 0), (2 * CACHE, 1)):
        going.clear()
        held.clear()
        publisher.publish(text(codecs, "first"))
        await until(held.is_set)
        del received[:]
        for number in range(count):  # within a process they are in the cache when publish returns
            publisher.publish(text(codecs, str(number)))
        going.set()
        last = text(codecs, str(count - 1))
        await until(lambda last=last: received and received[-1] == last)
        assert len(received) == min(count, CACHE)
        assert subscription.statistics.overruns == overruns


async def test_a_topic_nobody_has_room_for_is_paused_without_loss_and_others_are_not(
    codecs: CodecFactory, backends: Backends
) -> None:
    a, b = backends("a"), backends("b")
    full: list[bytes] = []
    free: list[bytes] = []

    def no_room(data: bytes, _: Received) -> bool:
        full.append(data)
        return True

    paused = b.create_subscription("/full", STRING, qos.PARAMETERS, no_room)
    b.create_subscription("/free", STRING, qos.PARAMETERS, lambda data, _: free.append(data))
    writers = [a.create_publisher(name, STRING, qos.PARAMETERS) for name in ("/full", "/free")]
    await until(lambda: all(writer.statistics.matched for writer in writers))
    data = codecs.codec(STRING).dumps(codecs.cls(STRING)("x"))
    for _ in range(200):
        for writer in writers:
            writer.publish(data)
    await until(lambda: (len(full), len(free)) == (200, 200))
    # One that is closed while it is paused stays closed.
    writers[0].publish(data)
    await until(lambda: len(full) == 201)
    paused.close()
    writers[1].publish(data)
    await until(lambda: len(free) == 201)
    await until(lambda: not b.context._paused)


async def test_messages_that_come_quickly_are_taken_together_and_slow_ones_at_once(
    codecs: CodecFactory, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes: list[int] = []
    take = binding.take

    def counted(reader: Any, count: int) -> Any:
        samples = take(reader, count)
        if reader is subscription.entity:
            takes.append(len(samples))
        return samples

    received: list[bytes] = []
    subscription = backends("a").create_subscription("/t", STRING, qos.DEFAULT, lambda data, _: received.append(data))
    publisher = backends("b").create_publisher("/t", STRING, qos.QosProfile(depth=CACHE))
    await until(lambda: publisher.statistics.matched and subscription.statistics.matched)
    monkeypatch.setattr(binding, "take", counted)
    sent = [text(codecs, str(number)) for number in range(4000)]

    def send(interval_s: float, data: list[bytes]) -> float:
        began = due = time.perf_counter()
        for item in data:
            publisher.publish(item)
            due += interval_s
            while time.perf_counter() < due:
                time.sleep(0)
        return (time.perf_counter() - began) / len(data)

    interval_s = await asyncio.to_thread(send, 20e-6, sent)
    await until(lambda: len(received) == len(sent))
    assert received == sent
    # A busy machine may not be as quick as that.
    assert interval_s > QUICK_S * 0.6 or len(takes) < len(sent) / 3
    await asyncio.to_thread(send, 0.005, sent[:50])
    await until(lambda: len(received) == len(sent) + 50)
    assert subscription._between_s > QUICK_S
    assert subscription.statistics.overruns == 0


async def test_a_late_joiner_gets_what_is_kept(codecs: CodecFactory, backends: Backends) -> None:
    publisher = backends("a").create_publisher("/t", STRING, qos.QosProfile(transient_local=True, depth=3))
    for number in range(5):
        publisher.publish(text(codecs, str(number)))
    for profile, expected in ((qos.QosProfile(transient_local=True, depth=3), ["2", "3", "4"]), (qos.DEFAULT, [])):
        received: list[bytes] = []
        backend = backends(f"b{len(expected)}")
        subscription = backend.create_subscription("/t", STRING, profile, lambda data, _, to=received: to.append(data))
        await until(lambda it=subscription: it.statistics.matched)
        await until(lambda to=received, want=expected: len(to) >= len(want))
        await asyncio.sleep(0.2)
        assert [codecs.codec(STRING).loads(data).data for data in received] == expected


async def test_the_typed_calls_do_what_the_raw_ones_do(codecs: CodecFactory, backends: Backends) -> None:
    """The fallback for a version of cyclonedds without the private calls."""
    a, b = backends("a"), backends("b")
    publisher = a.create_publisher("/t", IMU, qos.DEFAULT)
    reader = binding.sub.DataReader(
        b.context.participant,
        binding.topic.Topic(b.context.participant, "rt/t", b.types.get(IMU)),
        binding.endpoint_qos(qos.DEFAULT, writer=False),
    )
    await until(lambda: publisher.statistics.matched)
    data = codecs.codec(IMU).dumps(codecs.cls(IMU)())
    binding.write_typed(publisher.entity, data)
    publisher.publish(data)
    found: list[bytes] = []

    def both() -> bool:
        found.extend(raw for raw, _ in binding.take_typed(reader, 10))
        return len(found) == 2

    await until(both)
    assert found == [data, data]
    with pytest.raises(CdrError):
        binding.write_typed(publisher.entity, data[:50])


@pytest.mark.parametrize("distribution", ["humble", "iron", "jazzy"])
async def test_nodes_and_endpoints_are_in_the_graph(backends: Backends, distribution: str) -> None:
    """With the 24-byte Gid of Humble and the 16-byte one since."""
    codecs = CodecFactory(TypeStore.of(distribution))
    a = backends("a", codecs=codecs, distribution=distribution, namespace="/drone1")
    b = backends("b", codecs=codecs, distribution=distribution)
    publisher = a.create_publisher("/t", STRING, qos.SENSOR_DATA)
    subscription = b.create_subscription("/t", STRING, qos.SENSOR_DATA, lambda *_: None)
    await until(lambda: b.graph.nodes() == ["/b", "/drone1/a"])
    (found,) = await until(lambda: [it for it in b.graph.endpoints("/t", publishers=True) if it.node])
    assert (found.node, found.type, found.reliability) == ("/drone1/a", STRING, "best effort, volatile")
    assert found.type_hash.startswith("RIHS01_df668c74") == (distribution != "humble")
    (found,) = await until(lambda: [it for it in a.graph.endpoints("/t", publishers=False) if it.node])
    assert found.node == "/b"
    assert a.graph.topics() == {"/t": {STRING}}
    subscription.close()
    await until(lambda: not a.graph.endpoints("/t", publishers=False))
    publisher.close()
    a.context.close()
    await until(lambda: b.graph.nodes() == ["/b"])
    await until(lambda: not b.graph.endpoints("/t", publishers=True))


async def test_another_type_on_a_topic_is_told(backends: Backends) -> None:
    a, b = backends("a"), backends("b")
    a.create_publisher("/t", STRING, qos.DEFAULT)
    b.create_subscription("/t", IMU, qos.DEFAULT, lambda *_: None)
    problems = await until(lambda: b.type_problems("/t", IMU))
    assert problems == ["a peer has /t as std_msgs::msg::dds_::String_, not sensor_msgs::msg::dds_::Imu_"]


async def test_participants_find_each_other_by_a_list_of_addresses(codecs: CodecFactory, domain_id: int) -> None:
    discovery = Discovery(interfaces=("lo",), multicast=False, peers=("127.0.0.1",), max_participants=9)
    a = DdsBackend(codecs, domain_id=domain_id, node="a", discovery=discovery)
    b = DdsBackend(codecs, domain_id=domain_id, node="b", discovery=discovery)
    try:
        await until(lambda: a.graph.nodes() == ["/a", "/b"] == b.graph.nodes())
    finally:
        await a.aclose()
        await b.aclose()


async def test_a_configuration_file_decides_about_discovery(
    codecs: CodecFactory, domain_id: int, tmp_path: Path
) -> None:
    file, number = tmp_path / "cyclone.xml", domain()
    file.write_text(
        "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo'/></Interfaces></General>"
        f"<Discovery><ExternalDomainId>{number}</ExternalDomainId></Discovery></Domain></CycloneDDS>"
    )
    moved = DdsBackend(codecs, domain_id=domain_id, node="a", discovery=Discovery(file=file))
    other = DdsBackend(codecs, domain_id=number, node="b", discovery=LOOPBACK)
    try:
        # In another domain, but for the file.
        await until(lambda: moved.graph.nodes() == ["/a", "/b"] == other.graph.nodes())
    finally:
        await moved.aclose()
        await other.aclose()
    file.write_text("<CycloneDDS><Domain><Nonsense/></Domain></CycloneDDS>")
    with pytest.raises(ConfigurationError, match="cyclonedds refused its configuration"):
        DdsBackend(codecs, domain_id=domain(), node="a", discovery=Discovery(file=file))
    with pytest.raises(ConfigurationError, match=r"discovery\.file"):
        DdsBackend(codecs, domain_id=domain(), node="a", discovery=Discovery(file=tmp_path / "none.xml"))


def test_what_cannot_be_joined_is_refused(codecs: CodecFactory) -> None:
    with pytest.raises(ConfigurationError, match="domainId: 233"):
        DdsBackend(codecs, domain_id=233, node="a")
    with pytest.raises(NameRejectedError):
        DdsBackend(codecs, domain_id=domain(), node="not a name")


def test_a_domain_has_one_configuration(codecs: CodecFactory, domain_id: int, backends: Backends) -> None:
    backends("a")
    with pytest.raises(ConfigurationError, match="in use with another"):
        DdsBackend(codecs, domain_id=domain_id, node="b", discovery=Discovery(interfaces=("lo",), peers=("127.0.0.1",)))


async def serve(codecs: CodecFactory, backend: DdsBackend, delay: float = 0.0) -> Any:
    request, response = codecs.codec(f"{SET_BOOL}_Request"), codecs.codec(f"{SET_BOOL}_Response")

    async def handler(data: bytes) -> bytes:
        await asyncio.sleep(delay)
        return response.dumps(response.cls(request.loads(data).data, "served"))

    return backend.create_service("/toggle", SET_BOOL, qos.SERVICES, handler)


async def test_services_are_called_and_served(codecs: CodecFactory, backends: Backends) -> None:
    await serve(codecs, backends("server"))
    clients = [
        backends("a").create_client("/toggle", SET_BOOL, qos.SERVICES),
        backends("b").create_client("/toggle", SET_BOOL, qos.SERVICES),
    ]
    request, response = codecs.codec(f"{SET_BOOL}_Request"), codecs.codec(f"{SET_BOOL}_Response")

    async def call(number: int) -> bool:
        reply = await clients[number % 2].call(request.dumps(request.cls(number % 3 == 0)), 60.0)
        return bool(response.loads(reply).success)

    answers = await asyncio.gather(*(call(number) for number in range(60)))
    assert answers == [number % 3 == 0 for number in range(60)]


async def test_calls_without_an_answer_end(codecs: CodecFactory, backends: Backends) -> None:
    client = backends("a").create_client("/toggle", SET_BOOL, qos.SERVICES)
    request = codecs.codec(f"{SET_BOOL}_Request").dumps(codecs.cls(f"{SET_BOOL}_Request")())
    with pytest.raises(CallError, match=r"no server within 0\.2 s"):
        await client.call(request, 0.2)
    await serve(codecs, backends("server"), delay=10)
    await client.ready(60)
    with pytest.raises(CallError, match=r"no answer within 0\.3 s"):
        await client.call(request, 0.3)


async def test_requests_are_those_of_rmw_cyclonedds(codecs: CodecFactory, backends: Backends) -> None:
    """A client of bare cyclonedds that does what its source says: guid and sequence before the request, echoed."""
    server = backends("server")
    await serve(codecs, server)
    b = backends("bare")
    identity = identity_text("clientid")
    participant = b.context.participant
    profile = {
        True: binding.endpoint_qos(qos.SERVICES, identity, writer=True),
        False: binding.endpoint_qos(qos.SERVICES, identity, writer=False),
    }
    writer = binding.pub.DataWriter(
        participant,
        binding.topic.Topic(participant, dds_request("/toggle"), b.types.get(f"{SET_BOOL}_Request", header=True)),
        profile[True],
    )
    reader = binding.sub.DataReader(
        participant,
        binding.topic.Topic(participant, dds_reply("/toggle"), b.types.get(f"{SET_BOOL}_Response", header=True)),
        profile[False],
    )
    await until(lambda: writer.get_matched_subscriptions() and reader.get_matched_publications())
    binding.write(writer, b"\0\1\0\0" + struct.pack("<Qq?", 0x1122334455667788, 42, True))
    found: list[bytes] = []

    def answered() -> bool:
        found.extend(data for data, _ in binding.take(reader, 10))
        return bool(found)

    await until(answered)
    assert struct.unpack_from("<Qq?", found[0], 4) == (0x1122334455667788, 42, True)
    assert found[0][20 + 4 + 4 :].startswith(b"served\0")
    (seen,) = b.graph.readers_of(dds_request("/toggle"))
    assert b"serviceid=" in seen.user_data
    assert seen.user_data.index(b"serviceid=") < seen.user_data.index(b"typehash=RIHS01_")


async def test_a_server_of_another_kind_is_refused(codecs: CodecFactory, backends: Backends) -> None:
    """One without the user data of rmw_cyclonedds, as rmw_fastrtps has it: a guess could harm it."""
    b = backends("bare")
    topic = binding.topic.Topic(
        b.context.participant, dds_request("/toggle"), b.types.get(f"{SET_BOOL}_Request", header=True)
    )
    reader = binding.sub.DataReader(b.context.participant, topic, binding.endpoint_qos(qos.SERVICES, writer=False))
    client = backends("a").create_client("/toggle", SET_BOOL, qos.SERVICES)
    request = codecs.codec(f"{SET_BOOL}_Request").dumps(codecs.cls(f"{SET_BOOL}_Request")())
    with pytest.raises(IncompatiblePeerError, match="use the backend rclpy"):
        await client.call(request, 60.0)
    assert not binding.take(reader, 1)


async def test_requests_of_a_client_of_another_kind_are_left_alone(codecs: CodecFactory, backends: Backends) -> None:
    server = await serve(codecs, backends("server"))
    b = backends("bare")
    topic = binding.topic.Topic(
        b.context.participant, dds_request("/toggle"), b.types.get(f"{SET_BOOL}_Request", header=True)
    )
    writer = binding.pub.DataWriter(b.context.participant, topic, binding.endpoint_qos(qos.SERVICES, writer=True))
    await until(writer.get_matched_subscriptions)
    binding.write(writer, b"\0\1\0\0" + struct.pack("<Qq?", 1, 2, True))
    problems = await until(lambda: server.endpoints[0].statistics.problems)
    assert "use the backend rclpy" in problems[0]


def test_a_type_is_made_once_however_many_bridges_use_it() -> None:
    """cyclonedds aborted, or took all memory, at the 33rd class of one type name."""
    made = {id(DdsTypes(TypeStore.of("jazzy")).get(IMU)) for _ in range(40)}
    assert len(made) == 1


async def test_another_definition_of_a_type_is_told_and_nothing_passes(backends: Backends) -> None:
    """Two packages of one name: DDS compares the type objects and does not match."""
    standard = TypeStore.of("jazzy")
    texts = {name: standard._texts[name] for name in standard.names()}
    one, other = (
        CodecFactory(TypeStore(texts | {"a/msg/A": text})) for text in ("string s\nint32[] n\n", "float64[4] x\n")
    )
    received: list[bytes] = []
    reader = backends("a", codecs=one)
    subscription = reader.create_subscription("/t", "a/msg/A", qos.DEFAULT, lambda data, _: received.append(data))
    publisher = backends("b", codecs=other).create_publisher("/t", "a/msg/A", qos.DEFAULT)
    problems = await until(lambda: subscription.statistics.problems)
    assert problems == ["incompatible QoS with a publisher: type consistency"]
    publisher.publish(other.codec("a/msg/A").dumps(other.cls("a/msg/A")()))
    await asyncio.sleep(0.2)
    assert not received
