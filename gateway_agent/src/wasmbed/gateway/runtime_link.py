"""The connection to the runtime: made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from wasmbed.gateway.model import retry_delay_s
from wasmbed.runtime import LogEvent, RequestRefused, RuntimeClient, RuntimeGone, StateEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.gateway.hostcalls import HostCalls
    from wasmbed.gateway.logs import LogForwarder
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.reconcile import Reconciler
    from wasmbed.runtime import Hello

_log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
# A connection that held for this long was a good one: the back-off begins anew.
GOOD_S = 20.0


async def keep_runtime(
    path: Path,
    reconciler: Reconciler,
    hosts: HostCalls,
    logs: LogForwarder,
    metrics: Metrics,
    on_state: Callable[[Hello | None, str], None],
) -> None:
    """Stay connected until cancelled; `on_state` gets the runtime's versions, or None and why it is away."""
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        connected_at = None
        try:
            async with await RuntimeClient.connect(path) as client:
                hello, instances = await client.hello(), await client.list()
                connected_at = loop.time()
                _log.info("runtime connected wasmtime=%s instances=%d", hello.wasmtime, len(instances))
                metrics.runtime_connections.inc()
                hosted, instances = await hosts.attach(client, instances, reconciler.wanted)
                following = loop.create_task(hosts.figures.follow(client))
                try:
                    reconciler.attach(hosted, instances)
                    on_state(hello, "")
                    async for event in client.events():
                        if isinstance(event, LogEvent):
                            logs.forward(event)
                        elif isinstance(event, StateEvent):
                            await hosted.observe(event)
                            reconciler.observe(event)
                        else:
                            hosted.submit(event)
                finally:
                    following.cancel()
                    hosted.lost()
        except (RuntimeGone, RequestRefused) as error:
            if connected_at is not None or failures == 0:
                _log.warning("runtime away error=%s", error)
            reconciler.detach(str(error))
            on_state(None, str(error))
        if connected_at is not None and loop.time() - connected_at > GOOD_S:
            failures = 0
        failures += 1
        await asyncio.sleep(retry_delay_s(failures, first_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))
