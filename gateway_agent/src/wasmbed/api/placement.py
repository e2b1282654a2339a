"""Placement: one application on up to 250 devices of one gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wasmbed.api.application import ISOLATION_SHARED
from wasmbed.api.constants import MESSAGE_BYTES, PLACEMENT
from wasmbed.api.meta import Condition, Metadata, open_object, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.api.fields import Fields


@dataclass(frozen=True)
class ApplicationRef:
    """The application a Placement is of."""

    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True)
class PlacementLimits:
    """Limits of one instance."""

    memory_bytes: int
    stack_bytes: int
    cpu_millis_per_call: int


@dataclass(frozen=True)
class PlacementPx4:
    """``spec.px4``: rights, and the MAVLink ids where the device does not state its own."""

    rights: tuple[str, ...] = ()
    system_id: int | None = None
    component_id: int | None = None

    @classmethod
    def from_fields(cls, fields: Fields) -> PlacementPx4:
        """Read it."""
        return cls(fields.texts("rights"), fields.optional_integer("systemId"), fields.optional_integer("componentId"))

    def to_dict(self) -> dict[str, Any]:
        """It as it is written; what there is none of is left out."""
        ids = {"systemId": self.system_id, "componentId": self.component_id}
        return {"rights": list(self.rights)} | {name: value for name, value in ids.items() if value is not None}


@dataclass(frozen=True)
class PlacementDevice:
    """One of ``spec.devices``; the class is not checked, so that an older gateway reads newer ones."""

    name: str
    namespace: str
    uid: str
    device_class: str
    capabilities: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the EdgeDevice."""
        return (self.namespace, self.name)

    @classmethod
    def from_fields(cls, fields: Fields) -> PlacementDevice:
        """Read one device."""
        return cls(
            name=fields.text("name"),
            namespace=fields.text("namespace"),
            uid=fields.text("uid"),
            device_class=fields.text("class"),
            capabilities=fields.texts("capabilities"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The device as it is written."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "class": self.device_class,
            "capabilities": list(self.capabilities),
        }


@dataclass(frozen=True)
class InstanceStatus:
    """One of ``status.devices``: the instance on one device, since a time (RFC 3339)."""

    name: str
    namespace: str
    state: str
    digest: str = ""
    reason: str = ""
    message: str = ""
    restarts: int = 0
    since: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the EdgeDevice."""
        return (self.namespace, self.name)

    @classmethod
    def from_fields(cls, fields: Fields) -> InstanceStatus:
        """Read one instance."""
        return cls(
            name=fields.text("name"),
            namespace=fields.text("namespace"),
            state=fields.text("state"),
            digest=fields.text_or("digest"),
            reason=fields.text_or("reason"),
            message=fields.text_or("message"),
            restarts=fields.integer_or("restarts"),
            since=fields.text_or("since"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The instance as it is written: the message cut to its limit, what is empty left out."""
        texts = {
            "digest": self.digest,
            "reason": self.reason,
            "message": shorten(self.message, MESSAGE_BYTES),
            "since": self.since,
        }
        return {
            "name": self.name,
            "namespace": self.namespace,
            "state": self.state,
            "restarts": self.restarts,
        } | {key: value for key, value in texts.items() if value}


@dataclass(frozen=True)
class PlacementStatus:
    """``status`` of a Placement."""

    observed_generation: int = 0
    devices: tuple[InstanceStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> PlacementStatus:
        """Read the status."""
        return cls(
            observed_generation=fields.integer_or("observedGeneration"),
            devices=tuple(InstanceStatus.from_fields(item) for item in fields.children("devices")),
            conditions=tuple(Condition.from_fields(item) for item in fields.children("conditions")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The status as the gateway's agent applies it."""
        return {
            "observedGeneration": self.observed_generation,
            "devices": [device.to_dict() for device in self.devices],
            "conditions": [condition.to_dict() for condition in self.conditions],
        }


@dataclass(frozen=True)
class Placement:
    """A Placement; `image` is the reference without digest, `digest` that of the OCI manifest.

    `ros2` has domainId, topics, services and actions as the application has them. `cpu_millis` is a share of one core
    in thousandths, None for no bound.
    """

    metadata: Metadata
    gateway: str
    application: ApplicationRef
    image: str
    digest: str
    devices: tuple[PlacementDevice, ...]
    limits: PlacementLimits
    grants: tuple[str, ...] = ()
    isolation: str = ISOLATION_SHARED
    cpu_millis: int | None = None
    allow_in_flight: bool = False
    px4: PlacementPx4 | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ros2: Mapping[str, Any] = field(default_factory=dict)
    status: PlacementStatus = PlacementStatus()

    @classmethod
    def from_dict(cls, data: object) -> Placement:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "Placement")
        spec = fields.child("spec")
        application, limits = spec.child("application"), spec.child("limits")
        return cls(
            metadata=metadata,
            gateway=spec.text("gateway"),
            application=ApplicationRef(
                application.text("namespace"),
                application.text("name"),
                application.text("uid"),
                application.integer("generation"),
            ),
            image=spec.text("image"),
            digest=spec.text("digest"),
            devices=tuple(PlacementDevice.from_fields(item) for item in spec.children("devices")),
            limits=PlacementLimits(
                limits.integer("memoryBytes"), limits.integer("stackBytes"), limits.integer("cpuMillisPerCall")
            ),
            grants=spec.texts("grants"),
            isolation=spec.text_or("isolation", ISOLATION_SHARED),
            cpu_millis=spec.optional_integer("cpuMillis"),
            allow_in_flight=spec.flag("allowInFlight"),
            px4=PlacementPx4.from_fields(spec.child("px4")) if spec.has("px4") else None,
            env={item.text("name"): item.text("value") for item in spec.children("env")},
            ros2=spec.mapping("ros2"),
            status=PlacementStatus.from_fields(fields.child_or_empty("status")),
        )

    def spec_to_dict(self) -> dict[str, Any]:
        """The spec as the controller applies it."""
        spec: dict[str, Any] = {
            "gateway": self.gateway,
            "application": {
                "namespace": self.application.namespace,
                "name": self.application.name,
                "uid": self.application.uid,
                "generation": self.application.generation,
            },
            "image": self.image,
            "digest": self.digest,
            "devices": [device.to_dict() for device in self.devices],
            "limits": {
                "memoryBytes": self.limits.memory_bytes,
                "stackBytes": self.limits.stack_bytes,
                "cpuMillisPerCall": self.limits.cpu_millis_per_call,
            },
            "grants": list(self.grants),
            "env": [{"name": name, "value": value} for name, value in self.env.items()],
        }
        if self.isolation != ISOLATION_SHARED:
            spec["isolation"] = self.isolation
        if self.cpu_millis is not None:
            spec["cpuMillis"] = self.cpu_millis
        if self.allow_in_flight:
            spec["allowInFlight"] = True
        if self.px4 is not None:
            spec["px4"] = self.px4.to_dict()
        if self.ros2:
            spec["ros2"] = dict(self.ros2)
        return spec

    def to_dict(self) -> dict[str, Any]:
        """The object as the controller applies it: identity, labels and spec."""
        return {
            "apiVersion": PLACEMENT.api_version,
            "kind": PLACEMENT.kind,
            "metadata": {
                "name": self.metadata.name,
                "namespace": self.metadata.namespace,
                "labels": dict(self.metadata.labels),
            },
            "spec": self.spec_to_dict(),
        }
