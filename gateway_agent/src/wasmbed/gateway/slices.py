"""The DeviceSlices of this gateway: its devices for the fleet, the states of their links for the API."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from wasmbed.api import DEVICE_SLICE, ApiObjectError, DeviceSlice, LinkState, timestamp
from wasmbed.gateway.flight_model import DeviceRecord
from wasmbed.gateway.status import slice_status
from wasmbed.gateway.writer import StatusWriter, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wasmbed.api import Incident, SliceDevice, Vehicle
    from wasmbed.gateway.fleet import Fleet
    from wasmbed.gateway.flight import Flight
    from wasmbed.gateway.state import Store

_log = logging.getLogger(__name__)

SAVE_RETRY_S: Final = 5.0
_SAVED: Final = "slice:"
Object = dict[str, Any]
Key = tuple[str, str]


class Slices:
    """Every DeviceSlice; what they say of devices is on disk too, so that devices are known without the API."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        writer: StatusWriter,
        flight: Flight,
        on_devices: Callable[[], None],
        *,
        missed_s: float,
    ) -> None:
        """on_devices is called after the fleet got other devices; missed_s is when a silent device counts as lost."""
        self._flight = flight
        self._store = store
        self._fleet = fleet
        self._writer = writer
        self._on_devices = on_devices
        self._missed_s = missed_s
        self._slices: dict[str, DeviceSlice] = {}
        self._restored: dict[str, DeviceSlice] = {}
        self._owners: dict[Key, str] = {}
        self._unsaved: dict[str, Object | None] = {}
        self._save = asyncio.Event()

    def on_change(self, old: Object | None, new: Object | None) -> None:
        """An informer's callback."""
        name = (new or old or {})["metadata"]["name"]
        before = self._slices.get(name)
        try:
            view = None if new is None else DeviceSlice.from_dict(new)
        except ApiObjectError as error:
            _log.error("a device slice cannot be read and is left as it was error=%s", error)
            return
        if before is not None and (view is None or view.metadata.uid != before.metadata.uid):
            self._writer.forget(_target(self._slices.pop(name)))
            before = None
        self._restored.pop(name, None)
        if view is None:
            self._unsaved[name] = None
            self._save.set()
            self._push()
            return
        if before is not None and before.metadata.generation == view.metadata.generation:
            return
        if before is None:
            for link in view.links:
                self._fleet.restore_link(link.key, LinkState(link.state), link.since, grace_s=self._missed_s)
        # Links told last may be newer than what the API shows.
        self._slices[name] = view if before is None else replace(view, links=before.links)
        self._unsaved[name] = view.to_dict()
        self._save.set()
        self._push()
        self._tell(name, known=view.status_to_dict())

    def on_link(self, key: Key) -> None:
        """The fleet's callback: a device's link changed."""
        name = self._owners.get(key)
        if name in self._slices:
            self._tell(name, known=None)

    def on_told(self, devices: set[str]) -> None:
        """Flight safety's callback: the vehicles or the incidents of these devices (namespace/name) changed."""
        keys = ((namespace, name) for namespace, _, name in (device.partition("/") for device in devices))
        for name in {self._owners.get(key, "") for key in keys} & self._slices.keys():
            self._tell(name, known=None)

    async def restore(self) -> None:
        """Take the devices that were saved, unless the API was faster."""
        for name, item in (await self._store.facts(_SAVED)).items():
            if name not in self._slices and name not in self._unsaved:
                try:
                    self._restored[name] = DeviceSlice.from_dict(item)
                except ApiObjectError as error:
                    _log.error("a saved device slice cannot be read error=%s", error)
        self._push()

    def forget_restored(self) -> None:
        """The API has told all there is: slices that are not among it are gone."""
        for name in self._restored:
            self._unsaved[name] = None
            self._save.set()
        self._restored.clear()
        self._push()

    async def run_saver(self) -> None:
        """Save changes until cancelled; a full disk is waited out."""
        while True:
            await self._save.wait()
            self._save.clear()
            changes, self._unsaved = self._unsaved, {}
            try:
                await self._store.save_facts({_SAVED + name: value for name, value in changes.items()})
            except sqlite3.Error as error:
                _log.error("device slices not saved; free space in the state directory error=%s", error)
                self._unsaved = {**changes, **self._unsaved}
                self._save.set()
                await asyncio.sleep(SAVE_RETRY_S)

    def _push(self) -> None:
        devices: dict[Key, SliceDevice] = {}
        self._owners = {}
        views: Mapping[str, DeviceSlice] = {**self._restored, **self._slices}
        for name, view in views.items():
            for device in view.devices:
                devices[device.key] = device
                self._owners[device.key] = name
        self._fleet.set_devices(devices)
        self._flight.set_devices(
            {_device(key): DeviceRecord(item.suspended, item.system_id) for key, item in devices.items()}
        )
        self._on_devices()

    def _seen(self, key: Key) -> tuple[Vehicle | None, tuple[Incident, ...]]:
        return self._flight.vehicles.get(_device(key)), self._flight.incidents(_device(key))

    def _tell(self, name: str, *, known: Object | None) -> None:
        told = slice_status(self._slices[name], self._fleet.link, self._seen, now=timestamp())
        self._slices[name] = told
        self._writer.put(_target(told), told.status_to_dict(), known=known)


def _device(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _target(view: DeviceSlice) -> Target:
    return Target(DEVICE_SLICE, view.metadata.name, view.metadata.uid, view.metadata.namespace)
