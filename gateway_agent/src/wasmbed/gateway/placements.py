"""The Placements of this gateway: taken from the API or from disk, handed to the reconciler, their statuses kept."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from wasmbed.api import PLACEMENT, ApiObjectError, Placement, PlacementStatus, timestamp
from wasmbed.gateway.model import Shown, Wanted, merge_instances, placement_instances
from wasmbed.gateway.ros2_routes import with_configured
from wasmbed.gateway.status import placement_status, settled
from wasmbed.gateway.writer import StatusWriter, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wasmbed.gateway.fleet import Fleet
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.ros2_routes import Ros2RoutesConfig
    from wasmbed.gateway.state import Store

_log = logging.getLogger(__name__)

SAVE_RETRY_S = 5.0
Object = dict[str, Any]


class Placements:
    """Every Placement of one gateway. Changes of one turn of the loop reach the reconciler together."""

    def __init__(
        self,
        gateway: str,
        store: Store,
        fleet: Fleet,
        writer: StatusWriter,
        metrics: Metrics,
        routes: Sequence[Ros2RoutesConfig] = (),
    ) -> None:
        """`routes` are the operator's of ROS 2."""
        self._gateway, self._routes = gateway, tuple(routes)
        self._store = store
        self._fleet = fleet
        self._writer = writer
        self._metrics = metrics
        self.on_placements: list[Callable[[Iterable[Placement]], None]] = []
        """Get all Placements before the reconcilers get what they ask for."""
        self.on_wanted: list[Callable[[Mapping[str, Wanted]], None]] = []
        """Get all wanted instances before the reconcilers do."""
        self._placements: dict[str, Placement] = {}
        self._instances: dict[str, dict[str, Wanted]] = {}
        self._owners: dict[str, set[str]] = {}
        self._last: dict[str, PlacementStatus] = {}
        self._changed: set[str] = set()
        self._to_tell: set[str] = set()
        self._push_planned = False
        self._live = False
        self._complete = False
        self._unsaved: dict[str, Object | None] = {}
        self._save_all = False
        self._save = asyncio.Event()

    def on_change(self, old: Object | None, new: Object | None) -> None:
        """An informer's callback; the first list comes through `take_all`."""
        if not self._live:
            return
        if new is None or new["metadata"].get("deletionTimestamp"):
            self._remove((new or old or {})["metadata"]["name"])
        else:
            self._set(new)
        self._save.set()
        if not self._push_planned:
            self._push_planned = True
            asyncio.get_running_loop().call_soon(self._push)

    def take_all(self, objects: Iterable[Object]) -> None:
        """Take the API's whole list: what is not in it is gone."""
        current = {item["metadata"]["name"]: item for item in objects if not item["metadata"].get("deletionTimestamp")}
        for name in self._placements.keys() - current.keys():
            self._remove(name)
        for name, item in current.items():
            self._set(item)
            # All are saved anew, those too that are known from the disk already.
            self._unsaved[name] = _saved(item)
        self._to_tell |= current.keys()
        self._live = self._complete = self._save_all = True
        self._save.set()
        self._push()

    async def restore(self) -> None:
        """Take what was saved, unless the API was faster."""
        saved, complete = await self._store.placements(), bool(await self._store.fact("complete"))
        if self._live:
            return
        for item in saved.values():
            self._set(item)
        self._unsaved.clear()
        # An empty or new database says nothing about what may run.
        self._complete = complete
        _log.warning("the API is away; placements restored from disk count=%d", len(self._placements))
        self._push()

    def on_shown(self, changes: Mapping[str, Shown | None]) -> None:
        """The reconciler's callback: write the statuses that this touches."""
        self._to_tell |= {owner for name in changes for owner in self._owners.get(name, ())}
        if not self._live:
            # Nobody can be told, and only the API knows since when things are as they are.
            return
        # The states shown are not yet those of a generation that came since the last push or plan.
        names = {name for name in self._to_tell - self._changed if self._is_planned(name)}
        self._to_tell -= names
        now = timestamp()
        for name in names:
            placement = self._placements.get(name)
            if placement is None:
                continue
            previous = self._last.get(name, placement.status)
            status = placement_status(placement, self._fleet.shown, previous, now=now, away=self._fleet.away)
            self._last[name] = status
            self._writer.put(
                _target(placement), status.to_dict(), known=placement.status.to_dict(), settled=settled(status)
            )

    def _is_planned(self, name: str) -> bool:
        placement = self._placements.get(name)
        return placement is None or self._fleet.planned(placement.devices)

    async def run_saver(self) -> None:
        """Save changes until cancelled; a full disk is waited out, it must not stop an application."""
        while True:
            await self._save.wait()
            self._save.clear()
            changes, everything = self._unsaved, self._save_all
            self._unsaved, self._save_all = {}, False
            try:
                await self._store.save_placements(changes, complete=everything)
            except sqlite3.Error as error:
                _log.error("placements not saved; free space in the state directory error=%s", error)
                self._unsaved = {**changes, **self._unsaved}
                self._save_all = self._save_all or everything
                self._save.set()
                await asyncio.sleep(SAVE_RETRY_S)

    def _set(self, item: Object) -> None:
        name = item["metadata"]["name"]
        try:
            placement = Placement.from_dict(item)
        except ApiObjectError as error:
            _log.error("a placement cannot be read and is left as it was error=%s", error)
            return
        if placement.gateway != self._gateway:
            _log.error("a placement of another gateway is left alone name=%s gateway=%s", name, placement.gateway)
            return
        before = self._placements.get(name)
        self._placements[name] = placement
        if before is not None and before.metadata.uid == placement.metadata.uid:
            if before.metadata.generation == placement.metadata.generation:
                return
        elif before is not None:
            self._forget(before)
        self._instances[name] = placement_instances(with_configured(placement, self._routes))
        self._changed.add(name)
        self._unsaved[name] = _saved(item)

    def _remove(self, name: str) -> None:
        before = self._placements.pop(name, None)
        if before is not None:
            self._forget(before)
            del self._instances[name]
            self._changed.add(name)
        self._unsaved[name] = None

    def _forget(self, placement: Placement) -> None:
        self._last.pop(placement.metadata.name, None)
        self._writer.forget(_target(placement))

    def _push(self) -> None:
        self._push_planned = False
        self._metrics.placements.set(len(self._placements))
        self._owners = {}
        for name, instances in self._instances.items():
            for instance in instances:
                self._owners.setdefault(instance, set()).add(name)
        # Told after the next plan: until then the shown states are those of the generation before.
        self._to_tell |= self._changed
        self._changed = set()
        for on_placements in self.on_placements:
            on_placements(self._placements.values())
        wanted = merge_instances(self._instances)
        for listener in self.on_wanted:
            listener(wanted)
        self._fleet.set_wanted(wanted, complete=self._complete)


def _saved(item: Object) -> Object:
    """What is kept of a Placement."""
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "generation")}
    return {"metadata": metadata, "spec": item["spec"]}


def _target(placement: Placement) -> Target:
    return Target(PLACEMENT, placement.metadata.name, placement.metadata.uid, placement.metadata.namespace)
