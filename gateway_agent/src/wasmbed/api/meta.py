"""Object metadata and conditions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from wasmbed.api.fields import ApiObjectError, Fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Metadata:
    """What Wasmbed reads of ``metadata``."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for and finalizers hold it up."""
        return self.deletion_timestamp is not None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)

    @classmethod
    def from_fields(cls, fields: Fields) -> Metadata:
        """Read ``metadata``."""
        return cls(
            name=fields.text("name"),
            namespace=fields.text_or("namespace"),
            uid=fields.text_or("uid"),
            generation=fields.integer_or("generation"),
            resource_version=fields.text_or("resourceVersion"),
            labels=fields.text_map("labels"),
            finalizers=fields.texts("finalizers"),
            deletion_timestamp=fields.optional_text("deletionTimestamp"),
        )


def open_object(data: object, kind: str) -> tuple[Metadata, Fields]:
    """The metadata and the fields of an object that must be of `kind`.

    Raises:
        ApiObjectError: it is not a mapping, is of another kind, or its metadata cannot be read.
    """
    outer = Fields(data, kind)
    if outer.text_or("kind", kind) != kind:
        raise ApiObjectError(f"expected {kind}, got {outer.text('kind')}")
    metadata = Metadata.from_fields(outer.child("metadata"))
    name = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
    return metadata, Fields(data, f"{kind} {name}")


@dataclass(frozen=True)
class Condition:
    """One condition (list-map by type); ``last_transition_time`` is RFC 3339."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""

    @classmethod
    def from_fields(cls, fields: Fields) -> Condition:
        """Read one condition."""
        status = fields.text("status")
        if status not in {"True", "False", "Unknown"}:
            raise ApiObjectError(f"condition {fields.text('type')}: status must be True, False or Unknown")
        return cls(
            type=fields.text("type"),
            status="True" if status == "True" else "False" if status == "False" else "Unknown",
            reason=fields.text_or("reason"),
            message=fields.text_or("message"),
            observed_generation=fields.integer_or("observedGeneration"),
            last_transition_time=fields.text_or("lastTransitionTime"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The condition as it is written."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": self.last_transition_time,
        }


def settle_condition(previous: Iterable[Condition], new: Condition, *, now: str) -> Condition:
    """`new` with the time of its last transition: that of the previous one of its type while the status is the same."""
    for old in previous:
        if old.type == new.type and old.status == new.status and old.last_transition_time:
            return replace(new, last_transition_time=old.last_transition_time)
    return replace(new, last_transition_time=now)


def timestamp(moment: datetime | None = None) -> str:
    """A time (default: now) in RFC 3339 with whole seconds in UTC, as ``metav1.Time`` has it."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime | None = None) -> str:
    """A time (default: now) in RFC 3339 with microseconds in UTC, as ``metav1.MicroTime`` has it."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def shorten(text: str, limit_bytes: int) -> str:
    """`text` in at most `limit_bytes` bytes of UTF-8, cut at a character, with … where something was cut."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode("utf-8")
    mark = "…".encode()
    return encoded[: limit_bytes - len(mark)].decode("utf-8", "ignore") + mark.decode()
