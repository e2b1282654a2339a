"""The gateway's Lease."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from wasmbed.gateway.config import LeaseConfig
from wasmbed.gateway.lease import renew_lease
from wasmbed.gateway.metrics import Metrics


class Hanging:
    """An API whose first connection never answers."""

    def __init__(self) -> None:
        self.attempts = 0
        self.renewed = asyncio.Event()

    async def apply(self, *_: Any, **__: Any) -> None:
        self.attempts += 1
        if self.attempts == 1:
            await asyncio.Event().wait()
        self.renewed.set()


async def test_a_renewal_that_hangs_does_not_cost_the_lease() -> None:
    """Two connections to a peer that vanished, 15 s each, were longer than the Lease."""
    api, config = Hanging(), LeaseConfig(duration_s=2, renew_s=1)
    metrics = Metrics(CollectorRegistry())
    async with asyncio.TaskGroup() as tasks:
        renewing = tasks.create_task(renew_lease(api, "g", config, metrics))  # type: ignore[arg-type]
        async with asyncio.timeout(8):
            await api.renewed.wait()
        renewing.cancel()
    assert metrics.registry.get_sample_value("wasmbed_agent_lease_renewals_total", {"result": "failed"}) == 1
