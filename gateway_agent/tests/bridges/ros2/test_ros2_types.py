"""Shipped definitions, type hashes, codecs, validation and conversion, against the definitions and codecs of others."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from array import array
from typing import TYPE_CHECKING, Any

import cbor2
import numpy
import pytest
from ros2_support import message_of, rclpy_python
from rosbags.typesys import Stores, get_typestore
from wasmbed.bridges.ros2.dds.types import DdsTypes
from wasmbed.bridges.ros2.errors import CdrError, ConfigurationError, UnknownTypeError, ValidationError
from wasmbed.bridges.ros2.types import (
    PX4_RELEASES,
    CodecFactory,
    Message,
    Plain,
    TypeStore,
    Validator,
    Value,
    parse,
    type_hash,
)
from wasmbed.bridges.ros2.types.store import read_packages
from wasmbed.bridges.ros2.types.tables import px4, standard

if TYPE_CHECKING:
    from pathlib import Path

STORES = {
    "humble": Stores.ROS2_HUMBLE,
    "iron": Stores.ROS2_IRON,
    "jazzy": Stores.ROS2_JAZZY,
    "kilted": Stores.ROS2_KILTED,
}
SAMPLE = "bench_msgs/msg/Sample"


def messages(distribution: str = "jazzy") -> list[str]:
    return [name for name in standard(distribution).definitions if "/msg/" in name]


def assert_same(release: str, found: dict[str, str], shipped: Any) -> None:
    """Every definition of a folder is shipped, field by field, constants and defaults included."""
    for name, text in found.items():
        assert parse(name, shipped[name]) == parse(name, text), f"{release} {name}"


def test_standard_definitions_are_those_of_humble(shared_data: Path) -> None:
    found = read_packages(shared_data / "ros2_interfaces")
    assert len(found) > 120
    assert_same("humble", found, standard("humble").definitions)


@pytest.mark.parametrize("release", PX4_RELEASES)
def test_px4_definitions_are_those_of_the_release(release: str, shared_data: Path) -> None:
    texts = {}
    for kind in ("msg", "srv"):
        for path in sorted((shared_data / f"px4_msgs/{release}/{kind}").glob(f"*.{kind}")):
            texts[f"px4_msgs/{kind}/{path.stem}"] = path.read_text()
    assert len(texts) > 180
    assert_same(release, texts, px4(release).definitions)
    assert texts.keys() == px4(release).definitions.keys()


def test_px4_messages_have_the_version_of_their_release() -> None:
    expected = {"1.15": None, "1.16": 1, "1.17": 1, "1.18": 4}
    for release, version in expected.items():
        message = TypeStore.of("jazzy", release).message("px4_msgs/msg/VehicleStatus")
        assert message.constant("MESSAGE_VERSION") == version


@pytest.mark.parametrize("distribution", STORES)
def test_fields_are_those_of_the_rosbags_store(distribution: str) -> None:
    theirs = get_typestore(STORES[distribution]).fielddefs
    store = TypeStore.of(distribution)
    missing = theirs.keys() - set(store.names())
    assert not missing
    for name, (_, fields) in theirs.items():
        ours = [(field.name, str(field.type)) for field in store.message(name).wire_fields]
        assert ours == [(field, _rosbags_type(kind)) for field, kind in fields], name


def _rosbags_type(kind: Any) -> str:
    tag, value = kind
    if tag.name == "BASE":
        base = {"octet": "byte"}.get(value[0], value[0])
        return f"{base}<={value[1]}" if value[1] else str(base)
    if tag.name == "NAME":
        return str(value)
    inner, size = value
    text = _rosbags_type(inner)
    return f"{text}[{size}]" if tag.name == "ARRAY" else f"{text}[<={size}]" if size else f"{text}[]"


def test_type_hashes_are_the_published_ones() -> None:
    store = TypeStore.of("jazzy")
    assert type_hash(store, "std_msgs/msg/String") == (
        "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    )
    assert type_hash(store, "sensor_msgs/msg/Imu") == (
        "RIHS01_7d9a00ff131080897a5ec7e26e315954b8eae3353c3f995c55faf71574000b5b"
    )


@pytest.mark.parametrize("distribution", ["jazzy", "kilted"])
def test_type_hashes_are_those_of_an_installation(distribution: str) -> None:
    """Messages, services, actions and all their parts, as the distribution's own generator computed them."""
    python = rclpy_python(distribution)
    if python is None:
        pytest.skip(f"no rclpy: set WASMBED_ROS2_{distribution.upper()} to an interpreter that has it")
    share = python.parents[1] / "share"
    store = TypeStore.of(distribution, packages=[share / "test_msgs"])
    checked = 0
    for path in sorted(share.glob("*/*/*.json")):
        if not path.with_suffix(f".{path.parent.name}").exists():
            continue  # defined in IDL alone
        for item in json.loads(path.read_text()).get("type_hashes", []):
            assert type_hash(store, item["type_name"]) == item["hash_string"], item["type_name"]
            checked += 1
    assert checked > 700


