"""The controller: informers lead to work, work leads to writes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from wasmbed.api import (
    DEVICE_SLICE,
    EDGE_DEVICE,
    FINALIZER_PLACEMENTS,
    GATEWAY,
    LEASE_NAME,
    PLACEMENT,
    WASM_APPLICATION,
    ApiObjectError,
    DeviceSlice,
    EdgeDevice,
    Gateway,
    Placement,
    Reason,
    WasmApplication,
    gateway_namespace,
    gateway_of_namespace,
    timestamp,
)
from wasmbed.controller.applications import Summary, application_status, summarize
from wasmbed.controller.devices import device_status
from wasmbed.controller.images import BACKOFF_S, Images
from wasmbed.controller.limiter import RateLimiter
from wasmbed.controller.liveness import LeaseTracker
from wasmbed.controller.observed import Observed
from wasmbed.controller.placements import Image, plan_placements, shrink_placements
from wasmbed.controller.selection import NO_GATEWAY
from wasmbed.controller.slices import plan_slices
from wasmbed.controller.work import Do, Key, Work
from wasmbed.controller.writer import Writer, reference
from wasmbed.kube import LEASE, Informer, Kube, Recorder, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from wasmbed.controller.images import Resolve
    from wasmbed.controller.metrics import Metrics
    from wasmbed.service import Health

logger = logging.getLogger(__name__)

V = TypeVar("V")
# What a summary was made for: the application's generation and its image.
Stamp = tuple[int, Image | None]

WORKERS = 8
DEVICE_WORKERS = 4
IMAGE_WORKERS = 16
# Writes of EdgeDevice statuses; all else is written as soon as it is known.
DEVICE_WRITES_PER_S = 200.0
DEVICE_WRITES_BURST = 200.0
RECHECK_S = 5.0


class Controller:
    """Keeps Placements, DeviceSlices and the statuses of applications and devices as they should be."""

    def __init__(
        self,
        kube: Kube,
        resolve: Resolve,
        recorder: Recorder,
        metrics: Metrics,
        health: Health,
        *,
        image_backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        """`resolve` gives the digest of an image's reference or raises ``wasmbed.oci.ImageError``."""
        self._kube = kube
        self._recorder = recorder
        self._health = health
        self._writer = Writer(kube, recorder, metrics)
        self._images = Images(resolve, backoff_s=image_backoff_s)
        self.observed = Observed()
        self._leases = LeaseTracker()
        self._summaries: dict[Key, dict[str, tuple[Stamp, Summary]]] = {}
        self._uids: dict[Key, str] = {}
        self._limiter = RateLimiter(DEVICE_WRITES_PER_S, DEVICE_WRITES_BURST)
        self.queue: WorkQueue[Work] = WorkQueue("main", observer=metrics.done)
        self.device_queue: WorkQueue[Work] = WorkQueue("devices", observer=metrics.done)
        # Registries are not ours: one that lets a worker wait must not hold up anything but images.
        self.image_queue: WorkQueue[Work] = WorkQueue("images", observer=metrics.done)
        metrics.watch_queue("main", self.queue)
        metrics.watch_queue("devices", self.device_queue)
        metrics.watch_queue("images", self.image_queue)
        self._handlers: dict[Do, Callable[[Work], Awaitable[None]]] = {
            Do.APPLICATION: self._application,
            Do.IMAGE: self._image,
            Do.PLACEMENTS: self._placements,
            Do.SUMMARY: self._summary,
            Do.STATUS: self._status,
            Do.ORPHAN: self._orphan,
            Do.SLICES: self._slices,
            Do.LEASE: self._lease,
            Do.DEVICE: self._device,
            Do.INCIDENTS: self._incidents,
        }
        self._lease_informer = Informer(
            kube, LEASE, field_selector=f"metadata.name={LEASE_NAME}", on_change=self._lease_changed
        )
        seen = self.observed
        self._informers = [
            self._inform(GATEWAY, Gateway.from_dict, lambda key, new: seen.set_gateway(key[1], new)),
            self._inform(EDGE_DEVICE, EdgeDevice.from_dict, seen.set_device),
            self._inform(WASM_APPLICATION, WasmApplication.from_dict, seen.set_application),
            self._inform(PLACEMENT, Placement.from_dict, seen.set_placement),
            self._inform(DEVICE_SLICE, DeviceSlice.from_dict, seen.set_slice),
            self._lease_informer,
        ]

    async def run(self) -> None:
        """Work until cancelled. Nothing is written before all collections were read."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"informer-{informer.kind.plural}")
            group.create_task(self._report(), name="health")
            for informer in self._informers:
                await informer.wait_synced()
            logger.info("caches are filled applications=%d", len(self.observed.applications))
            group.create_task(self.queue.run(self._handle, workers=WORKERS), name="main")
            group.create_task(self.device_queue.run(self._handle, workers=DEVICE_WORKERS), name="devices")
            group.create_task(self.image_queue.run(self._handle, workers=IMAGE_WORKERS), name="images")

    async def wait_idle(self) -> None:
        """Wait until no work is left, but for what is due later."""
        queues = (self.queue, self.device_queue, self.image_queue)
        # Work of one queue can lead to work of another.
        while not all(queue.idle for queue in queues):
            for queue in queues:
                await queue.wait_idle()

    async def _report(self) -> None:
        while True:
            down = [informer.kind.plural for informer in self._informers if informer.live_since is None]
            self._health.set(
                "watches", not down, f"no watch of {', '.join(down)}; check the API server" if down else ""
            )
            await asyncio.sleep(1)

    # From changes to work

    def _inform(
        self, kind: Any, parse: Callable[[object], V], take_in: Callable[[Key, V | None], set[Work]]
    ) -> Informer:
        def changed(old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
            metadata = (new or old or {})["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            try:
                view = parse(new) if new is not None else None
            except ApiObjectError as error:
                logger.error("object cannot be read error=%s", error)
                view = None
            self._add(take_in(key, view))

        return Informer(self._kube, kind, on_change=changed)

    def _lease_changed(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        gateway = gateway_of_namespace((new or old or {})["metadata"]["namespace"])
        if gateway is not None:
            self.queue.add(Work(Do.LEASE, gateway=gateway))

    def _add(self, work: Iterable[Work]) -> None:
        for item in work:
            (self.device_queue if item.do is Do.DEVICE else self.queue).add(item)

    async def _handle(self, work: Work) -> None:
        await self._handlers[work.do](work)

    # Applications

    async def _application(self, work: Work) -> None:
        application = self.observed.applications.get(work.key)
        if application is None:
            self._summaries.pop(work.key, None)
            self._images.forget(self._uids.pop(work.key, ""))
            return
        if self._uids.setdefault(work.key, application.metadata.uid) != application.metadata.uid:
            self._images.forget(self._uids[work.key])
            self._summaries.pop(work.key, None)
            self._uids[work.key] = application.metadata.uid
        if application.metadata.deleting:
            await self._finalize(application)
            return
        if FINALIZER_PLACEMENTS not in application.metadata.finalizers:
            written = await self._writer.finalizer(application, present=True)
            if written is None:
                return
            application = WasmApplication.from_dict(written)
            # The work that would follow is this.
            self.observed.set_application(work.key, application)
        if self._images.current(application) is None:
            self.image_queue.add(Work(Do.IMAGE, work.key))
        self._place(application)

    async def _image(self, work: Work) -> None:
        application = self._alive(work.key)
        if application is None:
            return
        retry_s = await self._images.resolve(application)
        present = self._alive(work.key)
        if present is None or present.metadata.uid != application.metadata.uid:
            self._images.forget(application.metadata.uid)
            return
        if retry_s is not None:
            self.image_queue.add_after(work, retry_s)
        self._place(present)

    def _place(self, application: WasmApplication) -> None:
        for gateway in self.observed.gateways_of(application):
            self.queue.add(Work(Do.PLACEMENTS, application.metadata.key, gateway))
        self.queue.add(Work(Do.STATUS, application.metadata.key))

    async def _finalize(self, application: WasmApplication) -> None:
        if FINALIZER_PLACEMENTS not in application.metadata.finalizers:
            return
        for key in await self._writer.delete_placements(application):
            self._add(self.observed.set_placement(key, None))
        await self._writer.finalizer(application, present=False)

    async def _placements(self, work: Work) -> None:
        application = self._alive(work.key)
        if application is None:
            return
        gateway = work.gateway
        devices = self.observed.selected(work.key, gateway) if gateway != NO_GATEWAY else []
        existing = self.observed.placements_of(application.metadata.uid, gateway)
        image = self._images.current(application)
        if image is None:
            plan = shrink_placements(existing, {device.metadata.key for device in devices})
        else:
            plan = plan_placements(application, gateway, devices, existing, image)
        try:
            for placement in plan.apply:
                written = Placement.from_dict(await self._writer.placement(placement))
                self._add(self.observed.set_placement(written.metadata.key, written) - {work})
            for placement in plan.delete:
                await self._writer.delete(PLACEMENT, placement.metadata)
                self._add(self.observed.set_placement(placement.metadata.key, None) - {work})
        finally:
            self._summarize(work.key, gateway)

    async def _summary(self, work: Work) -> None:
        self._summarize(work.key, work.gateway)

    def _summarize(self, key: Key, gateway: str) -> None:
        """Summarize anew, and have the status written if that makes a difference."""
        application = self._alive(key)
        if application is None:
            return
        image = self._images.current(application)
        summary = summarize(
            application,
            gateway,
            self.observed.selected(key, gateway),
            self.observed.placements_of(application.metadata.uid, gateway),
            image,
            self._leases.state(gateway),
        )
        entry = ((application.metadata.generation, image), summary)
        summaries = self._summaries.setdefault(key, {})
        if summaries.get(gateway) != entry:
            summaries[gateway] = entry
            self.queue.add(Work(Do.STATUS, key))

    async def _status(self, work: Work) -> None:
        application = self._alive(work.key)
        if application is None:
            return
        gateways = self.observed.gateways_of(application)
        summaries = self._summaries.setdefault(work.key, {})
        stamp = (application.metadata.generation, self._images.current(application))
        for gateway in summaries.keys() - gateways:
            del summaries[gateway]
        for gateway in gateways:
            if gateway not in summaries or summaries[gateway][0] != stamp:
                self._summarize(work.key, gateway)
        totals = [summary for _, summary in summaries.values()]
        status = application_status(application, self._images.known(application), totals, now=timestamp())
        if status == application.status:
            return
        written = await self._writer.application_status(application, status)
        if written is not None:
            self._add(self.observed.set_application(work.key, WasmApplication.from_dict(written)))

    async def _orphan(self, work: Work) -> None:
        """A Placement whose application is not known; the API is asked, because it may only not have been seen yet."""
        placement = self.observed.placements.get(work.key)
        if placement is None or self.observed.owner(placement) is not None:
            return
        if await self._writer.application_exists(placement):
            return
        logger.info("deleting orphan placement=%s/%s", *work.key)
        await self._writer.delete(PLACEMENT, placement.metadata)
        self._add(self.observed.set_placement(work.key, None))

    def _alive(self, key: Key) -> WasmApplication | None:
        application = self.observed.applications.get(key)
        return None if application is None or application.metadata.deleting else application

    # Gateways and devices

    async def _slices(self, work: Work) -> None:
        gateway = work.gateway
        keys = self.observed.devices_of_gateway[gateway] if gateway in self.observed.gateways else set()
        existing = [self.observed.slices[key] for key in self.observed.slices_of_gateway[gateway]]
        plan = plan_slices(gateway, [self.observed.devices[key] for key in keys], existing)
        for item in plan.apply:
            written = DeviceSlice.from_dict(await self._writer.device_slice(item))
            self._add(self.observed.set_slice(written.metadata.key, written) - {work})
        for item in plan.delete:
            await self._writer.delete(DEVICE_SLICE, item.metadata)
            self._add(self.observed.set_slice(item.metadata.key, None) - {work})

    async def _lease(self, work: Work) -> None:
        gateway = work.gateway
        known = self.observed.gateways.get(gateway)
        if known is None:
            self._leases.forget(gateway)
            return
        loop = asyncio.get_running_loop()
        namespace = gateway_namespace(gateway)
        changed = self._leases.observe(gateway, self._lease_informer.get(LEASE_NAME, namespace), loop.time())
        deadline = self._leases.deadline(gateway, self._lease_informer.live_since)
        if deadline is not None and deadline <= loop.time():
            # The watch may have died without a sign; a read settles it, and if that fails this is tried again.
            lease = await self._kube.get(LEASE, LEASE_NAME, namespace)
            changed |= self._leases.observe(gateway, lease, loop.time())
            deadline = self._leases.deadline(gateway, self._lease_informer.live_since)
            if deadline is not None and deadline <= loop.time() and self._leases.expire(gateway):
                changed, deadline = True, None
                await self._lost(known)
        if changed:
            self._add(Work(Do.DEVICE, key) for key in self.observed.devices_of_gateway.get(gateway))
            self._add(Work(Do.SUMMARY, key, gateway) for key in self.observed.applications_on_gateway.get(gateway))
        if deadline is not None:
            self.queue.add_after(work, deadline - loop.time())
        elif self._lease_informer.live_since is None:
            self.queue.add_after(work, RECHECK_S)

    async def _lost(self, gateway: Gateway) -> None:
        name = gateway.metadata.name
        logger.warning("gateway is unreachable gateway=%s", name)
        note = "the lease was not renewed in time; check the gateway's wasmbed-agent and its network"
        await self._recorder.event(
            reference(GATEWAY, gateway.metadata), "Warning", Reason.GATEWAY_UNREACHABLE.value, note
        )

    async def _device(self, work: Work) -> None:
        device = self.observed.devices.get(work.key)
        if device is None or device.metadata.deleting:
            return
        gateway = self.observed.gateway_of_device[work.key]
        link = self.observed.links.get((gateway, work.key))
        vehicle = self.observed.vehicles.get((gateway, work.key))
        status = device_status(device, gateway, self._leases.state(gateway), link, now=timestamp(), vehicle=vehicle)
        if status == device.status:
            return
        await self._limiter.wait()
        written = await self._writer.device_status(device, status)
        if written is not None:
            self._add(self.observed.set_device(work.key, EdgeDevice.from_dict(written)) - {work})

    async def _incidents(self, work: Work) -> None:
        device = self.observed.devices.get(work.key)
        if device is None or self.observed.gateway_of_device[work.key] != work.gateway:
            return
        for incident in self.observed.incidents.get((work.gateway, work.key), ()):
            namespace, _, name = incident.application.partition("/")
            application = self.observed.applications.get((namespace, name))
            await self._writer.incident(device, application, incident)
