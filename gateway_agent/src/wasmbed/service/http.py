"""/healthz, /readyz and /metrics of a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest


@dataclass(frozen=True)
class HttpConfig:
    """Where /healthz, /readyz and /metrics are served."""

    port: int
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {self.port}")


class Health:
    """Named checks a service sets as it learns; it is ready when there is one at least and all are good."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[bool, str]] = {}

    def set(self, check: str, ok: bool, message: str = "") -> None:
        """Set the state of `check`; `message` says why it is not good and what helps."""
        self._checks[check] = (ok, message)

    @property
    def ok(self) -> bool:
        """Whether every check is good."""
        return bool(self._checks) and all(ok for ok, _ in self._checks.values())

    def report(self) -> str:
        """One line per check: `name: ok` or `name: not ready: message`."""
        if not self._checks:
            return "starting\n"
        return "".join(
            f"{name}: ok\n" if ok else f"{name}: not ready{': ' + message if message else ''}\n"
            for name, (ok, message) in sorted(self._checks.items())
        )


@asynccontextmanager
async def serve_http(address: str, port: int, health: Health, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Serve on `address`:`port` (0: any free one) within the context, which gets the port.

    /healthz is 200 while the event loop turns, /readyz 200 or 503 with `Health.report`, /metrics the registry in the
    Prometheus text format 0.0.4. Raises OSError when the address cannot be bound.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text=health.report(), status=200 if health.ok else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    application = web.Application(client_max_size=1024)
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=15.0, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
