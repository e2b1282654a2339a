"""A gateway's bridge alone, until standard input ends: vehicles at UDP, ground stations at TCP, both on loopback.

usage: vehicle_gateway.py UDP_PORT TCP_PORT
"""

from __future__ import annotations

import asyncio
import sys

from wasmbed.bridges.mavlink import Endpoint, Hub, MavlinkConfig


async def main(udp_port: str, tcp_port: str) -> None:
    endpoints = (
        Endpoint("vehicles", f"udpin:127.0.0.1:{udp_port}", isolate_peers=True),
        Endpoint("stations", f"tcpin:127.0.0.1:{tcp_port}"),
    )
    async with Hub(MavlinkConfig(endpoints)).running() as hub:
        for endpoint in endpoints:
            await hub.ready(endpoint.name)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
