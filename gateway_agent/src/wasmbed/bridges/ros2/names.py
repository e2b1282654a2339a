"""Names of ROS 2 and what they are called in DDS (topic and service name mapping of ROS 2, design article)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2.errors import ConfigurationError, NameRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NAME: Final = 247  # what remains of DDS's 256 characters beside prefix and suffix
_TOKEN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_node(name: str) -> str:
    """A node's name is one token; raises NameRejectedError."""
    if not _TOKEN.fullmatch(name) or len(name) > 255:
        raise NameRejectedError(f"{name[:80]!r} is not a node name: letters, digits and _, not beginning with a digit")
    return name


def check_namespace(namespace: str) -> str:
    """An absolute namespace, `/` alone or without a slash at the end; raises NameRejectedError."""
    if namespace == "/":
        return namespace
    if not namespace.startswith("/") or not all(_TOKEN.fullmatch(token) for token in namespace[1:].split("/")):
        raise NameRejectedError(f"{namespace[:80]!r} is not an absolute namespace such as /drone1")
    return namespace


def resolve(name: str, node: str, namespace: str = "/", remappings: Mapping[str, str] | None = None) -> str:
    """The full name of a topic, service or action: relative ones are in the namespace, `~/x` below the node.

    Raises:
        NameRejectedError: not a name.
    """
    base = "" if namespace == "/" else namespace
    if name == "~" or name.startswith("~/"):
        full = f"{base}/{node}{name[1:]}"
    else:
        full = name if name.startswith("/") else f"{base}/{name}"
    if remappings and full in remappings:
        full = remappings[full]
    tokens = full[1:].split("/")
    if len(full) > MAX_NAME or not all(_TOKEN.fullmatch(token) and "__" not in token for token in tokens):
        raise NameRejectedError(f"{name[:80]!r} is not a topic name: tokens of letters, digits and _, separated by /")
    return full


def remappings(rules: Iterable[str], node: str, namespace: str = "/") -> dict[str, str]:
    """Rules `from:=to` as full names; raises ConfigurationError."""
    found: dict[str, str] = {}
    for rule in rules:
        source, separator, target = rule.partition(":=")
        if not separator:
            raise ConfigurationError(f"remap: {rule[:80]!r} is not from:=to")
        found[resolve(source, node, namespace)] = resolve(target, node, namespace)
    return found


def dds_type(name: str) -> str:
    """`sensor_msgs/msg/Imu` is `sensor_msgs::msg::dds_::Imu_` in DDS."""
    package, kind, rest = name.split("/")
    return f"{package}::{kind}::dds_::{rest}_"


def ros_type(dds_name: str) -> str | None:
    """The ROS name of a DDS type, None when it is not one of ROS."""
    parts = dds_name.split("::")
    if len(parts) != 4 or parts[2] != "dds_" or not parts[3].endswith("_"):
        return None
    return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"


def dds_topic(name: str) -> str:
    return f"rt{name}"


def dds_request(name: str) -> str:
    return f"rq{name}Request"


def dds_reply(name: str) -> str:
    return f"rr{name}Reply"
