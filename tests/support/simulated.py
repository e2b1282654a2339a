"""A gateway as the controller sees one: plain writes to the API, made from the contract of the kinds alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from wasmbed.api import DEVICE_SLICE, GATEWAY, LEASE_NAME, MANAGER_AGENT, PLACEMENT
from wasmbed.kube import LEASE, NAMESPACE, Informer, Kube


class SimulatedGateway:
    """Reports every device as connected and every instance as running, except digests named in `failing`."""

    def __init__(self, kube: Kube, name: str, *, lease_s: int = 40) -> None:
        self.name = name
        self.namespace = f"wasmbed-gw-{name}"
        self.endpoint = f"{name}.example:8080"
        self.lease_s = lease_s
        self.renewing = True
        # Digest to (reason, message).
        self.failing: dict[str, tuple[str, str]] = {}
        # Digest to the message of what runs.
        self.warnings: dict[str, str] = {}
        # What is told of a device beside its link, by name.
        self.links: dict[str, dict[str, Any]] = {}
        self._kube = kube
        self._changed = asyncio.Event()
        self._informers = [
            Informer(kube, kind, namespace=self.namespace, on_change=lambda _old, _new: self._changed.set())
            for kind in (PLACEMENT, DEVICE_SLICE)
        ]

    async def create(self) -> None:
        await self._kube.apply(NAMESPACE, {"metadata": {"name": self.namespace}}, manager="test")
        body = {"metadata": {"name": self.name}, "spec": {"endpoint": self.endpoint}}
        await self._kube.apply(GATEWAY, body, manager="test")

    async def delete(self) -> None:
        await self._kube.delete(GATEWAY, self.name)
        await self._kube.delete(LEASE, LEASE_NAME, self.namespace)
        for kind in (PLACEMENT, DEVICE_SLICE):
            items, _ = await self._kube.list(kind, self.namespace)
            for item in items:
                await self._kube.delete(kind, item["metadata"]["name"], self.namespace)

    async def placements(self) -> list[dict[str, Any]]:
        items, _ = await self._kube.list(PLACEMENT, self.namespace)
        return items

    async def renew(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": self.lease_s,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        body = {"metadata": {"name": LEASE_NAME, "namespace": self.namespace}, "spec": spec}
        await self._kube.apply(LEASE, body, manager=MANAGER_AGENT)

    def tell(self, device: str, **fields: Any) -> None:
        """Report more of a device's link: its vehicle, its incidents."""
        self.links[device] = fields
        self._changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            for informer in self._informers:
                group.create_task(informer.run())
            while True:
                await self._changed.wait()
                self._changed.clear()
                for informer, report in zip(self._informers, (self._instances, self._links), strict=True):
                    for item in informer.items():
                        await self._report(informer.kind, item, report(item))

    async def _renew(self) -> None:
        while True:
            if self.renewing:
                await self.renew()
            await asyncio.sleep(self.lease_s / 4)

    async def _report(self, kind: Any, item: dict[str, Any], devices: list[dict[str, Any]]) -> None:
        status = {"observedGeneration": item["metadata"]["generation"], "devices": devices}
        if item.get("status") == status:
            return
        metadata = {"name": item["metadata"]["name"], "namespace": self.namespace, "uid": item["metadata"]["uid"]}
        try:
            await self._kube.apply_status(kind, {"metadata": metadata, "status": status}, manager=MANAGER_AGENT)
        except Exception as error:
            # Deleted in the meantime; an agent sees that by its watch too.
            if getattr(error, "status", 0) not in {404, 409}:
                raise

    def _instances(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        digest = item["spec"]["digest"]
        reason, message = self.failing.get(digest, ("", ""))
        state: dict[str, Any] = {"state": "Failed" if reason else "Running", "digest": digest, "restarts": 0}
        if reason:
            state |= {"reason": reason, "message": message}
        elif digest in self.warnings:
            state["message"] = self.warnings[digest]
        return [
            {"name": device["name"], "namespace": device["namespace"], **state} for device in item["spec"]["devices"]
        ]

    def _links(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": device["name"],
                "namespace": device["namespace"],
                "state": "Connected",
                **self.links.get(device["name"], {}),
            }
            for device in item["spec"]["devices"]
        ]