# char, an uint8 on the wire, is a signed char in rosbags' store, Gid and ServiceEventInfo contain it.
_ROSBAGS_CHAR = {"std_msgs/msg/Char", "rmw_dds_common/msg/Gid", "service_msgs/msg/ServiceEventInfo"}


@pytest.mark.parametrize("distribution", STORES)
def test_codecs_write_and_read_what_rosbags_does(distribution: str) -> None:
    """Random messages of every standard type: the same bytes, and the same message back from them."""
    theirs = get_typestore(STORES[distribution])
    codecs = CodecFactory(TypeStore.of(distribution))
    chance = random.Random(7)
    for name in theirs.fielddefs:
        codec = codecs.codec(name)
        for _ in range(5):
            message = message_of(codecs, name, chance)
            data = codec.dumps(message)
            assert codec.loads(data) == message
            other = theirs.deserialize_cdr(data, name)
            assert bytes(theirs.serialize_cdr(other, name)) == data, name
            swapped = bytes(theirs.serialize_cdr(other, name, little_endian=False))
            assert codec.loads(swapped) == message, name


@pytest.mark.parametrize("release", PX4_RELEASES)
def test_codecs_write_and_read_what_cyclonedds_does(release: str) -> None:
    """Random messages of every px4_msgs type, through the typed serializer of another project."""
    store = TypeStore.of("jazzy", release)
    codecs, types = CodecFactory(store), DdsTypes(store)
    chance = random.Random(8)
    names = [name for name in store.names() if name.startswith("px4_msgs/msg/")]
    for name in names:
        codec = codecs.codec(name)
        message = message_of(codecs, name, chance)
        data = codec.dumps(message)
        assert codec.loads(data) == message
        assert types.get(name).deserialize(data).serialize(use_version_2=False)[: len(data)] == data, name


def test_defaults_of_definitions_are_initial_values() -> None:
    codecs = CodecFactory(
        TypeStore({"a/msg/A": 'int32 x 7\nstring s "hi"\nint16[] n [1, 2]\nuint8[2] b [3, 4]\nbool[2] f'})
    )
    message = codecs.cls("a/msg/A")()
    assert (message.x, message.s, message.n, message.b, message.f) == (
        7,
        "hi",
        array("h", [1, 2]),
        b"\3\4",
        (False, False),
    )
    message.n.append(3)
    assert len(codecs.cls("a/msg/A")().n) == 2


def test_fields_with_names_of_python_are_reached_with_an_underscore() -> None:
    codecs = CodecFactory(TypeStore({"a/msg/A": "int32 from\nint32 type_name\nstring lambda\n"}))
    codec = codecs.codec("a/msg/A")
    message = codec.cls(from_=3, type_name=4, lambda_="x")
    assert codec.loads(codec.dumps(message)) == message
    assert Plain(codecs, "a/msg/A").to_dict(message) == {"from": 3, "type_name": 4, "lambda": "x"}


