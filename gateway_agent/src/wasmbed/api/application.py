"""WasmApplication: a module and the devices on which it is to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wasmbed.api.meta import Condition, Metadata, open_object
from wasmbed.api.quantity import quantity_bytes, quantity_millis
from wasmbed.api.selector import LabelSelector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.api.fields import Fields


ISOLATION_SHARED = "shared"
PX4_RIGHTS = ("command", "offboard", "mission")
"""Rights of an application that names none."""


@dataclass(frozen=True)
class Target:
    """Devices of one type, all of them or those that a selector chooses."""

    device_type: str
    selector: LabelSelector = field(default_factory=LabelSelector)


@dataclass(frozen=True)
class Ros2:
    """``spec.communication.ros2``; `routes` has topics, services and actions as they are written (docs/ros2.md)."""

    enabled: bool = False
    domain_id: int | None = None
    routes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_fields(cls, communication: Fields) -> Ros2:
        """Read the section."""
        fields, section = communication.child_or_empty("ros2"), communication.mapping("ros2")
        routes = {key: section[key] for key in ("topics", "services", "actions") if section.get(key)}
        return cls(fields.flag("enabled"), fields.optional_integer("domainId"), routes)


@dataclass(frozen=True)
class Px4:
    """``spec.communication.px4``; `rights` are what the application may do beyond reading."""

    enabled: bool = False
    system_id: int | None = None
    component_id: int | None = None
    rights: tuple[str, ...] = PX4_RIGHTS


@dataclass(frozen=True)
class Counts:
    """Numbers of devices in ``status.counts``."""

    selected: int = 0
    running: int = 0
    failed: int = 0
    pending: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The counts as they are written."""
        return {
            "selected": self.selected,
            "running": self.running,
            "failed": self.failed,
            "pending": self.pending,
        }


@dataclass(frozen=True)
class ApplicationDevice:
    """One of ``status.devices``."""

    name: str
    state: str
    gateway: str = ""
    reason: str = ""
    message: str = ""

    @classmethod
    def from_fields(cls, fields: Fields) -> ApplicationDevice:
        """Read one device."""
        return cls(
            name=fields.text("name"),
            state=fields.text("state"),
            gateway=fields.text_or("gateway"),
            reason=fields.text_or("reason"),
            message=fields.text_or("message"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The device as it is written; what is empty is left out."""
        values = {"gateway": self.gateway, "reason": self.reason, "message": self.message}
        return {"name": self.name, "state": self.state} | {key: value for key, value in values.items() if value}


@dataclass(frozen=True)
class ApplicationStatus:
    """``status`` of a WasmApplication."""

    observed_generation: int = 0
    phase: str = ""
    reason: str = ""
    message: str = ""
    resolved_image: str = ""
    resolved_digest: str = ""
    counts: Counts = Counts()
    devices: tuple[ApplicationDevice, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> ApplicationStatus:
        """Read the status."""
        counts = fields.child_or_empty("counts")
        return cls(
            observed_generation=fields.integer_or("observedGeneration"),
            phase=fields.text_or("phase"),
            reason=fields.text_or("reason"),
            message=fields.text_or("message"),
            resolved_image=fields.text_or("resolvedImage"),
            resolved_digest=fields.text_or("resolvedDigest"),
            counts=Counts(*(counts.integer_or(name) for name in ("selected", "running", "failed", "pending"))),
            devices=tuple(ApplicationDevice.from_fields(item) for item in fields.children("devices")),
            conditions=tuple(Condition.from_fields(item) for item in fields.children("conditions")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The status as it is written; texts that are empty are left out."""
        texts = {
            "reason": self.reason,
            "message": self.message,
            "resolvedImage": self.resolved_image,
            "resolvedDigest": self.resolved_digest,
        }
        return {
            "observedGeneration": self.observed_generation,
            "phase": self.phase,
            "counts": self.counts.to_dict(),
            "devices": [device.to_dict() for device in self.devices],
            "conditions": [condition.to_dict() for condition in self.conditions],
        } | {key: value for key, value in texts.items() if value}


@dataclass(frozen=True)
class WasmApplication:
    """A WasmApplication; memory and stack in bytes, CPU time per call in milliseconds, None where not given.

    cpu_limit is a share of one core in thousandths, isolation where its instances run on a gateway or a Linux device.
    """

    metadata: Metadata
    wasm_image: str
    targets: tuple[Target, ...]
    memory_limit: int | None = None
    cpu_limit: int | None = None
    isolation: str = ISOLATION_SHARED
    max_memory: int | None = None
    max_stack: int | None = None
    max_cpu_millis_per_call: int | None = None
    ros2: Ros2 = Ros2()
    px4: Px4 = Px4()
    allow_in_flight: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    status: ApplicationStatus = ApplicationStatus()

    @classmethod
    def from_dict(cls, data: object) -> WasmApplication:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "WasmApplication")
        spec = fields.child("spec")
        limits = spec.child_or_empty("resources").child_or_empty("limits")
        memory, cpu = limits.quantity("memory"), limits.quantity("cpu")
        runtime = spec.child_or_empty("runtime")
        config = runtime.child_or_empty("config")
        communication = spec.child_or_empty("communication")
        px4 = communication.child_or_empty("px4")
        return cls(
            metadata=metadata,
            wasm_image=spec.text("wasmImage"),
            targets=tuple(
                Target(item.text("deviceType"), LabelSelector.from_fields(item.child_or_empty("selector")))
                for item in spec.children("targetDevices")
            ),
            memory_limit=None if memory is None else quantity_bytes(memory),
            cpu_limit=None if cpu is None else quantity_millis(cpu),
            isolation=runtime.text_or("isolation", ISOLATION_SHARED),
            max_memory=config.optional_integer("maxMemory"),
            max_stack=config.optional_integer("maxStack"),
            max_cpu_millis_per_call=config.optional_integer("maxCpuMillisPerCall"),
            ros2=Ros2.from_fields(communication),
            px4=Px4(
                px4.flag("enabled"),
                px4.optional_integer("systemId"),
                px4.optional_integer("componentId"),
                px4.texts("rights") if px4.has("rights") else PX4_RIGHTS,
            ),
            allow_in_flight=spec.flag("allowInFlight"),
            env={item.text("name"): item.text("value") for item in spec.children("env")},
            status=ApplicationStatus.from_fields(fields.child_or_empty("status")),
        )
