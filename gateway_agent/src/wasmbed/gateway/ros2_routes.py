"""Routes that the gateway's operator declares for applications, beside those of an application's own manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - the loader reads the hints
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from wasmbed.api import Grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.api import Placement

# With the 112 that a Placement may have, still below what a runtime takes.
MAX_CONFIGURED: Final = 128
_KINDS: Final = {
    "topics": ("topic", ("subscribe", "publish")),
    "services": ("service", ("call", "serve")),
    "actions": ("action", ("call", "serve")),
}
_ALIAS: Final = re.compile(r"[A-Za-z0-9_/~.{}-]{1,64}")
_PLACE: Final = re.compile(r"(topics|services|actions)\[(\d+)\](.*)", re.DOTALL)
# How many routes at the end of each list are the operator's.
_CONFIGURED: Final = "configured"


@dataclass(frozen=True)
class Ros2RoutesConfig:
    """Routes in the words of `communication.ros2`, and shell patterns of the applications (namespace/name) for them."""

    applications: tuple[str, ...]
    topics: tuple[Mapping[str, Any], ...] = ()
    services: tuple[Mapping[str, Any], ...] = ()
    actions: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not self.applications:
            raise ValueError("applications must have a pattern of namespace/name such as default/*; */* is all")
        for pattern in self.applications:
            if pattern.count("/") != 1:
                raise ValueError(f"applications: {pattern!r} must be a pattern of namespace/name such as default/*")
        for key, (kind, directions) in _KINDS.items():
            for index, entry in enumerate(getattr(self, key)):
                target = entry.get(kind)
                if not isinstance(target, str) or not _ALIAS.fullmatch(str(entry.get("name", target))):
                    raise ValueError(f"{key}[{index}]: {kind}, and name if there is one, must be 1 to 64 characters")
                if entry.get("direction") not in directions:
                    raise ValueError(f"{key}[{index}].direction must be one of {', '.join(directions)}")

    def count(self) -> int:
        """How many routes these are."""
        return len(self.topics) + len(self.services) + len(self.actions)


def with_configured(placement: Placement, configured: Sequence[Ros2RoutesConfig]) -> Placement:
    """A Placement with the operator's routes for its application behind its own; of one name the first counts.

    An application that may not use ROS 2 gets none.
    """
    application = f"{placement.application.namespace}/{placement.application.name}"
    mine = [it for it in configured if any(fnmatchcase(application, pattern) for pattern in it.applications)]
    if not mine or Grant.ROS2 not in placement.grants:
        return placement
    ros2 = dict(placement.ros2)
    names = {_name(entry, kind) for key, (kind, _) in _KINDS.items() for entry in ros2.get(key, [])}
    added: dict[str, int] = {}
    for key, (kind, _) in _KINDS.items():
        for entry in (entry for it in mine for entry in getattr(it, key)):
            if _name(entry, kind) not in names:
                names.add(_name(entry, kind))
                ros2[key] = [*ros2.get(key, []), dict(entry)]
                added[key] = added.get(key, 0) + 1
    return replace(placement, ros2=ros2 | {_CONFIGURED: added}) if added else placement


def place_of(problem: str, ros2: Mapping[str, Any]) -> str:
    """A problem that begins with the place of a route, with where that is written."""
    found = _PLACE.match(problem)
    if found is not None:
        key, index, rest = found[1], int(found[2]), found[3]
        routes = ros2.get(key, [])
        if len(routes) > index >= len(routes) - ros2.get(_CONFIGURED, {}).get(key, 0):
            return f"ros2.routes of the gateway's configuration, {key} {_name(routes[index], _KINDS[key][0])}{rest}"
    return f"communication.ros2.{problem}"


def _name(entry: Any, kind: str) -> str:
    """What applications call a route; a manifest's entry may be anything and is judged when it is opened."""
    return str(entry.get("name", entry.get(kind, ""))) if isinstance(entry, dict) else ""