def test_any_sequence_is_accepted_to_write(codecs: CodecFactory) -> None:
    codec = codecs.codec("sensor_msgs/msg/LaserScan")
    values = [1.0, 2.5, -3.0]
    expected = codec.dumps(codec.cls(ranges=array("f", values)))
    for ranges in (values, tuple(values), numpy.array(values, dtype=numpy.float32), array("d", values)):
        assert codec.dumps(codec.cls(ranges=ranges)) == expected
    image = codecs.codec("sensor_msgs/msg/Image")
    expected = image.dumps(image.cls(data=b"\1\2\3"))
    for data in ([1, 2, 3], bytearray(b"\1\2\3"), memoryview(b"\1\2\3"), array("B", [1, 2, 3])):
        assert image.dumps(image.cls(data=data)) == expected


def test_messages_that_do_not_fit_are_refused(codecs: CodecFactory) -> None:
    imu = codecs.codec("sensor_msgs/msg/Imu")
    wrong: list[Value] = [
        imu.cls(orientation_covariance=[0.0] * 8),
        imu.cls(orientation_covariance=[0.0] * 8 + ["x"]),
        imu.cls(orientation=codecs.cls("geometry_msgs/msg/Vector3")()),
        imu.cls(header=codecs.cls("std_msgs/msg/Header")(frame_id="a\0b")),
        imu.cls(header=codecs.cls("std_msgs/msg/Header")(frame_id=7)),
        codecs.cls("std_msgs/msg/String")(),
    ]
    wrong[0].orientation_covariance, wrong[0].angular_velocity_covariance = [0.0] * 8, [0.0] * 10  # type: ignore[attr-defined]
    for message in wrong:
        with pytest.raises(CdrError, match="sensor_msgs/msg/Imu"):
            imu.dumps(message)
    with pytest.raises(CdrError):
        codecs.codec("std_msgs/msg/Int8").dumps(codecs.cls("std_msgs/msg/Int8")(200))
    node = codecs.codec("rmw_dds_common/msg/NodeEntitiesInfo")
    with pytest.raises(CdrError, match="the bound is 256"):
        node.dumps(node.cls(node_name="x" * 257))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"orientation_covariance": (0.0,) * 8}, "orientation_covariance: 8 elements, the array has 9"),
        (
            {"orientation_covariance": (0.0,) * 8 + (None,)},
            "orientation_covariance[8]: a number is expected, not nothing",
        ),
        ({"header.stamp.nanosec": -1}, "header.stamp.nanosec: -1 is not within 0 to 4294967295 of uint32"),
        ({"header.stamp.sec": True}, "header.stamp.sec: an integer is expected, not bool"),
        ({"header.frame_id": "a\0"}, "header.frame_id: the string contains a NUL"),
        ({"header.frame_id": "\ud800"}, "header.frame_id: the string has a lone surrogate"),
        ({"orientation": None}, "orientation: geometry_msgs/msg/Quaternion is expected, not nothing"),
    ],
)
def test_the_validator_names_the_field(codecs: CodecFactory, change: dict[str, Any], problem: str) -> None:
    message = codecs.cls("sensor_msgs/msg/Imu")()
    validator = Validator(codecs, "sensor_msgs/msg/Imu")
    validator.check(message)
    for path, value in change.items():
        *parents, last = path.split(".")
        target = message
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, last, value)
    with pytest.raises(ValidationError) as caught:
        validator.check(message)
    assert str(caught.value) == problem


def test_the_validator_knows_bounds() -> None:
    codecs = CodecFactory(TypeStore({"a/msg/A": "string<=3 s\nint8[<=2] n\nfloat32 f\nwstring<=2 w\n"}))
    validator, cls = Validator(codecs, "a/msg/A"), codecs.cls("a/msg/A")
    validator.check(cls("abc", [1, 2], 1e38, "öö"))
    for message in (
        cls(s="äö"),
        cls(n=[1, 2, 3]),
        cls(f=1e39),
        cls(f=10**400),
        cls(w="abc"),
        cls(s=b"abc"),
        cls(n="ab"),
    ):
        with pytest.raises(ValidationError):
            validator.check(message)
        with pytest.raises(CdrError):
            codecs.codec("a/msg/A").dumps(message)


