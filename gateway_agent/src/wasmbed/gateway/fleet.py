"""Where instances run: in the gateway's own runtime, or on a device behind a link; and how those links are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wasmbed.api import DeviceClass, InstanceState, LinkState, timestamp
from wasmbed.gateway.reconcile import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wasmbed.api import PlacementDevice, SliceDevice
    from wasmbed.gateway.artifacts import Artifacts
    from wasmbed.gateway.flight_model import Gate
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.model import Shown, Wanted

_log = logging.getLogger(__name__)

# A device that is back within this time was never away as far as any status tells.
LINK_GRACE_S: Final = 3.0
# Modules read from disk for devices at once; each is at most maxArtifactBytes.
CONCURRENT_DEVICE_LOADS: Final = 16
# What a device may run; its own runtime has the last word.
DEVICE_MODULES: Final = 64
Key = tuple[str, str]


@dataclass
class _Device:
    """One device that runs its modules itself: what is wanted of it, and its link (None: never seen)."""

    wanted: dict[str, Wanted] = field(default_factory=dict)
    reconciler: Reconciler | None = None
    link: LinkState | None = None
    since: str = ""
    lost: asyncio.TimerHandle | None = None


class Fleet:
    """The gateway's own reconciler and one for each connected device, seen as one."""

    def __init__(
        self,
        artifacts: Artifacts,
        metrics: Metrics,
        on_shown: Callable[[Mapping[str, Shown | None]], None],
        on_link: Callable[[Key], None],
    ) -> None:
        """on_shown gets what changed of the states of instances, on_link the device whose link did."""
        self._artifacts = artifacts
        self._metrics = metrics
        self._on_shown = on_shown
        self._on_link = on_link
        self._devices: dict[Key, _Device] = {}
        self._known: dict[Key, SliceDevice] = {}
        self._shown: dict[str, Shown] = {}
        self._states: Counter[str] = Counter()
        self._gates: Mapping[str, Gate] = {}
        self._complete = False
        self._max_artifact_bytes: int | None = None
        self._load_slots = asyncio.Semaphore(CONCURRENT_DEVICE_LOADS)
        self.own = Reconciler(artifacts, metrics, self._take)

    @property
    def shown(self) -> Mapping[str, Shown]:
        """The state of every wanted instance that is known now."""
        return self._shown

    def set_wanted(self, wanted: Mapping[str, Wanted], *, complete: bool) -> None:
        """Replace what is wanted; `complete` when nothing else is, so that the rest is stopped."""
        own: dict[str, Wanted] = {}
        by_device: dict[Key, dict[str, Wanted]] = {}
        for name, item in wanted.items():
            if item.request.device_class == DeviceClass.GATEWAY:
                own[name] = item
            else:
                namespace, _, short = item.request.device.partition("/")
                by_device.setdefault((namespace, short), {})[name] = item
        self._complete = complete
        self._artifacts.keep = frozenset(item.request.digest for item in wanted.values())
        self.own.set_wanted(own, complete=complete)
        gone: dict[str, Shown | None] = {}
        for key in by_device.keys() | self._devices.keys():
            device = self._devices.setdefault(key, _Device())
            before, device.wanted = device.wanted, by_device.get(key, {})
            gone.update(dict.fromkeys(before.keys() - device.wanted.keys()))
            if device.reconciler is not None:
                device.reconciler.set_wanted(device.wanted, complete=complete)
        self._forget_unused()
        if gone := {name: None for name in gone if name in self._shown}:
            self._take(gone)

    def planned(self, devices: Iterable[PlacementDevice]) -> bool:
        """Whether the states shown of these devices are about what was wanted last."""
        return all(
            self.own.planned if device.device_class == DeviceClass.GATEWAY else self._planned(device.key)
            for device in devices
        )

    def _planned(self, key: Key) -> bool:
        device = self._devices.get(key)
        return device is None or device.reconciler is None or device.reconciler.planned

    def set_limits(self, *, max_modules: int, max_artifact_bytes: int) -> None:
        """Take the limits of the Gateway; that of modules is of its own runtime."""
        self._max_artifact_bytes = max_artifact_bytes
        self.own.set_limits(max_modules=max_modules, max_artifact_bytes=max_artifact_bytes)
        for device in self._devices.values():
            if device.reconciler is not None:
                device.reconciler.set_limits(max_modules=DEVICE_MODULES, max_artifact_bytes=max_artifact_bytes)

    def set_gates(self, gates: Mapping[str, Gate]) -> None:
        """Take what holds starts and updates up, by device (namespace/name)."""
        self._gates = gates
        self.own.set_gates(gates)
        for device in self._devices.values():
            if device.reconciler is not None:
                device.reconciler.set_gates(gates)

    # Devices

    def set_devices(self, devices: Mapping[Key, SliceDevice]) -> None:
        """Take the devices of all slices."""
        self._known = dict(devices)
        self._forget_unused()

    def known(self, key: Key) -> SliceDevice | None:
        """What the slices say of a device."""
        return self._known.get(key)

    @property
    def devices(self) -> Mapping[Key, SliceDevice]:
        """What the slices say of all devices."""
        return self._known

    def link(self, key: Key) -> tuple[LinkState, str] | None:
        """State of a device's link and since when, None when it was never seen."""
        device = self._devices.get(key)
        return None if device is None or device.link is None else (device.link, device.since)

    def restore_link(self, key: Key, state: LinkState, since: str, *, grace_s: float) -> None:
        """Take what an earlier agent told of a link; a device that was connected has grace_s to come back."""
        device = self._devices.setdefault(key, _Device())
        if device.link is None:
            device.link, device.since = state, since
            if state is LinkState.CONNECTED:
                self._lose(key, device, grace_s)

    def away(self, key: Key) -> str:
        """Since when a device is away, empty when it is not or was never here."""
        device = self._devices.get(key)
        if device is None or device.link is not LinkState.DISCONNECTED:
            return ""
        return f"disconnected since {device.since}"

    def join(self, key: Key) -> Reconciler:
        """A device has opened a session: the reconciler for it, to be run after its instances were attached."""
        device = self._devices.setdefault(key, _Device())
        if device.lost is not None:
            device.lost.cancel()
            device.lost = None
        reconciler = Reconciler(self._artifacts, self._metrics, self._take, load_slots=self._load_slots)
        if self._max_artifact_bytes is not None:
            reconciler.set_limits(max_modules=DEVICE_MODULES, max_artifact_bytes=self._max_artifact_bytes)
        reconciler.set_gates(self._gates)
        reconciler.set_wanted(device.wanted, complete=self._complete)
        device.reconciler = reconciler
        if device.link is not LinkState.CONNECTED:
            device.link, device.since = LinkState.CONNECTED, timestamp()
            self._on_link(key)
        return reconciler

    def leave(self, key: Key, reconciler: Reconciler) -> None:
        """The session is over; its device counts as Disconnected unless it is back at once."""
        device = self._devices.get(key)
        if device is not None and device.reconciler is reconciler:
            device.reconciler = None
            self._lose(key, device, LINK_GRACE_S)

    def _lose(self, key: Key, device: _Device, grace_s: float) -> None:
        since = timestamp()

        def lost() -> None:
            device.lost = None
            device.link, device.since = LinkState.DISCONNECTED, since
            _log.warning("device disconnected device=%s/%s", *key)
            self._on_link(key)
            # Not in `_shown` any more: the statuses go by what they said last, and since when the device is away.
            self._take(dict.fromkeys(device.wanted))
            self._forget_unused()

        device.lost = asyncio.get_running_loop().call_later(grace_s, lost)

    def _forget_unused(self) -> None:
        for key, device in list(self._devices.items()):
            if key not in self._known and not device.wanted and device.reconciler is None:
                if device.lost is not None:
                    device.lost.cancel()
                del self._devices[key]

    def _take(self, changes: Mapping[str, Shown | None]) -> None:
        for name, shown in changes.items():
            before = self._shown.pop(name, None)
            if before is not None:
                self._states[before.state] -= 1
            if shown is not None:
                self._shown[name] = shown
                self._states[shown.state] += 1
        for state in InstanceState:
            self._metrics.instances.labels(state.value).set(self._states[state])
        self._on_shown(changes)
