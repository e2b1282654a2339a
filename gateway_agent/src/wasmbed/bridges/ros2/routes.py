"""Routes: what an application may do in ROS 2, as its manifest declares it and the gateway allows it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import ConfigurationError, DefinitionError, NameRejectedError, UnknownTypeError
from wasmbed.bridges.ros2.qos import ACTION_STATUS, SERVICES, QosProfile, profile
from wasmbed.bridges.ros2.types import CodecFactory, Plain
from wasmbed.bridges.ros2.types.parser import check_type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_ROUTES: Final = 256
MAX_QUEUE: Final = 10_000
DEFAULT_QUEUE: Final = 64
DEFAULT_QUEUE_BYTES: Final = 8 << 20
MAX_RATE_HZ: Final = 100_000.0
ENCODINGS: Final = ("cdr", "cbor", "json")
_ALIAS: Final = re.compile(r"[A-Za-z0-9_/~.{}-]{1,64}")
_KINDS: Final = {
    "topics": ("topic", "msg", ("subscribe", "publish")),
    "services": ("service", "srv", ("call", "serve")),
    "actions": ("action", "action", ("call", "serve")),
}


@dataclass(frozen=True)
class Route:
    """One topic, service or action of an application; `name` is what the application calls it."""

    kind: str  # topic, service or action
    name: str
    target: str  # full ROS name
    type: str
    direction: str  # subscribe or publish; call or serve
    encoding: str = "cbor"
    qos: QosProfile = SERVICES
    max_rate_hz: float | None = None
    fields: tuple[str, ...] = ()
    queue: int = DEFAULT_QUEUE
    queue_bytes: int = DEFAULT_QUEUE_BYTES
    drop: str = "oldest"
    timeout_s: float = 5.0


@dataclass(frozen=True)
class Policy:
    """What the gateway allows: shell patterns of full names by direction; nothing that is not listed."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    domains: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Read `{subscribe, publish, call, serve: [pattern...], domains: [id...]}`; raises ConfigurationError."""
        unknown = data.keys() - {"subscribe", "publish", "call", "serve", "domains"}
        if unknown:
            raise ConfigurationError(f"policy: unknown {', '.join(sorted(unknown))}")
        patterns = {}
        for key in ("subscribe", "publish", "call", "serve"):
            values = data.get(key, [])
            if not isinstance(values, list) or not all(isinstance(v, str) and v.startswith(("/", "*")) for v in values):
                raise ConfigurationError(
                    f"policy.{key}: a list of patterns of full names such as /drone1/* is expected"
                )
            patterns[key] = tuple(values)
        domains = data.get("domains", [])
        if not isinstance(domains, list) or not all(type(item) is int for item in domains):
            raise ConfigurationError("policy.domains: a list of domain ids is expected")
        return cls(**patterns, domains=frozenset(domains))

    def refusal(self, route: Route, domain_id: int) -> str | None:
        """Why a route is not allowed, or None."""
        if domain_id not in self.domains:
            return f"domain {domain_id} is not in the gateway's policy.domains"
        if any(fnmatchcase(route.target, pattern) for pattern in getattr(self, route.direction)):
            return None
        return f"{route.target}: the gateway's policy.{route.direction} allows no such {route.kind}"


def parse_routes(data: Any, resolve: Callable[[str], str], codecs: CodecFactory) -> list[Route]:
    """Read `{topics, services, actions}` of a manifest or of the gateway's configuration.

    Raises:
        ConfigurationError: the message begins with the path of the key, such as `topics[0].type`.
    """
    if not isinstance(data, dict):
        raise ConfigurationError("ros2: an object is expected")
    routes: list[Route] = []
    for key in _KINDS:
        entries = data.get(key, [])
        if not isinstance(entries, list):
            raise ConfigurationError(f"{key}: a list is expected")
        for index, entry in enumerate(entries):
            routes.append(_route(entry, f"{key}[{index}]", key, resolve, codecs))
            if len(routes) > MAX_ROUTES:
                raise ConfigurationError(f"{key}: more than {MAX_ROUTES} routes")
    seen: set[tuple[str, str]] = set()
    for route in routes:
        mark = (route.name, route.direction)
        if mark in seen:
            raise ConfigurationError(f"{route.name}: two routes to {route.direction} have this name; give one a `name`")
        seen.add(mark)
    return routes


