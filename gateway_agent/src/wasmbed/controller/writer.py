"""Writes to the API, and the events about them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from wasmbed.api import (
    DEVICE_SLICE,
    EDGE_DEVICE,
    FINALIZER_PLACEMENTS,
    LABEL_APPLICATION_UID,
    MANAGER_CONTROLLER,
    PLACEMENT,
    WARNING,
    WASM_APPLICATION,
    ApplicationPhase,
    DevicePhase,
    Reason,
)
from wasmbed.kube import ApiError, Kube, Recorder

if TYPE_CHECKING:
    from wasmbed.api import (
        ApplicationStatus,
        DeviceSlice,
        DeviceStatus,
        EdgeDevice,
        Incident,
        Metadata,
        Placement,
        WasmApplication,
    )
    from wasmbed.controller.metrics import Metrics
    from wasmbed.kube import Kind

# Events live for an hour: an older incident was told, and its event may be gone.
INCIDENT_AGE_S = 3000.0
_BAD = {ApplicationPhase.FAILED, ApplicationPhase.DEGRADED}


def reference(kind: Kind, metadata: Metadata) -> dict[str, Any]:
    """An object as far as an event must know it."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": metadata.name, "namespace": metadata.namespace or None, "uid": metadata.uid},
    }


def _warnings(status: ApplicationStatus) -> set[str]:
    return {device.message.removeprefix(WARNING) for device in status.devices if device.message.startswith(WARNING)}


