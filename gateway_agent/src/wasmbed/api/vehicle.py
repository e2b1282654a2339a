"""A vehicle as its gateway sees it, and what a gateway did for flight safety; both are parts of statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasmbed.api.fields import Fields

MODE_LOST = "lost"
"""The mode of a vehicle of which nothing is heard any more."""


@dataclass(frozen=True)
class Vehicle:
    """``status.vehicle``: battery in percent, in steps of 5; fix is none, 2D or 3D; None and empty: not known."""

    armed: bool
    in_air: bool
    mode: str
    battery: int | None = None
    fix: str = ""

    @classmethod
    def from_fields(cls, fields: Fields) -> Vehicle:
        """Read a vehicle."""
        return cls(
            armed=fields.flag("armed"),
            in_air=fields.flag("inAir"),
            mode=fields.text("mode"),
            battery=fields.optional_integer("battery"),
            fix=fields.text_or("fix"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The vehicle as it is written; what is not known is left out."""
        values: dict[str, Any] = {"armed": self.armed, "inAir": self.in_air, "mode": self.mode}
        if self.battery is not None:
            values["battery"] = self.battery
        return values | ({"fix": self.fix} if self.fix else {})


def optional_vehicle(fields: Fields) -> Vehicle | None:
    """The field `vehicle`, None where there is none."""
    return Vehicle.from_fields(fields.child("vehicle")) if fields.has("vehicle") else None


@dataclass(frozen=True)
class Incident:
    """Something a gateway did for flight safety at a time (RFC 3339), about an application (namespace/name) if any."""

    time: str
    reason: str
    message: str
    application: str = ""

    @classmethod
    def from_fields(cls, fields: Fields) -> Incident:
        """Read an incident."""
        return cls(fields.text("time"), fields.text("reason"), fields.text_or("message"), fields.text_or("application"))

    def to_dict(self) -> dict[str, Any]:
        """The incident as it is written."""
        values = {"time": self.time, "reason": self.reason, "message": self.message}
        return values | ({"application": self.application} if self.application else {})
