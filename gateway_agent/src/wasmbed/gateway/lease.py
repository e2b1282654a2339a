"""The gateway's sign of life: a Lease, renewed whatever else the agent does."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wasmbed.api import LEASE_NAME, MANAGER_AGENT, gateway_namespace, micro_timestamp
from wasmbed.kube import LEASE, ApiError

if TYPE_CHECKING:
    from wasmbed.gateway.config import LeaseConfig
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.kube import Kube

_log = logging.getLogger(__name__)
RETRY_S = 2.0
# Connections of a peer that vanished fail one after the other, each only after this time.
ATTEMPT_S = 5.0


async def renew_lease(kube: Kube, gateway: str, config: LeaseConfig, metrics: Metrics) -> None:
    """Renew until cancelled; a renewal that fails, or takes 5 s, is tried again after 2 s."""
    acquired = micro_timestamp()
    failing = False
    while True:
        lease = {
            "metadata": {"name": LEASE_NAME, "namespace": gateway_namespace(gateway)},
            "spec": {
                "holderIdentity": gateway,
                "leaseDurationSeconds": config.duration_s,
                "acquireTime": acquired,
                "renewTime": micro_timestamp(),
            },
        }
        try:
            async with asyncio.timeout(min(ATTEMPT_S, config.duration_s / 2)):
                await kube.apply(LEASE, lease, manager=MANAGER_AGENT)
        except (ApiError, TimeoutError) as error:
            metrics.lease_renewals.labels("failed").inc()
            if not failing:
                _log.warning("lease not renewed error=%s", error or "no answer in time")
            failing = True
            await asyncio.sleep(min(RETRY_S, config.renew_s))
        else:
            metrics.lease_renewals.labels("renewed").inc()
            failing = False
            await asyncio.sleep(config.renew_s)
