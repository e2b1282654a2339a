"""EnrolmentRequest: a device that asks a gateway to be enrolled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wasmbed.api.constants import ENROLMENT_REQUEST
from wasmbed.api.meta import Condition, Metadata, open_object


@dataclass(frozen=True)
class EnrolmentRequest:
    """An EnrolmentRequest; the key and the evidence are base64."""

    metadata: Metadata
    device_name: str
    public_key: str
    device_type: str
    device_class: str
    evidence: str = ""
    phase: str = "Pending"
    message: str = ""
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def from_dict(cls, data: object) -> EnrolmentRequest:
        """Read an object of the API.

        Raises:
            ApiObjectError: a field is missing or of the wrong type.
        """
        metadata, fields = open_object(data, "EnrolmentRequest")
        spec, status = fields.child("spec"), fields.child_or_empty("status")
        return cls(
            metadata=metadata,
            device_name=spec.text("deviceName"),
            public_key=spec.text("publicKey"),
            device_type=spec.text("deviceType"),
            device_class=spec.text("class"),
            evidence=spec.text_or("evidence"),
            phase=status.text_or("phase", "Pending"),
            message=status.text_or("message"),
            conditions=tuple(Condition.from_fields(item) for item in status.children("conditions")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The object as the gateway's agent creates it: identity and spec."""
        spec = {
            "deviceName": self.device_name,
            "publicKey": self.public_key,
            "deviceType": self.device_type,
            "class": self.device_class,
        }
        return {
            "apiVersion": ENROLMENT_REQUEST.api_version,
            "kind": ENROLMENT_REQUEST.kind,
            "metadata": {"name": self.metadata.name, "namespace": self.metadata.namespace},
            "spec": spec | ({"evidence": self.evidence} if self.evidence else {}),
        }
