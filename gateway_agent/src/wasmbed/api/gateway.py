"""Gateway: where devices connect and where modules run for those that run none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wasmbed.api.meta import Condition, Metadata, open_object

if TYPE_CHECKING:
    from wasmbed.api.fields import Fields

DEFAULT_MAX_ARTIFACT_BYTES = 8 * 1024 * 1024
DEFAULT_MAX_MODULES = 64


@dataclass(frozen=True)
class PairingWindow:
    """``spec.pairingWindow``: until when (RFC 3339) unknown devices may ask, and who approves."""

    until: str
    approval: str = "manual"


@dataclass(frozen=True)
class GatewayStatus:
    """``status`` of a Gateway."""

    observed_generation: int = 0
    agent_version: str = ""
    wasmtime_version: str = ""
    modules: int = 0
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> GatewayStatus:
        """Read the status."""
        versions = fields.child_or_empty("versions")
        return cls(
            observed_generation=fields.integer_or("observedGeneration"),
            agent_version=versions.text_or("agent"),
            wasmtime_version=versions.text_or("wasmtime"),
            modules=fields.integer_or("modules"),
            conditions=tuple(Condition.from_fields(item) for item in fields.children("conditions")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The status as it is written."""
        versions = {"agent": self.agent_version, "wasmtime": self.wasmtime_version}
        return {
            "observedGeneration": self.observed_generation,
            "versions": {key: value for key, value in versions.items() if value},
            "modules": self.modules,
            "conditions": [condition.to_dict() for condition in self.conditions],
        }


@dataclass(frozen=True)
class Gateway:
    """A Gateway."""

    metadata: Metadata
    endpoint: str
    pairing_window: PairingWindow | None = None
    max_artifact_bytes: int = DEFAULT_MAX_ARTIFACT_BYTES
    max_modules: int = DEFAULT_MAX_MODULES
    status: GatewayStatus = GatewayStatus()

    @classmethod
    def from_dict(cls, data: object) -> Gateway:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "Gateway")
        spec = fields.child("spec")
        limits = spec.child_or_empty("limits")
        window = spec.child("pairingWindow") if spec.has("pairingWindow") else None
        return cls(
            metadata=metadata,
            endpoint=spec.text("endpoint"),
            pairing_window=PairingWindow(window.text("until"), window.text_or("approval", "manual"))
            if window
            else None,
            max_artifact_bytes=limits.integer_or("maxArtifactBytes", DEFAULT_MAX_ARTIFACT_BYTES),
            max_modules=limits.integer_or("maxModules", DEFAULT_MAX_MODULES),
            status=GatewayStatus.from_fields(fields.child_or_empty("status")),
        )
