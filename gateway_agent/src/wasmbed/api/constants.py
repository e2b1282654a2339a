"""Names that the controller, the gateways and the manifests share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from wasmbed.kube import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP = "wasmbed.io"
VERSION = "v1"

WASM_APPLICATION = Kind(GROUP, VERSION, "wasmapplications", "WasmApplication", namespaced=True)
EDGE_DEVICE = Kind(GROUP, VERSION, "edgedevices", "EdgeDevice", namespaced=True)
GATEWAY = Kind(GROUP, VERSION, "gateways", "Gateway", namespaced=False)
DEVICE_SLICE = Kind(GROUP, VERSION, "deviceslices", "DeviceSlice", namespaced=True)
PLACEMENT = Kind(GROUP, VERSION, "placements", "Placement", namespaced=True)
ENROLMENT_REQUEST = Kind(GROUP, VERSION, "enrolmentrequests", "EnrolmentRequest", namespaced=True)

LABEL_APPLICATION = "wasmbed.io/application"
LABEL_APPLICATION_NAMESPACE = "wasmbed.io/application-namespace"
LABEL_APPLICATION_UID = "wasmbed.io/application-uid"
FINALIZER_PLACEMENTS = "wasmbed.io/placements"

MANAGER_CONTROLLER = "wasmbed-controller"
MANAGER_AGENT = "wasmbed-agent"

LEASE_NAME = "wasmbed-agent"
GATEWAY_NAMESPACE_PREFIX = "wasmbed-gw-"

# Devices in one Placement or DeviceSlice, and devices shown in a WasmApplication's status.
CHUNK_DEVICES = 250
STATUS_DEVICES = 50
# Bytes of UTF-8 in the message of one device of a Placement's status.
MESSAGE_BYTES = 256


class DeviceClass(StrEnum):
    """Where a device's modules run."""

    MPU = "mpu"
    MCU = "mcu"
    RISCV = "riscv"
    GATEWAY = "gateway"


class ApplicationPhase(StrEnum):
    """Where a roll-out stands."""

    PENDING = "Pending"
    DEPLOYING = "Deploying"
    RUNNING = "Running"
    DEGRADED = "Degraded"
    FAILED = "Failed"


class DevicePhase(StrEnum):
    """State of a device's link."""

    PENDING = "Pending"
    ENROLLING = "Enrolling"
    ENROLLED = "Enrolled"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    UNREACHABLE = "Unreachable"


class LinkState(StrEnum):
    """State of a device's link as its gateway reports it."""

    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"


class InstanceState(StrEnum):
    """State of one application on one device."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Reasons in statuses, conditions and events."""

    NO_MATCHING_DEVICE = "NoMatchingDevice"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INVALID_MODULE = "InvalidModule"
    GATEWAY_UNREACHABLE = "GatewayUnreachable"
    DEVICE_ERROR = "DeviceError"
    RUNNING = "Running"
    DEPLOYING = "Deploying"
    RESOLVED = "Resolved"
    RESOLVING = "Resolving"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    NO_GATEWAY = "NoGateway"
    NOT_ENROLLED = "NotEnrolled"
    NOT_REPORTED = "NotReported"
    SUSPENDED = "Suspended"
    IN_FLIGHT = "InFlight"
    SIGNATURE_NOT_VERIFIED = "SignatureNotVerified"


class Grant(StrEnum):
    """Import modules that a Placement can grant."""

    SYS = "wasmbed:sys"
    SECURE = "wasmbed:secure"
    PX4 = "wasmbed:px4"
    ROS2 = "wasmbed:ros2"
    SENSOR = "wasmbed:sensor"


def senses(capabilities: Iterable[str]) -> bool:
    """Whether a device with these capabilities has a sensor, so that `Grant.SENSOR` is for it: any but an autopilot."""
    return any(capability != "px4" for capability in capabilities)


# What the message of an instance begins with that runs although its image has no good signature.
WARNING = "warning: "
CONDITION_READY = "Ready"
CONDITION_IMAGE_RESOLVED = "ImageResolved"


def gateway_namespace(gateway: str) -> str:
    """Namespace of a Gateway's Placements, DeviceSlices, EnrolmentRequests and Lease."""
    return GATEWAY_NAMESPACE_PREFIX + gateway


def gateway_of_namespace(namespace: str) -> str | None:
    """Name of the Gateway to which a namespace belongs, if it belongs to one."""
    if not namespace.startswith(GATEWAY_NAMESPACE_PREFIX):
        return None
    return namespace.removeprefix(GATEWAY_NAMESPACE_PREFIX) or None
