"""What the controller knows of the cluster, indexed so that a change costs in proportion to what it touches.

Every ``set_*`` takes in the new state of one object (None: it is gone) and returns the work that follows from it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from wasmbed.controller.selection import NO_GATEWAY, gateway_of, selects
from wasmbed.controller.work import Do, Key, Work

if TYPE_CHECKING:
    from collections.abc import Hashable

    from wasmbed.api import (
        DeviceSlice,
        EdgeDevice,
        Gateway,
        Incident,
        Link,
        Metadata,
        Placement,
        Vehicle,
        WasmApplication,
    )

    class Object(Protocol):
        """Anything with metadata."""

        @property
        def metadata(self) -> Metadata: ...


I = TypeVar("I", bound="Hashable")  # noqa: E741
V = TypeVar("V", bound="Hashable")


class Index(Generic[I, V]):
    """Sets by key; a set that becomes empty goes."""

    def __init__(self) -> None:
        self._sets: defaultdict[I, set[V]] = defaultdict(set)

    def add(self, key: I, value: V) -> None:
        """Put a value into a key's set."""
        self._sets[key].add(value)

    def remove(self, key: I, value: V) -> None:
        """Take a value out of a key's set."""
        if (values := self._sets.get(key)) is not None:
            values.discard(value)
            if not values:
                del self._sets[key]

    def get(self, key: I) -> set[V]:
        """A copy of a key's set."""
        return set(self._sets.get(key, ()))

    def __getitem__(self, key: I) -> set[V]:
        return self._sets.get(key) or set()

    def __contains__(self, key: I) -> bool:
        return key in self._sets


