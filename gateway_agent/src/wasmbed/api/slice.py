"""DeviceSlice: up to 250 devices of one gateway, all that a gateway reads about devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wasmbed.api.constants import DEVICE_SLICE
from wasmbed.api.meta import Metadata, open_object
from wasmbed.api.vehicle import Incident, Vehicle, optional_vehicle

if TYPE_CHECKING:
    from wasmbed.api.fields import Fields


@dataclass(frozen=True)
class SliceDevice:
    """One of ``spec.devices``; the class is not checked, so that an older gateway reads newer ones."""

    name: str
    namespace: str
    uid: str
    device_class: str
    public_key: str = ""
    revoked: bool = False
    suspended: bool = False
    system_id: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the EdgeDevice."""
        return (self.namespace, self.name)

    @classmethod
    def from_fields(cls, fields: Fields) -> SliceDevice:
        """Read one device."""
        return cls(
            name=fields.text("name"),
            namespace=fields.text("namespace"),
            uid=fields.text("uid"),
            device_class=fields.text("class"),
            public_key=fields.text_or("publicKey"),
            revoked=fields.flag("revoked"),
            suspended=fields.flag("suspended"),
            system_id=fields.optional_integer("systemId"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The device as it is written; what is empty is left out."""
        values: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "class": self.device_class,
        }
        if self.public_key:
            values["publicKey"] = self.public_key
        if self.revoked:
            values["revoked"] = True
        if self.suspended:
            values["suspended"] = True
        if self.system_id is not None:
            values["systemId"] = self.system_id
        return values


@dataclass(frozen=True)
class Link:
    """One of ``status.devices``: the state of a device's link since a time (RFC 3339), its vehicle, its incidents."""

    name: str
    namespace: str
    state: str
    since: str = ""
    vehicle: Vehicle | None = None
    incidents: tuple[Incident, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the EdgeDevice."""
        return (self.namespace, self.name)

    @classmethod
    def from_fields(cls, fields: Fields) -> Link:
        """Read one link."""
        return cls(
            name=fields.text("name"),
            namespace=fields.text("namespace"),
            state=fields.text("state"),
            since=fields.text_or("since"),
            vehicle=optional_vehicle(fields),
            incidents=tuple(Incident.from_fields(item) for item in fields.children("incidents")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The link as it is written; what there is none of is left out."""
        values: dict[str, Any] = {"name": self.name, "namespace": self.namespace, "state": self.state}
        if self.since:
            values["since"] = self.since
        if self.vehicle is not None:
            values["vehicle"] = self.vehicle.to_dict()
        if self.incidents:
            values["incidents"] = [incident.to_dict() for incident in self.incidents]
        return values


@dataclass(frozen=True)
class DeviceSlice:
    """A DeviceSlice."""

    metadata: Metadata
    gateway: str
    devices: tuple[SliceDevice, ...] = ()
    observed_generation: int = 0
    links: tuple[Link, ...] = ()

    @classmethod
    def from_dict(cls, data: object) -> DeviceSlice:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "DeviceSlice")
        spec, status = fields.child("spec"), fields.child_or_empty("status")
        return cls(
            metadata=metadata,
            gateway=spec.text("gateway"),
            devices=tuple(SliceDevice.from_fields(item) for item in spec.children("devices")),
            observed_generation=status.integer_or("observedGeneration"),
            links=tuple(Link.from_fields(item) for item in status.children("devices")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The object as the controller applies it: identity and spec."""
        return {
            "apiVersion": DEVICE_SLICE.api_version,
            "kind": DEVICE_SLICE.kind,
            "metadata": {"name": self.metadata.name, "namespace": self.metadata.namespace},
            "spec": {"gateway": self.gateway, "devices": [device.to_dict() for device in self.devices]},
        }

    def status_to_dict(self) -> dict[str, Any]:
        """The status as the gateway's agent applies it."""
        return {
            "observedGeneration": self.observed_generation,
            "devices": [link.to_dict() for link in self.links],
        }