def _route(entry: Any, path: str, key: str, resolve: Callable[[str], str], codecs: CodecFactory) -> Route:
    kind, part, directions = _KINDS[key]
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{path}: an object is expected")
    entry = dict(entry)
    target, type_name = _text(entry, kind, path), _text(entry, "type", path)
    try:
        full = resolve(target)
    except NameRejectedError as error:
        raise ConfigurationError(f"{path}.{kind}: {error}") from None
    type_name = _check_type(type_name, part, f"{path}.type", codecs)
    name = entry.pop("name", target)
    if not isinstance(name, str) or not _ALIAS.fullmatch(name):
        raise ConfigurationError(f"{path}.name: 1 to 64 letters, digits, _, /, ~, ., braces or - are expected")
    direction = _word(entry, "direction", path, directions, None)
    encoding = _word(entry, "encoding", path, ENCODINGS, "cbor")
    values: dict[str, Any] = {"queue": int(_number(entry, "queue", path, DEFAULT_QUEUE, 1, MAX_QUEUE) or 0)}
    values["queue_bytes"] = int(_number(entry, "queueBytes", path, DEFAULT_QUEUE_BYTES, 1024, 1 << 30) or 0)
    values["drop"] = _word(entry, "drop", path, ("oldest", "newest"), "oldest")
    values["max_rate_hz"] = _number(entry, "maxRateHz", path, None, 0.001, MAX_RATE_HZ)
    if kind == "topic":
        values["qos"] = profile(entry.pop("qos", None), f"{path}.qos")
        values["fields"] = _fields(entry, path, direction, encoding, type_name, codecs)
    else:
        values["qos"] = SERVICES if kind == "service" else ACTION_STATUS
        values["timeout_s"] = _number(entry, "timeoutSeconds", path, 5.0 if kind == "service" else 600.0, 0.01, 86400.0)
    if entry:
        raise ConfigurationError(f"{path}: unknown {', '.join(sorted(map(str, entry)))}")
    return Route(kind, name, full, type_name, direction, encoding, **values)


def _fields(
    entry: dict[str, Any], path: str, direction: str, encoding: str, type_name: str, codecs: CodecFactory
) -> tuple[str, ...]:
    fields = entry.pop("fields", [])
    if not isinstance(fields, list) or not all(isinstance(item, str) for item in fields):
        raise ConfigurationError(f"{path}.fields: a list of names such as header.stamp is expected")
    if fields and (direction != "subscribe" or encoding == "cdr"):
        raise ConfigurationError(f"{path}.fields: only a route to subscribe in cbor or json chooses fields")
    try:
        Plain(codecs, type_name, fields)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}.{error}") from None
    return tuple(fields)


def _check_type(name: str, part: str, path: str, codecs: CodecFactory) -> str:
    try:
        if name.count("/") == 1:
            name = name.replace("/", f"/{part}/")
        name = check_type_name(name)
        if name.split("/")[1] != part:
            raise ConfigurationError(f"{path}: {name} is not of kind {part}")
        if part == "msg":
            codecs.codec(name)
        elif part == "srv":
            codecs.store.service(name)
        else:
            codecs.store.action(name)
    except (DefinitionError, UnknownTypeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return name


def _text(entry: dict[str, Any], key: str, path: str) -> str:
    value = entry.pop(key, None)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{path}.{key}: a string is expected")
    return value


def _word(entry: dict[str, Any], key: str, path: str, words: Iterable[str], default: str | None) -> str:
    value = entry.pop(key, default)
    if value not in words:
        raise ConfigurationError(f"{path}.{key}: one of {', '.join(words)} is expected")
    return str(value)


def _number(entry: dict[str, Any], key: str, path: str, default: float | None, low: float, high: float) -> float | None:
    if key not in entry:
        return default
    value = entry.pop(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigurationError(f"{path}.{key}: {low:g} to {high:g} is expected")
    return float(value)
