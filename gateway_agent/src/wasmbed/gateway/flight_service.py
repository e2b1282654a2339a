"""The MAVLink bridge in the agent: its hub and fleet, flight safety over them, the backend of wasmbed:px4."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.mavlink import Fleet, Hub, KeyStoreError
from wasmbed.gateway.flight import Flight
from wasmbed.gateway.flight_config import FlightConfig
from wasmbed.gateway.flight_metrics import FlightCollector
from wasmbed.gateway.flight_model import claims_of
from wasmbed.gateway.px4_backend import Px4Backend
from wasmbed.gateway.px4_topics import Px4Topics
from wasmbed.gateway.vehicle_sensors import VehicleSensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from wasmbed.api import Placement
    from wasmbed.gateway.flight_model import Claim
    from wasmbed.gateway.state import Store
    from wasmbed.service import Health

_log = logging.getLogger(__name__)

SAVE_RETRY_S: Final = 5.0
_FACT = "flight"


class FlightService:
    """Everything about vehicles. Without a configuration there is no bridge, and the kill switch still works."""

    def __init__(self, config: FlightConfig | None, store: Store, registry: CollectorRegistry, health: Health) -> None:
        self.flight = Flight(config or FlightConfig())
        self.backend = Px4Backend(self.flight)
        self.sensors = VehicleSensors(self.flight)
        self.topics = Px4Topics(self.flight, self.backend.owners, health)
        self._config = config
        self._store = store
        self._health = health
        self._hub: Hub | None = None
        self._fleet: Fleet | None = None
        registry.register(FlightCollector(self))

    @property
    def hub(self) -> Hub | None:
        """The endpoints, while they run."""
        return self._hub

    @property
    def fleet(self) -> Fleet | None:
        """The vehicles, while the bridge runs."""
        return self._fleet

    def set_placements(self, placements: Iterable[Placement]) -> None:
        """Take all Placements: what applications may do with which vehicle."""
        claims: dict[tuple[str, str], Claim] = {}
        for placement in sorted(placements, key=lambda item: item.metadata.name, reverse=True):
            # As with instances, the first by name counts.
            claims.update(claims_of(placement))
        self.flight.set_claims(claims)

    async def restore(self) -> None:
        """Take what was saved; before the API's word is taken."""
        self.flight.restore(await self._store.fact(_FACT))

    async def run(self) -> None:
        """Run the bridge until cancelled. One whose keys cannot be used stays off; the agent goes on without it."""
        config = self._config
        if config is None:
            return
        try:
            hub = Hub(config)
            async with hub.running(), Fleet(hub.switch, config.system, config.component).running() as fleet:
                self._hub, self._fleet = hub, fleet
                self._health.set("mavlink", True)
                self.backend.connect(fleet)
                self.sensors.connect(fleet)
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self.flight.run(fleet))
                        tasks.create_task(self.topics.run(fleet))
                finally:
                    self.backend.disconnect()
                    self.sensors.connect(None)
                    self._hub = self._fleet = None
        except* KeyStoreError as group:
            why = "; ".join(str(error) for error in group.exceptions)
            _log.error("no MAVLink bridge until the agent is restarted reason=%s", why)
            self._health.set("mavlink", False, f"{why}; then restart wasmbed-agent")

    async def run_saver(self) -> None:
        """Save what changes until cancelled; a full disk is waited out."""
        while True:
            await self.flight.unsaved.wait()
            self.flight.unsaved.clear()
            try:
                await self._store.save_fact(_FACT, self.flight.to_saved())
            except sqlite3.Error as error:
                _log.error("flight state not saved; free space in the state directory error=%s", error)
                self.flight.unsaved.set()
                await asyncio.sleep(SAVE_RETRY_S)
