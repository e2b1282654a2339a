"""QoS profiles of ROS 2 and when an offer meets a request (rmw qos_profiles; DDS 1.4 §2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from wasmbed.bridges.ros2.errors import ConfigurationError

INFINITE: Final = -1.0
MAX_DEPTH: Final = 100_000


@dataclass(frozen=True)
class QosProfile:
    """Times in seconds, INFINITE where there is none; depth counts with keep_last alone."""

    reliable: bool = True
    transient_local: bool = False
    keep_all: bool = False
    depth: int = 10
    deadline_s: float = INFINITE
    lifespan_s: float = INFINITE
    liveliness: str = "automatic"  # or manual_by_topic
    lease_s: float = INFINITE

    def describe(self) -> str:
        history = "keep all" if self.keep_all else f"keep last {self.depth}"
        return (
            f"{'reliable' if self.reliable else 'best effort'}, "
            f"{'transient local' if self.transient_local else 'volatile'}, {history}"
        )


DEFAULT: Final = QosProfile()
SENSOR_DATA: Final = QosProfile(reliable=False, depth=5)
SERVICES: Final = QosProfile()
PARAMETERS: Final = QosProfile(depth=1000)
PARAMETER_EVENTS: Final = QosProfile(depth=1000)
ROSOUT: Final = QosProfile(transient_local=True, depth=1000, lifespan_s=10.0)
LATCHED: Final = QosProfile(transient_local=True, depth=1)
ACTION_STATUS: Final = LATCHED
PROFILES: Final = {
    "default": DEFAULT,
    "sensor_data": SENSOR_DATA,
    "services": SERVICES,
    "parameters": PARAMETERS,
    "parameter_events": PARAMETER_EVENTS,
    "rosout": ROSOUT,
    "latched": LATCHED,
}
_WORDS: Final = {
    "reliability": ("reliable", {"reliable": True, "best_effort": False}),
    "durability": ("transient_local", {"transient_local": True, "volatile": False}),
    "history": ("keep_all", {"keep_all": True, "keep_last": False}),
}
# Policies of DDS by number, as they come with an incompatibility.
POLICIES: Final = {
    2: "durability",
    3: "presentation",
    4: "deadline",
    5: "latency budget",
    6: "ownership",
    8: "liveliness",
    11: "reliability",
    12: "destination order",
    23: "data representation",
    24: "type consistency",
}


def incompatibility(offered: QosProfile, requested: QosProfile) -> str | None:
    """The policy for which a publisher's offer does not meet a subscription's request, or None."""
    if requested.reliable and not offered.reliable:
        return "reliability"
    if requested.transient_local and not offered.transient_local:
        return "durability"
    if _longer(offered.deadline_s, requested.deadline_s):
        return "deadline"
    if (requested.liveliness == "manual_by_topic" != offered.liveliness) or _longer(offered.lease_s, requested.lease_s):
        return "liveliness"
    return None


def _longer(offered: float, requested: float) -> bool:
    return requested != INFINITE and (offered == INFINITE or offered > requested)


def profile(data: Any, key: str = "qos") -> QosProfile:
    """A profile by name, or `{profile?, reliability?, durability?, history?, depth?, deadline?, lifespan?}`.

    Raises:
        ConfigurationError: the message begins with the key.
    """
    if data is None:
        return DEFAULT
    if isinstance(data, str):
        data = {"profile": data}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{key}: the name of a profile or an object is expected")
    data = dict(data)
    name = data.pop("profile", "default")
    if name not in PROFILES:
        raise ConfigurationError(f"{key}.profile: {name!r} is none of {', '.join(PROFILES)}")
    changes: dict[str, Any] = {}
    for word, (attribute, values) in _WORDS.items():
        if word in data:
            value = data.pop(word)
            if value not in values:
                raise ConfigurationError(f"{key}.{word}: {value!r} is none of {', '.join(values)}")
            changes[attribute] = values[value]
    if "depth" in data:
        depth = changes["depth"] = data.pop("depth")
        if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= MAX_DEPTH:
            raise ConfigurationError(f"{key}.depth: 1 to {MAX_DEPTH} is expected")
    for word in ("deadline", "lifespan"):
        if word in data:
            changes[f"{word}_s"] = _seconds(data.pop(word), f"{key}.{word}")
    if data:
        raise ConfigurationError(f"{key}: unknown {', '.join(sorted(map(str, data)))}")
    return replace(PROFILES[name], **changes)


def _seconds(value: Any, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ConfigurationError(f"{key}: seconds above 0 are expected")
    return float(value)
