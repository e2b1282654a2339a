"""QoS profiles in recordings, as rosbag2 writes and reads them: a YAML list in a string, the offers of a topic.

Numbers are those of rmw/types.h, up to Humble and Iron; Jazzy (metadata version 9) has names. All read the numbers.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final

import yaml

from wasmbed.bridges.ros2.qos import DEFAULT, INFINITE, MAX_DEPTH, QosProfile

log = logging.getLogger(__name__)

MAX_TEXT: Final = 1 << 16
# What a transient-local topic keeps at most when it is replayed: a recording can ask for all of itself.
MAX_KEPT: Final = 1000
_HISTORY: Final = {1: "keep_last", 2: "keep_all"}
_RELIABILITY: Final = {1: "reliable", 2: "best_effort"}
_DURABILITY: Final = {1: "transient_local", 2: "volatile"}
_LIVELINESS: Final = {1: "automatic", 3: "manual_by_topic"}
# RMW_DURATION_INFINITE; the older implementations' ends with or above the other.
_FOREVER: Final = (9223372036, 854775807)
_FOREVER_S: Final = 0x7FFFFFFF
# A shorter time would have DDS do nothing but watch it.
_SHORTEST_S: Final = 0.001


def offered(profile: QosProfile) -> str:
    """A profile for `offered_qos_profiles`, in numbers: Humble reads nothing else."""
    return (
        f"- history: {2 if profile.keep_all else 1}\n"
        f"  depth: {profile.depth}\n"
        f"  reliability: {1 if profile.reliable else 2}\n"
        f"  durability: {1 if profile.transient_local else 2}\n"
        f"  deadline:\n{_time(profile.deadline_s)}"
        f"  lifespan:\n{_time(profile.lifespan_s)}"
        f"  liveliness: {3 if profile.liveliness == 'manual_by_topic' else 1}\n"
        f"  liveliness_lease_duration:\n{_time(profile.lease_s)}"
        "  avoid_ros_namespace_conventions: false\n"
    )


def _time(seconds: float) -> str:
    sec, nsec = _FOREVER if seconds == INFINITE else divmod(round(seconds * 1e9), 10**9)
    return f"    sec: {sec}\n    nsec: {nsec}\n"


def recorded(text: str, topic: str = "") -> QosProfile:
    """What to offer for a topic that was recorded so: one offer that meets what any of the recorded ones met.

    Without one, or one that cannot be read (which is logged), it is DEFAULT, and so is each policy that was not known.
    """
    if not text.strip():
        return DEFAULT
    try:
        profiles = _profiles(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        log.warning("QoS of the recording not understood, default taken topic=%s error=%s", topic, _line(error))
        return DEFAULT
    if not profiles:
        return DEFAULT
    first = profiles[0]
    merged = replace(
        first,
        reliable=any(item.reliable for item in profiles),
        transient_local=any(item.transient_local for item in profiles),
        keep_all=any(item.keep_all for item in profiles),
        depth=max(item.depth for item in profiles),
    )
    if merged.transient_local and (merged.keep_all or merged.depth > MAX_KEPT):
        merged = replace(merged, keep_all=False, depth=MAX_KEPT)
    return merged


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _profiles(text: str) -> list[QosProfile]:
    if len(text) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} characters")
    items = yaml.safe_load(text)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("not a list of profiles")
    return [_profile(item) for item in items]


def _profile(item: dict[Any, Any]) -> QosProfile:
    history = _word(item, "history", _HISTORY)
    depth = item.get("depth")
    known = history == "keep_last" and type(depth) is int and depth > 0
    return QosProfile(
        reliable=_word(item, "reliability", _RELIABILITY) != "best_effort",
        transient_local=_word(item, "durability", _DURABILITY) == "transient_local",
        keep_all=history == "keep_all",
        depth=min(depth, MAX_DEPTH) if known and isinstance(depth, int) else DEFAULT.depth,
        deadline_s=_seconds(item, "deadline"),
        lifespan_s=_seconds(item, "lifespan"),
        liveliness=_word(item, "liveliness", _LIVELINESS) or "automatic",
        lease_s=_seconds(item, "liveliness_lease_duration"),
    )


def _word(item: dict[Any, Any], key: str, words: dict[int, str]) -> str:
    """A policy's name; empty for one that is none of the words, such as that of the system or one not known."""
    value = item.get(key)
    if type(value) is int:
        return words.get(value, "")
    return value if isinstance(value, str) and value in words.values() else ""


def _seconds(item: dict[Any, Any], key: str) -> float:
    """A duration; zero says that there is none."""
    value = item.get(key)
    if not isinstance(value, dict):
        return INFINITE
    sec, nsec = value.get("sec", 0), value.get("nsec", 0)
    if type(sec) is not int or type(nsec) is not int or sec < 0 or nsec < 0:
        raise ValueError(f"{key}: sec and nsec are expected")
    if sec >= _FOREVER_S or not (sec or nsec):
        return INFINITE
    if nsec >= 10**9:
        raise ValueError(f"{key}: nsec is below 1000000000")
    return max(_SHORTEST_S, sec + nsec / 1e9)
