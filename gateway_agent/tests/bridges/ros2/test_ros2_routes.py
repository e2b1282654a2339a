"""Routes as they are declared, the policy, rate limits and queues."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.bridges.ros2 import Policy, parse_routes
from wasmbed.bridges.ros2.config import BridgeConfig
from wasmbed.bridges.ros2.dds import Discovery
from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.names import resolve
from wasmbed.bridges.ros2.qos import SENSOR_DATA
from wasmbed.bridges.ros2.queues import SHORT_BYTES, BoundedQueue, RateLimit

if TYPE_CHECKING:
    from wasmbed.bridges.ros2.routes import Route
    from wasmbed.bridges.ros2.types import CodecFactory

IMU = {"topic": "imu", "type": "sensor_msgs/Imu", "direction": "subscribe"}


def parse(data: Any, codecs: CodecFactory) -> list[Route]:
    return parse_routes(data, lambda name: resolve(name, "app", "/drone1"), codecs)


def test_a_declaration_becomes_routes(codecs: CodecFactory) -> None:
    routes = parse(
        {
            "topics": [
                IMU | {"qos": "sensor_data", "maxRateHz": 50, "fields": ["linear_acceleration"], "queue": 8},
                {"topic": "/alarm", "type": "std_msgs/msg/String", "direction": "publish", "encoding": "json"},
            ],
            "services": [{"service": "toggle", "type": "std_srvs/SetBool", "direction": "call", "timeoutSeconds": 2}],
        },
        codecs,
    )
    imu, alarm, toggle = routes
    assert (imu.target, imu.type, imu.qos, imu.queue) == ("/drone1/imu", "sensor_msgs/msg/Imu", SENSOR_DATA, 8)
    assert (imu.max_rate_hz, imu.fields, imu.encoding, imu.name) == (50.0, ("linear_acceleration",), "cbor", "imu")
    assert (alarm.target, alarm.encoding) == ("/alarm", "json")
    assert (toggle.kind, toggle.type, toggle.timeout_s) == ("service", "std_srvs/srv/SetBool", 2.0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "ros2: an object"),
        ({"topics": {}}, "topics: a list"),
        ({"topics": [7]}, r"topics\[0\]: an object"),
        ({"topics": [{"type": "std_msgs/String"}]}, r"topics\[0\]\.topic: a string"),
        ({"topics": [IMU | {"topic": "a b"}]}, r"topics\[0\]\.topic: 'a b' is not a topic name"),
        ({"topics": [IMU | {"type": "no/Such"}]}, r"topics\[0\]\.type: no/msg/Such: no definition"),
        ({"topics": [IMU | {"type": "std_srvs/srv/SetBool"}]}, r"topics\[0\]\.type: .* is not of kind msg"),
        ({"topics": [IMU | {"type": "Imu"}]}, r"topics\[0\]\.type: 'Imu' is not the name"),
        ({"topics": [IMU | {"direction": "both"}]}, r"topics\[0\]\.direction: one of subscribe, publish"),
        ({"topics": [IMU | {"encoding": "xml"}]}, r"topics\[0\]\.encoding: one of cdr, cbor, json"),
        ({"topics": [IMU | {"maxRateHz": 0}]}, r"topics\[0\]\.maxRateHz: 0\.001 to"),
        ({"topics": [IMU | {"queue": True}]}, r"topics\[0\]\.queue: 1 to"),
        ({"topics": [IMU | {"fields": ["nothing"]}]}, r"topics\[0\]\.fields: 'nothing' is not a field"),
        (
            {"topics": [IMU | {"fields": ["header"], "encoding": "cdr"}]},
            r"topics\[0\]\.fields: only a route to subscribe",
        ),
        ({"topics": [IMU | {"qos": {"depth": 0}}]}, r"topics\[0\]\.qos\.depth"),
        ({"topics": [IMU | {"colour": "red"}]}, r"topics\[0\]: unknown colour"),
        ({"topics": [IMU, IMU]}, "imu: two routes to subscribe"),
        ({"services": [{"service": "a", "type": "std_msgs/String", "direction": "call"}]}, r"services\[0\]\.type"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(codecs: CodecFactory, data: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{problem}"):
        parse(data, codecs)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*IMU, "qos", "topics", "services", "fields"]), inner, max_size=4)
        ),
    )
)
def test_any_declaration_is_read_or_refused(codecs: CodecFactory, data: Any) -> None:
    for value in (data, {"topics": [data]}, {"topics": [IMU | data]} if isinstance(data, dict) else data):
        with contextlib.suppress(ConfigurationError):
            parse(value, codecs)


def test_nothing_is_allowed_that_is_not_listed(codecs: CodecFactory) -> None:
    (route,) = parse({"topics": [IMU]}, codecs)
    assert "domain 0 is not" in str(Policy().refusal(route, 0))
    assert "policy.subscribe" in str(Policy(domains=frozenset({0})).refusal(route, 0))
    policy = Policy.from_dict({"subscribe": ["/drone1/*"], "domains": [0]})
    assert policy.refusal(route, 0) is None
    (other,) = parse({"topics": [IMU | {"direction": "publish"}]}, codecs)
    assert policy.refusal(other, 0) is not None
    (foreign,) = parse({"topics": [IMU | {"topic": "/drone2/imu"}]}, codecs)
    assert policy.refusal(foreign, 0) is not None


@pytest.mark.parametrize("data", [{"subscribe": "/x"}, {"subscribe": ["x"]}, {"domains": ["0"]}, {"all": True}])
def test_a_wrong_policy_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^policy"):
        Policy.from_dict(data)


def test_a_configuration_is_read() -> None:
    config = BridgeConfig.from_dict(
        {
            "distribution": "kilted",
            "px4Release": "1.15",
            "namespace": "/site",
            "remap": ["a:=/b"],
            "discovery": {"interfaces": ["lo"], "multicast": False, "peers": ["192.0.2.1"]},
            "policy": {"subscribe": ["/*"], "domains": [5]},
            "rclpy": {"python": "/opt/ros/bin/python", "environment": {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}},
        }
    )
    assert config.discovery.peers == ("192.0.2.1",)
    assert '<Peer address="192.0.2.1"/>' in config.discovery.xml()
    assert config.rclpy is not None
    assert "px4_msgs/msg/VehicleStatus" in config.codecs().store


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"backend": "zenoh"}, "ros2.backend"),
        ({"backend": "rclpy"}, "ros2.rclpy: the backend rclpy needs"),
        ({"distribution": "noetic"}, "ros2.distribution"),
        ({"px4Release": "1.13"}, "ros2.px4Release"),
        ({"node": "my node"}, "ros2: 'my node'"),
        ({"remap": ["a=b"]}, "remap"),
        ({"discovery": {"multicast": 1}}, "ros2.discovery"),
        ({"discovery": {"range": 1}}, "ros2.discovery: unknown range"),
        ({"rclpy": {}}, "ros2.rclpy"),
        ({"nodes": []}, "ros2: unknown nodes"),
        ({"node": 1}, "ros2.node: a str"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{problem}"):
        BridgeConfig.from_dict(data)


@given(
    rate=st.floats(0.5, 500),
    gaps=st.lists(st.floats(0, 0.05), min_size=200, max_size=200),
)
def test_a_rate_limit_holds_over_any_arrivals(rate: float, gaps: list[float]) -> None:
    limit, now, passed = RateLimit(rate), 100.0, 0
    for gap in gaps:
        now += gap
        passed += limit.admit(now)
    assert passed <= (now - 100.0) * rate + 2


def test_a_rate_limit_lets_a_regular_stream_of_its_rate_through() -> None:
    limit = RateLimit(50)
    assert sum(limit.admit(10 + number / 50) for number in range(100)) == 100
    limit = RateLimit(50)
    assert 48 <= sum(limit.admit(10 + number / 1000) for number in range(1000)) <= 52


@given(
    limit=st.integers(1, 8),
    byte_limit=st.integers(1, 50),
    sizes=st.lists(st.integers(0, 60), max_size=60),
    oldest=st.booleans(),
    takes=st.integers(0, 5),
)
def test_a_queue_keeps_its_bounds_and_counts_what_it_drops(
    limit: int, byte_limit: int, sizes: list[int], oldest: bool, takes: int
) -> None:
    queue = BoundedQueue(limit, byte_limit, drop_oldest=oldest)
    dropped = taken = 0
    for number, size in enumerate(sizes):
        empty = not len(queue)
        lost, first = queue.put(bytes(size), number)
        assert first == (empty and lost == 0)
        dropped += lost
        assert len(queue) <= limit
        assert queue.buffered_bytes <= byte_limit
        if takes and number % takes == 0 and queue.get() is not None:
            taken += 1
    assert dropped + taken + len(queue) == len(sizes)


@given(
    limit=st.integers(1, 8),
    byte_limit=st.integers(1, 50),
    batches=st.lists(st.lists(st.integers(0, 60), max_size=20), max_size=6),
    oldest=st.booleans(),
    kept=st.booleans(),
    takes=st.integers(0, 12),
)
def test_messages_put_and_got_together_are_as_one_by_one(
    limit: int, byte_limit: int, batches: list[list[int]], oldest: bool, kept: bool, takes: int
) -> None:
    together, single = (BoundedQueue(limit, byte_limit, drop_oldest=oldest) for _ in range(2))
    number = 0
    for sizes in batches:
        if kept:
            assert together.keep(b"kept", -1) == single.keep(b"kept", -1)
        batch = [(bytes(size), number + place) for place, size in enumerate(sizes)]
        number += len(batch)
        empty = not len(single)
        dropped, first = together.put_all(batch)
        assert dropped == sum(single.put(*message)[0] for message in batch)
        assert first == (empty and len(single) > 0)
        assert together._items == single._items
        got = together.get_all(takes, 40)
        assert got == [single.get() for _ in got]
        assert len(got) <= takes
        assert sum(len(data) for data, _ in got[:-1]) < 40
        assert (len(together), together.buffered_bytes) == (len(single), single.buffered_bytes)
        if len(got) < takes and sum(len(data) for data, _ in got) < 40:
            assert not len(together)


@given(
    limit=st.integers(1, 8),
    byte_limit=st.integers(2000, 5000),
    steps=st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=60),
    oldest=st.booleans(),
    takes=st.integers(0, 5),
)
def test_a_queue_drops_nothing_that_is_kept_and_the_rest_keeps_its_bounds(
    limit: int, byte_limit: int, steps: list[tuple[int, bool]], oldest: bool, takes: int
) -> None:
    queue = BoundedQueue(limit, byte_limit, drop_oldest=oldest)
    kept: list[int] = []
    found: list[tuple[bytes, Any]] = []
    dropped = refused = 0
    for number, (size, keep) in enumerate(steps):
        if not keep:
            dropped += queue.put(bytes(size), (number, False))[0]
        elif (told := queue.keep(bytes(size), (number, True))) is None:
            assert size > SHORT_BYTES
            refused += 1
        else:
            dropped += told[0]
            kept.append(number)
        if takes and number % takes == 0 and isinstance(item := queue.get(), tuple):
            found.append(item)
        waiting = [note for _, note, _ in queue._items]
        assert sum(not keep for _, keep in waiting) <= limit
        assert queue.buffered_bytes <= byte_limit + SHORT_BYTES * sum(keep for _, keep in waiting)
    while isinstance(item := queue.get(), tuple):
        found.append(item)
    assert [number for _, (number, keep) in found if keep] == kept
    assert [number for _, (number, _) in found] == sorted(number for _, (number, _) in found)
    assert len(found) + dropped + refused == len(steps)
    assert queue.buffered_bytes == 0


@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 3)), max_size=60),
    ahead=st.integers(1, 4),
)
def test_a_queue_has_room_for_what_it_says_and_forgets_what_is_taken_out(
    steps: list[tuple[int, bool, int]], ahead: int
) -> None:
    queue = BoundedQueue(4, 100, drop_oldest=False)
    for size, keep, unwanted in steps:
        if keep:
            queue.keep(bytes(size), size % 4)
        elif queue.room(ahead, size * ahead):
            for _ in range(ahead):
                assert queue.put(bytes(size), size % 4)[0] == 0
        else:
            assert sum(queue.put(bytes(size), size % 4)[0] for _ in range(ahead)) > 0
        waiting = [note for _, note, _ in queue._items]
        assert queue.remove(lambda note, it=unwanted: note == it) == [note for note in waiting if note == unwanted]
        assert unwanted not in [note for _, note, _ in queue._items]
        assert queue.buffered_bytes == sum(len(data) for data, _, _ in queue._items)
    queue.clear()
    assert (len(queue), queue.buffered_bytes, queue.room(4, 100)) == (0, 0, True)


def test_a_message_that_does_not_fit_stays() -> None:
    queue = BoundedQueue(4, 100)
    queue.put(b"12345", "note")
    assert queue.get(4) == 5
    assert queue.get(5) == (b"12345", "note")
    assert queue.get() is None


def test_discovery_is_the_same_for_nodes_of_ros() -> None:
    assert Discovery().variables() == {}
    assert Discovery(("lo",)).variables() == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    assert Discovery(multicast=False, peers=("10.0.0.5", "drone.local")).variables() == {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_STATIC_PEERS": "10.0.0.5;drone.local",
    }
