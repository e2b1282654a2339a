"""EdgeDevice: a device at the edge, and the class that follows from its hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wasmbed.api.constants import DeviceClass
from wasmbed.api.fields import ApiObjectError, Fields
from wasmbed.api.meta import Condition, Metadata, open_object
from wasmbed.api.vehicle import Vehicle, optional_vehicle


@dataclass(frozen=True)
class DeviceStatus:
    """``status`` of an EdgeDevice."""

    observed_generation: int = 0
    phase: str = ""
    reason: str = ""
    message: str = ""
    gateway: str = ""
    device_class: str = ""
    vehicle: Vehicle | None = None
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> DeviceStatus:
        """Read the status."""
        return cls(
            observed_generation=fields.integer_or("observedGeneration"),
            phase=fields.text_or("phase"),
            reason=fields.text_or("reason"),
            message=fields.text_or("message"),
            gateway=fields.text_or("gateway"),
            device_class=fields.text_or("deviceClass"),
            vehicle=optional_vehicle(fields),
            conditions=tuple(Condition.from_fields(item) for item in fields.children("conditions")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The status as it is written; texts that are empty are left out."""
        texts = {"reason": self.reason, "message": self.message, "gateway": self.gateway}
        values: dict[str, Any] = {
            "observedGeneration": self.observed_generation,
            "phase": self.phase,
            "deviceClass": self.device_class,
            "conditions": [condition.to_dict() for condition in self.conditions],
        }
        if self.vehicle is not None:
            values["vehicle"] = self.vehicle.to_dict()
        return values | {key: value for key, value in texts.items() if value}


@dataclass(frozen=True)
class EdgeDevice:
    """An EdgeDevice; coordinates are latitude and longitude in degrees (WGS 84), then altitude in metres if given."""

    metadata: Metadata
    device_type: str
    declared_class: DeviceClass | None = None
    cpu: str = ""
    capabilities: frozenset[str] = frozenset()
    coordinates: tuple[float, ...] = ()
    gateway_endpoint: str = ""
    gateway_name: str = ""
    public_key: str = ""
    px4_system_id: int | None = None
    suspend: bool = False
    status: DeviceStatus = DeviceStatus()

    @property
    def device_class(self) -> DeviceClass:
        """The class that holds: the declared one, else the one that follows from the CPU and the key."""
        return self.declared_class or default_class(self.cpu, has_key=bool(self.public_key))

    @classmethod
    def from_dict(cls, data: object) -> EdgeDevice:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "EdgeDevice")
        spec = fields.child("spec")
        declared = spec.optional_text("deviceClass")
        if declared is not None and declared not in set(DeviceClass):
            raise ApiObjectError(
                f"EdgeDevice {metadata.name}: spec.deviceClass must be one of {', '.join(DeviceClass)}"
            )
        return cls(
            metadata=metadata,
            device_type=spec.text("deviceType"),
            declared_class=DeviceClass(declared) if declared else None,
            cpu=spec.child_or_empty("hardware").text_or("cpu"),
            capabilities=frozenset(spec.texts("capabilities")),
            coordinates=spec.child_or_empty("location").numbers("coordinates"),
            gateway_endpoint=spec.child_or_empty("network").text_or("gatewayEndpoint"),
            gateway_name=spec.child_or_empty("gatewayRef").text_or("name"),
            public_key=spec.text_or("publicKey"),
            px4_system_id=spec.child_or_empty("px4").optional_integer("systemId"),
            suspend=spec.flag("suspend"),
            status=DeviceStatus.from_fields(fields.child_or_empty("status")),
        )


_MCU = ("cortex-m", "armv6m", "armv7m", "armv8m")
_RISCV = ("riscv", "rv32", "fe310")


def default_class(cpu: str, *, has_key: bool) -> DeviceClass:
    """The class of a device that declares none.

    A device with another CPU than those of microcontrollers runs modules itself only if it has a key, because without
    one it cannot open a session; its gateway runs them instead.
    """
    name = cpu.strip().lower()
    if name.startswith(_MCU):
        return DeviceClass.MCU
    if name.startswith(_RISCV):
        return DeviceClass.RISCV
    return DeviceClass.MPU if has_key else DeviceClass.GATEWAY