class Writer:
    """Server-side apply under the controller's field manager; every write is counted.

    The uid goes with each write to an object of a user, so that it never reaches another of the same name.
    """

    def __init__(self, kube: Kube, recorder: Recorder, metrics: Metrics) -> None:
        self._kube = kube
        self._recorder = recorder
        self._metrics = metrics

    async def finalizer(self, application: WasmApplication, *, present: bool) -> dict[str, Any] | None:
        """Set or remove the finalizer; None if the application is gone."""
        metadata = application.metadata
        body: dict[str, Any] = {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid}
        if present:
            body["finalizers"] = [FINALIZER_PLACEMENTS]
        self._metrics.writes.labels(WASM_APPLICATION.kind).inc()
        try:
            return await self._kube.apply(WASM_APPLICATION, {"metadata": body}, manager=MANAGER_CONTROLLER)
        except ApiError as error:
            if await self._gone(error, WASM_APPLICATION, metadata):
                return None
            raise

    async def application_status(
        self, application: WasmApplication, status: ApplicationStatus
    ) -> dict[str, Any] | None:
        """Write a status, with events of its phase, its reason and images that run without a good signature.

        Returns None if the application is gone.
        """
        written = await self._status(WASM_APPLICATION, application.metadata, status.to_dict())
        if written is None:
            return None
        before = application.status
        regarding = reference(WASM_APPLICATION, application.metadata)
        for note in sorted(_warnings(status) - _warnings(before)):
            await self._recorder.event(regarding, "Warning", Reason.SIGNATURE_NOT_VERIFIED.value, note)
        if (before.phase, before.reason) != (status.phase, status.reason):
            kind = "Warning" if status.phase in _BAD or status.reason == Reason.NO_MATCHING_DEVICE else "Normal"
            await self._recorder.event(regarding, kind, status.reason or status.phase, status.message)  # type: ignore[arg-type]
        return written

    async def device_status(self, device: EdgeDevice, status: DeviceStatus) -> dict[str, Any] | None:
        """Write a status and an event about the device's link; None if the device is gone.

        The loss of a gateway is one event about the gateway, not one about each of its devices.
        """
        written = await self._status(EDGE_DEVICE, device.metadata, status.to_dict())
        if written is None or (device.status.phase, device.status.reason) == (status.phase, status.reason):
            return written
        regarding = reference(EDGE_DEVICE, device.metadata)
        if Reason.SUSPENDED.value in {device.status.reason, status.reason}:
            now = status.reason == Reason.SUSPENDED.value
            note = status.message if now else "spec.suspend is false: applications run again"
            await self._recorder.event(
                regarding, "Warning" if now else "Normal", "Suspended" if now else "Resumed", note
            )
        elif status.phase == DevicePhase.CONNECTED:
            note = f"connected through gateway {status.gateway}"
            await self._recorder.event(regarding, "Normal", Reason.CONNECTED.value, note)
        elif status.reason in {Reason.DISCONNECTED, Reason.NO_GATEWAY}:
            await self._recorder.event(regarding, "Warning", status.reason, status.message)
        return written

    async def incident(self, device: EdgeDevice, application: WasmApplication | None, incident: Incident) -> None:
        """Tell once what a gateway did for flight safety, about the device and the application."""
        began = datetime.fromisoformat(incident.time)
        if began.tzinfo is None or datetime.now(UTC) - began > timedelta(seconds=INCIDENT_AGE_S):
            return
        # The name is that of the incident: a second controller, or this one after a restart, does not tell it again.
        told = f"{device.metadata.uid} {incident.time} {incident.reason}"
        identity = hashlib.sha256(told.encode()).hexdigest()[:16]
        objects = [reference(EDGE_DEVICE, device.metadata)]
        if application is not None:
            objects.append(reference(WASM_APPLICATION, application.metadata))
        for regarding in objects:
            note = f"{device.metadata.name}: {incident.message}"
            await self._recorder.event(regarding, "Warning", incident.reason, note, identity=identity)

    async def placement(self, placement: Placement) -> dict[str, Any]:
        """Write a Placement."""
        self._metrics.writes.labels(PLACEMENT.kind).inc()
        return await self._kube.apply(PLACEMENT, placement.to_dict(), manager=MANAGER_CONTROLLER)

    async def device_slice(self, item: DeviceSlice) -> dict[str, Any]:
        """Write a DeviceSlice."""
        self._metrics.writes.labels(DEVICE_SLICE.kind).inc()
        return await self._kube.apply(DEVICE_SLICE, item.to_dict(), manager=MANAGER_CONTROLLER)

    async def delete(self, kind: Kind, metadata: Metadata) -> None:
        """Delete a Placement or a DeviceSlice; it is no error if it is gone."""
        self._metrics.writes.labels(kind.kind).inc()
        await self._kube.delete(kind, metadata.name, metadata.namespace, uid=metadata.uid or None)

    async def delete_placements(self, application: WasmApplication) -> list[tuple[str, str]]:
        """Delete all Placements with an application's label; returns their namespaces and names."""
        selector = f"{LABEL_APPLICATION_UID}={application.metadata.uid}"
        items, _ = await self._kube.list(PLACEMENT, label_selector=selector)
        for item in items:
            metadata = item["metadata"]
            self._metrics.writes.labels(PLACEMENT.kind).inc()
            await self._kube.delete(PLACEMENT, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]

    async def application_exists(self, placement: Placement) -> bool:
        """Ask the API whether the very application of a Placement exists."""
        owner = placement.application
        found = await self._kube.get(WASM_APPLICATION, owner.name, owner.namespace)
        return found is not None and found["metadata"]["uid"] == owner.uid

    async def _status(self, kind: Kind, metadata: Metadata, status: dict[str, Any]) -> dict[str, Any] | None:
        self._metrics.writes.labels(kind.kind).inc()
        body = {
            "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
            "status": status,
        }
        try:
            return await self._kube.apply_status(kind, body, manager=MANAGER_CONTROLLER)
        except ApiError as error:
            if await self._gone(error, kind, metadata):
                return None
            raise

    async def _gone(self, error: ApiError, kind: Kind, metadata: Metadata) -> bool:
        """Whether a write failed because the object is gone, perhaps with another in its place."""
        if error.status == 404:
            return True
        if error.status not in {409, 422}:
            return False
        found = await self._kube.get(kind, metadata.name, metadata.namespace)
        return found is None or found["metadata"]["uid"] != metadata.uid