class Observed:
    """Applications, devices, gateways, Placements and DeviceSlices as they were last seen or written."""

    def __init__(self) -> None:
        self.applications: dict[Key, WasmApplication] = {}
        self.devices: dict[Key, EdgeDevice] = {}
        self.gateways: dict[str, Gateway] = {}
        self.placements: dict[Key, Placement] = {}
        self.slices: dict[Key, DeviceSlice] = {}
        self.links: dict[tuple[str, Key], Link] = {}
        self.vehicles: dict[tuple[str, Key], Vehicle] = {}
        self.incidents: dict[tuple[str, Key], tuple[Incident, ...]] = {}
        self.gateway_of_device: dict[Key, str] = {}
        self.devices_of_gateway: Index[str, Key] = Index()
        self.applications_on_gateway: Index[str, Key] = Index()
        self.slices_of_gateway: Index[str, Key] = Index()
        self._selected: dict[Key, Index[str, Key]] = {}
        self._gateways_of_application: Index[Key, str] = Index()
        self._gateways_by_endpoint: dict[str, set[str]] = {}
        self._devices_by_type: Index[Key, Key] = Index()
        self._devices_by_endpoint: Index[str, Key] = Index()
        self._devices_by_gateway_name: Index[str, Key] = Index()
        self._applications_by_type: Index[Key, Key] = Index()
        self._placements_by_uid: Index[tuple[str, str], Key] = Index()
        self._gateways_by_uid: Index[str, str] = Index()

    # Views

    def selected(self, application: Key, gateway: str) -> list[EdgeDevice]:
        """Devices that an application selects on a gateway."""
        index = self._selected.get(application)
        return [self.devices[key] for key in index[gateway]] if index is not None else []

    def placements_of(self, uid: str, gateway: str) -> list[Placement]:
        """Placements of an application on a gateway."""
        return [self.placements[key] for key in self._placements_by_uid[(uid, gateway)]]

    def gateways_of(self, application: WasmApplication) -> set[str]:
        """Gateways on which an application selects devices or has Placements."""
        return self._gateways_of_application.get(application.metadata.key) | self._gateways_by_uid.get(
            application.metadata.uid
        )

    def owner(self, placement: Placement) -> Key | None:
        """The application of a placement, if that very one exists."""
        key = (placement.application.namespace, placement.application.name)
        application = self.applications.get(key)
        return key if application is not None and application.metadata.uid == placement.application.uid else None

    # Changes

    def set_application(self, key: Key, new: WasmApplication | None) -> set[Work]:
        """A WasmApplication came, changed or went."""
        old = self.applications.get(key)
        if old is not None and new is not None and _stale(old, new):
            return set()
        if old is not None:
            for target in old.targets:
                self._applications_by_type.remove((key[0], target.device_type), key)
        if new is None:
            self.applications.pop(key, None)
            self._drop_selection(key)
            if old is None:
                return set()
            return {Work(Do.APPLICATION, key)} | {
                Work(Do.ORPHAN, placement)
                for gateway in self._gateways_by_uid.get(old.metadata.uid)
                for placement in self._placements_by_uid[(old.metadata.uid, gateway)]
            }
        self.applications[key] = new
        for target in new.targets:
            self._applications_by_type.add((key[0], target.device_type), key)
        if old is None or old.targets != new.targets or old.metadata.uid != new.metadata.uid:
            self._drop_selection(key)
            for target in new.targets:
                for device_key in self._devices_by_type[(key[0], target.device_type)]:
                    if selects(new, self.devices[device_key]):
                        self._select(key, self.gateway_of_device[device_key], device_key)
        if old is not None and _same_request(old, new):
            return set() if old.status == new.status else {Work(Do.STATUS, key)}
        return {Work(Do.APPLICATION, key)}

    def set_device(self, key: Key, new: EdgeDevice | None) -> set[Work]:
        """An EdgeDevice came, changed or went."""
        old = self.devices.get(key)
        if old is not None and new is not None and _stale(old, new):
            return set()
        before = self.gateway_of_device.get(key, NO_GATEWAY)
        work: set[Work] = set()
        candidates: set[Key] = set()
        if old is not None:
            candidates |= self._applications_by_type[(key[0], old.device_type)]
            self._devices_by_type.remove((key[0], old.device_type), key)
            self._devices_by_endpoint.remove(old.gateway_endpoint, key)
            self._devices_by_gateway_name.remove(old.gateway_name, key)
            self.devices_of_gateway.remove(before, key)
        if new is None:
            self.devices.pop(key, None)
            self.gateway_of_device.pop(key, None)
            after = NO_GATEWAY
        else:
            candidates |= self._applications_by_type[(key[0], new.device_type)]
            self.devices[key] = new
            after = gateway_of(new, self.gateways.keys(), self._gateways_by_endpoint)
            self.gateway_of_device[key] = after
            self._devices_by_type.add((key[0], new.device_type), key)
            self._devices_by_endpoint.add(new.gateway_endpoint, key)
            self._devices_by_gateway_name.add(new.gateway_name, key)
            self.devices_of_gateway.add(after, key)
            if old is None or old.metadata.generation != new.metadata.generation or old.status != new.status:
                work.add(Work(Do.DEVICE, key))
        differs = old is None or new is None or _placed_as(old) != _placed_as(new) or before != after
        if differs:
            work |= {Work(Do.SLICES, gateway=gateway) for gateway in {before, after} - {NO_GATEWAY}}
        for application_key in candidates:
            work |= self._reselect(application_key, key, new, before, after, differs=differs)
        return work

    def set_gateway(self, name: str, new: Gateway | None) -> set[Work]:
        """A Gateway came, changed or went; devices may move to another."""
        old = self.gateways.pop(name, None)
        touched = self._devices_by_gateway_name.get(name)
        if old is not None:
            names = self._gateways_by_endpoint[old.endpoint]
            names.discard(name)
            if not names:
                del self._gateways_by_endpoint[old.endpoint]
        if new is not None:
            self.gateways[name] = new
            self._gateways_by_endpoint.setdefault(new.endpoint, set()).add(name)
        if old is not None and new is not None and old.endpoint == new.endpoint:
            return set()
        for gateway in (old, new):
            if gateway is not None:
                touched |= self._devices_by_endpoint.get(gateway.endpoint)
        work = {Work(Do.LEASE, gateway=name), Work(Do.SLICES, gateway=name)}
        for key in touched:
            work |= self._move(key)
        return work

    def _move(self, key: Key) -> set[Work]:
        device = self.devices[key]
        before = self.gateway_of_device[key]
        after = gateway_of(device, self.gateways.keys(), self._gateways_by_endpoint)
        if before == after:
            return set()
        self.gateway_of_device[key] = after
        self.devices_of_gateway.remove(before, key)
        self.devices_of_gateway.add(after, key)
        work = {Work(Do.DEVICE, key)}
        work |= {Work(Do.SLICES, gateway=gateway) for gateway in {before, after} - {NO_GATEWAY}}
        for application in self._applications_by_type.get((key[0], device.device_type)):
            work |= self._reselect(application, key, device, before, after, differs=True)
        return work

    def set_placement(self, key: Key, new: Placement | None) -> set[Work]:
        """A Placement came, changed or went."""
        old = self.placements.get(key)
        if old is not None and new is not None and _stale(old, new):
            return set()
        if old is not None:
            uid, gateway = old.application.uid, old.gateway
            self._placements_by_uid.remove((uid, gateway), key)
            if (uid, gateway) not in self._placements_by_uid:
                self._gateways_by_uid.remove(uid, gateway)
        if new is None:
            self.placements.pop(key, None)
            if old is None:
                return set()
            owner = self.owner(old)
            return {Work(Do.PLACEMENTS, owner, old.gateway)} if owner else set()
        self.placements[key] = new
        self._placements_by_uid.add((new.application.uid, new.gateway), key)
        self._gateways_by_uid.add(new.application.uid, new.gateway)
        owner = self.owner(new)
        if owner is None:
            return {Work(Do.ORPHAN, key)}
        if (
            old is None
            or old.metadata.generation != new.metadata.generation
            or old.metadata.labels != new.metadata.labels
        ):
            return {Work(Do.PLACEMENTS, owner, new.gateway)}
        return set() if old.status == new.status else {Work(Do.SUMMARY, owner, new.gateway)}

    def set_slice(self, key: Key, new: DeviceSlice | None) -> set[Work]:
        """A DeviceSlice came, changed or went."""
        old = self.slices.get(key)
        if old is not None and new is not None and _stale(old, new):
            return set()
        links_before = {link.key: link for link in old.links} if old else {}
        links_after = {link.key: link for link in new.links} if new else {}
        if old is not None:
            self.slices_of_gateway.remove(old.gateway, key)
            self.slices.pop(key)
        if new is not None:
            self.slices[key] = new
            self.slices_of_gateway.add(new.gateway, key)
        gateway = new.gateway if new else old.gateway if old else NO_GATEWAY
        work = set()
        for device in links_before.keys() | links_after.keys():
            work |= self._set_link(gateway, device, links_before.get(device), links_after.get(device))
        if old is None or new is None or old.metadata.generation != new.metadata.generation:
            work |= {Work(Do.SLICES, gateway=item.gateway) for item in (old, new) if item is not None}
        return work

    def _set_link(self, gateway: str, device: Key, old: Link | None, new: Link | None) -> set[Work]:
        place = (gateway, device)
        for known in (self.links, self.vehicles, self.incidents):
            known.pop(place, None)
        if new is not None:
            self.links[place] = new
            if new.vehicle is not None:
                self.vehicles[place] = new.vehicle
            if new.incidents:
                self.incidents[place] = new.incidents
        work = set()
        if old is None or new is None or (old.state, old.vehicle) != (new.state, new.vehicle):
            work.add(Work(Do.DEVICE, device))
        if new is not None and new.incidents and (old is None or old.incidents != new.incidents):
            work.add(Work(Do.INCIDENTS, device, gateway))
        return work

    # Selection

    def _select(self, application: Key, gateway: str, device: Key) -> None:
        self._selected.setdefault(application, Index()).add(gateway, device)
        self._gateways_of_application.add(application, gateway)
        self.applications_on_gateway.add(gateway, application)

    def _unselect(self, application: Key, gateway: str, device: Key) -> None:
        index = self._selected[application]
        index.remove(gateway, device)
        if gateway not in index:
            self._gateways_of_application.remove(application, gateway)
            self.applications_on_gateway.remove(gateway, application)

    def _drop_selection(self, application: Key) -> None:
        self._selected.pop(application, None)
        for gateway in self._gateways_of_application.get(application):
            self._gateways_of_application.remove(application, gateway)
            self.applications_on_gateway.remove(gateway, application)

    def _reselect(
        self, application: Key, device: Key, new: EdgeDevice | None, before: str, after: str, *, differs: bool
    ) -> set[Work]:
        index = self._selected.get(application)
        was = index is not None and device in index[before]
        now = new is not None and selects(self.applications[application], new)
        if was and not (now and before == after):
            self._unselect(application, before, device)
        if now:
            self._select(application, after, device)
        if was == now and not (now and differs):
            return set()
        touched = ({before} if was else set()) | ({after} if now else set())
        return {Work(Do.PLACEMENTS, application, gateway) for gateway in touched}


def _stale(old: Object, new: Object) -> bool:
    """Whether `new` is older than, or the same as, what is known: an echo of a write that was taken in already.

    Resource versions of one object can be compared as numbers (API conventions since Kubernetes 1.35; before, they
    were those of etcd). Another uid is another object.
    """
    if old.metadata.uid != new.metadata.uid:
        return False
    ours, theirs = old.metadata.resource_version, new.metadata.resource_version
    return ours == theirs or (ours.isdigit() and theirs.isdigit() and int(theirs) < int(ours))


def _same_request(old: WasmApplication, new: WasmApplication) -> bool:
    return (
        old.metadata.uid == new.metadata.uid
        and old.metadata.generation == new.metadata.generation
        and old.metadata.deleting == new.metadata.deleting
        and old.metadata.finalizers == new.metadata.finalizers
    )


def _placed_as(device: EdgeDevice) -> tuple[object, ...]:
    """All of a device that is in Placements and DeviceSlices."""
    return (
        device.metadata.uid,
        device.device_class,
        device.public_key,
        device.capabilities,
        device.suspend,
        device.px4_system_id,
    )
