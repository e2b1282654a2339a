"""The HTTP side of a service."""

import aiohttp
from prometheus_client import CollectorRegistry, Counter
from wasmbed.service import Health, serve_http


async def fetch(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_ready_only_when_every_check_is_good_and_says_why_not() -> None:
    health = Health()
    async with serve_http("127.0.0.1", 0, health, CollectorRegistry()) as port:
        assert await fetch(port, "/healthz") == (200, "ok\n")
        assert await fetch(port, "/readyz") == (503, "starting\n")
        health.set("api", True)
        health.set("runtime", False, "socket refused; is wasmbed-runtime running?")
        assert await fetch(port, "/readyz") == (
            503,
            "api: ok\nruntime: not ready: socket refused; is wasmbed-runtime running?\n",
        )
        health.set("runtime", True)
        assert (await fetch(port, "/readyz"))[0] == 200


async def test_metrics_are_in_the_prometheus_text_format() -> None:
    registry = CollectorRegistry()
    Counter("wasmbed_example", "An example", registry=registry).inc(3)
    async with serve_http("127.0.0.1", 0, Health(), registry) as port:
        status, text = await fetch(port, "/metrics")
    assert status == 200
    assert "wasmbed_example_total 3.0" in text