def test_random_messages_pass_through_json_and_cbor(codecs: CodecFactory) -> None:
    chance = random.Random(9)
    for name in messages():
        plain = Plain(codecs, name)
        message = message_of(codecs, name, chance)
        assert plain.from_json(plain.to_json(message)) == message, name
        assert plain.from_cbor(plain.to_cbor(message)) == message, name


def test_what_json_cannot_hold_has_a_form(codecs: CodecFactory) -> None:
    plain = Plain(codecs, "sensor_msgs/msg/LaserScan")
    scan = codecs.cls("sensor_msgs/msg/LaserScan")(range_min=math.nan, range_max=-math.inf, ranges=[math.inf, 1.0])
    data = json.loads(plain.to_json(scan))
    assert (data["range_min"], data["range_max"], data["ranges"]) == (None, "-Infinity", ["Infinity", 1.0])
    again = plain.from_json(plain.to_json(scan))
    assert math.isnan(again.range_min)  # type: ignore[attr-defined]
    assert again.range_max == -math.inf  # type: ignore[attr-defined]
    image = Plain(codecs, "sensor_msgs/msg/Image")
    message = codecs.cls("sensor_msgs/msg/Image")(data=b"\0\xff")
    assert json.loads(image.to_json(message))["data"] == "AP8="
    assert cbor2.loads(image.to_cbor(message))["data"] == b"\0\xff"


def test_chosen_fields_alone_go_out(codecs: CodecFactory) -> None:
    plain = Plain(codecs, "sensor_msgs/msg/Imu", ["header.stamp", "linear_acceleration.z"])
    message = codecs.cls("sensor_msgs/msg/Imu")()
    assert plain.to_dict(message) == {
        "header": {"stamp": {"sec": 0, "nanosec": 0}},
        "linear_acceleration": {"z": 0.0},
    }
    for path in ("nothing", "header.nothing", "header.frame_id.x"):
        with pytest.raises(ConfigurationError, match="fields"):
            Plain(codecs, "sensor_msgs/msg/Imu", [path])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"x": 1}, "x: std_msgs/msg/Header has no such field"),
        ({"stamp": {"sec": 2**31}}, "stamp.sec: 2147483648 is not within"),
        ({"stamp": []}, "stamp: an object is expected, not list"),
        ({"frame_id": 1}, "frame_id: a string is expected, not int"),
        ([], "std_msgs/msg/Header: an object is expected, not list"),
    ],
)
def test_what_an_application_sends_is_checked(codecs: CodecFactory, data: Any, problem: str) -> None:
    plain = Plain(codecs, "std_msgs/msg/Header")
    for read, text in ((plain.from_json, json.dumps(data).encode()), (plain.from_cbor, cbor2.dumps(data))):
        with pytest.raises(ValidationError) as caught:
            read(text)
        assert str(caught.value).startswith(problem)


def test_unknown_types_are_named(codecs: CodecFactory) -> None:
    with pytest.raises(UnknownTypeError, match="nobody/msg/Knows"):
        codecs.codec("nobody/msg/Knows")
    with pytest.raises(UnknownTypeError):
        codecs.store.service("std_msgs/msg/String")


def test_parts_of_services_and_actions_are_messages() -> None:
    store = TypeStore.of("jazzy")
    assert isinstance(store.message("std_srvs/srv/SetBool_Request"), Message)
    event = store.message("std_srvs/srv/SetBool_Event")
    assert [field.name for field in event.fields] == ["info", "request", "response"]
    assert dataclasses.asdict(event.fields[1].type)["size"] == 1
