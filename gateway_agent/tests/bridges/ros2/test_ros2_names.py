"""Names and QoS profiles."""

from __future__ import annotations

import contextlib
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.bridges.ros2 import qos
from wasmbed.bridges.ros2.errors import ConfigurationError, NameRejectedError
from wasmbed.bridges.ros2.names import (
    check_namespace,
    check_node,
    dds_reply,
    dds_request,
    dds_topic,
    dds_type,
    remappings,
    resolve,
    ros_type,
)


def test_names_are_resolved_as_ros_does() -> None:
    assert resolve("imu", "n") == "/imu"
    assert resolve("imu", "n", "/drone1") == "/drone1/imu"
    assert resolve("/imu", "n", "/drone1") == "/imu"
    assert resolve("~/imu", "n", "/drone1") == "/drone1/n/imu"
    rules = remappings(["imu:=/sensors/imu", "~/x:=y"], "n", "/drone1")
    assert resolve("imu", "n", "/drone1", rules) == "/sensors/imu"
    assert resolve("~/x", "n", "/drone1", rules) == "/drone1/y"


@pytest.mark.parametrize("name", ["", "/", "a//b", "1a", "a/2b", "a b", "a/", "ä", "a__b", "x" * 300, "a:=b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(NameRejectedError):
        resolve(name, "n")


@given(st.text(max_size=40))
def test_any_name_is_resolved_or_refused(name: str) -> None:
    for check in (lambda: resolve(name, "n"), lambda: check_node(name), lambda: check_namespace(name)):
        with contextlib.suppress(NameRejectedError):
            assert check()


def test_dds_names_are_those_of_rmw() -> None:
    assert dds_topic("/ns1/x") == "rt/ns1/x"
    assert dds_request("/ns1/toggle") == "rq/ns1/toggleRequest"
    assert dds_reply("/ns1/toggle") == "rr/ns1/toggleReply"
    assert dds_type("sensor_msgs/msg/Imu") == "sensor_msgs::msg::dds_::Imu_"
    assert dds_type("test_msgs/action/Fibonacci_SendGoal_Request") == (
        "test_msgs::action::dds_::Fibonacci_SendGoal_Request_"
    )
    assert ros_type("sensor_msgs::msg::dds_::Imu_") == "sensor_msgs/msg/Imu"
    assert ros_type("HelloWorld") is None


def test_profiles_are_those_of_rmw() -> None:
    assert qos.profile(None) == qos.QosProfile(True, False, False, 10)
    assert qos.profile("sensor_data") == qos.QosProfile(False, False, False, 5)
    found = qos.profile({"profile": "sensor_data", "reliability": "reliable", "depth": 3, "deadline": 0.5})
    assert found == qos.QosProfile(True, False, False, 3, deadline_s=0.5)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ("fast", "qos.profile"),
        ({"reliability": "maybe"}, "qos.reliability"),
        ({"depth": 0}, "qos.depth"),
        ({"depth": True}, "qos.depth"),
        ({"lifespan": -1}, "qos.lifespan"),
        ({"colour": 1}, "qos: unknown colour"),
        (7, "qos"),
    ],
)
def test_wrong_profiles_are_refused_with_their_key(data: Any, key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{key}"):
        qos.profile(data)


def test_offers_and_requests_match_as_dds_says() -> None:
    for offered, requested in product((True, False), repeat=2):
        expected = "reliability" if requested and not offered else None
        assert qos.incompatibility(qos.QosProfile(offered), qos.QosProfile(requested)) == expected
        expected = "durability" if requested and not offered else None
        found = qos.incompatibility(qos.QosProfile(transient_local=offered), qos.QosProfile(transient_local=requested))
        assert found == expected
    assert qos.incompatibility(qos.QosProfile(), qos.QosProfile(deadline_s=1)) == "deadline"
    assert qos.incompatibility(qos.QosProfile(deadline_s=0.5), qos.QosProfile(deadline_s=1)) is None
    assert qos.incompatibility(qos.QosProfile(), qos.QosProfile(liveliness="manual_by_topic")) == "liveliness"
    assert qos.incompatibility(qos.QosProfile(liveliness="manual_by_topic"), qos.QosProfile()) is None
