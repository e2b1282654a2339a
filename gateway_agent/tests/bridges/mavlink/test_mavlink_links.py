"""Real sockets, TCP connections and pseudo terminals, with pymavlink as the other end."""

import asyncio
import contextlib
import os
import pty
import socket
import tty
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pymavlink import mavutil
from wasmbed.bridges.mavlink.codec import Message, message
from wasmbed.bridges.mavlink.endpoints import Endpoint, LogEndpoint, MavlinkConfig, parse_address
from wasmbed.bridges.mavlink.hub import Hub
from wasmbed.bridges.mavlink.keystore import new_key
from wasmbed.bridges.mavlink.tlog import read_tlog

HEARTBEAT = {"type": 6, "autopilot": 8, "system_status": 4, "mavlink_version": 3}


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found:
                return found
            await asyncio.sleep(0.005)


def peer(address: str, system: int = 1, **options: Any) -> Any:
    return mavutil.mavlink_connection(address, source_system=system, source_component=1, dialect="common", **options)


def beat(connection: Any) -> None:
    connection.mav.heartbeat_send(2, 12, 0, 0, 4)


def received(connection: Any, name: str) -> Any:
    return connection.recv_match(type=name, blocking=False)


def port_of(hub: Hub, name: str) -> int:
    bound = hub.links[name].bound
    assert bound is not None
    return bound[1]


async def test_udp_listener_learns_its_peers_and_lets_them_go() -> None:
    config = MavlinkConfig((Endpoint("in", "udpin:127.0.0.1:0", peer_timeout_s=0.3),))
    got: list[Message] = []
    async with Hub(config).running() as hub:
        await hub.ready("in")
        hub.switch.open_local(245, 191, got.append)
        vehicle = peer(f"udpout:127.0.0.1:{port_of(hub, 'in')}")
        vehicle.write(b"not mavlink")
        beat(vehicle)
        await until(lambda: got)
        assert (got[0].name, got[0].system, got[0]["type"]) == ("HEARTBEAT", 1, 2)
        assert len(hub.switch.ports) == 1
        await until(lambda: not hub.switch.ports)
        assert hub.switch.router.systems == (245,)
        vehicle.close()


async def test_gateway_speaks_to_a_udp_server_and_a_command_reaches_only_its_target() -> None:
    servers = [peer("udpin:127.0.0.1:0", system) for system in (1, 2)]
    addresses = [f"udpout:127.0.0.1:{server.port.getsockname()[1]}" for server in servers]
    config = MavlinkConfig(tuple(Endpoint(f"v{n}", address) for n, address in enumerate(addresses)))
    async with Hub(config).running() as hub:
        await hub.ready("v0")
        await hub.ready("v1")
        local = hub.switch.open_local(245, 191, lambda _: None)
        local.send(message("HEARTBEAT", **HEARTBEAT))
        for server in servers:
            await until(lambda server=server: received(server, "HEARTBEAT"))
            beat(server)
        await until(lambda: hub.switch.router.ports_of(2))
        await until(lambda: hub.switch.router.ports_of(1))
        assert local.send(message("COMMAND_LONG", target_system=2, target_component=1, command=400)) == 1
        await until(lambda: received(servers[1], "COMMAND_LONG"))
        assert received(servers[0], "COMMAND_LONG") is None
    for server in servers:
        server.close()


async def test_broadcast_finds_a_ground_station_and_then_speaks_to_it() -> None:
    station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    station.bind(("127.255.255.255", 0))
    station.setblocking(False)
    config = MavlinkConfig((Endpoint("cast", f"udpbcast:127.255.255.255:{station.getsockname()[1]}"),))
    async with Hub(config).running() as hub:
        await hub.ready("cast")
        local = hub.switch.open_local(245, 191, lambda _: None)

        def found() -> Any:
            local.send(message("HEARTBEAT", **HEARTBEAT))
            with contextlib.suppress(BlockingIOError):
                return station.recvfrom(300)
            return None

        data, _ = await until(found)
        assert data[0] == 0xFD
        answer = peer(f"udpout:127.0.0.1:{port_of(hub, 'cast')}", 255)
        beat(answer)
        await until(lambda: 255 in hub.switch.router.systems)
        while True:
            try:
                station.recvfrom(300)
            except BlockingIOError:
                break
        local.send(message("HEARTBEAT", **HEARTBEAT))
        await until(lambda: received(answer, "HEARTBEAT"))
        with pytest.raises(BlockingIOError):
            station.recvfrom(300)
        answer.close()
    station.close()


async def test_tcp_client_reconnects_when_the_server_comes_back() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = MavlinkConfig((Endpoint("tcp", f"tcp:127.0.0.1:{port}"),))
    async with Hub(config).running() as hub:
        await hub.ready("tcp")
        first, _ = listener.accept()
        listener.close()
        first.close()
        await until(lambda: not hub.switch.ports)
        listener = socket.create_server(("127.0.0.1", port))
        await until(lambda: hub.switch.ports)
        second, _ = listener.accept()
        hub.switch.open_local(245, 191, lambda _: None).send(message("HEARTBEAT", **HEARTBEAT))
        second.settimeout(60)
        data = await asyncio.to_thread(second.recv, 300)
        assert data[0] == 0xFD
        second.close()
    listener.close()


async def test_two_tcp_clients_of_the_server_hear_each_other_byte_by_byte() -> None:
    config = MavlinkConfig((Endpoint("server", "tcpin:127.0.0.1:0", max_peers=2),))
    async with Hub(config).running() as hub:
        await hub.ready("server")
        ends = [await asyncio.open_connection("127.0.0.1", port_of(hub, "server")) for _ in range(2)]
        await until(lambda: len(hub.switch.ports) == 2)
        module = mavutil.mavlink
        raw = module.MAVLink_heartbeat_message(2, 12, 0, 0, 4, 3).pack(module.MAVLink(None, 1, 1))
        for at in range(len(raw)):
            ends[0][1].write(raw[at : at + 1])
            await ends[0][1].drain()
        async with asyncio.timeout(60):
            assert await ends[1][0].readexactly(len(raw)) == raw
            third = await asyncio.open_connection("127.0.0.1", port_of(hub, "server"))
            assert await third[0].read() == b""
        for _, writer in [*ends, third]:
            writer.close()


async def test_a_serial_line_that_is_unplugged_comes_back(tmp_path: Path) -> None:
    device = tmp_path / "ttyVEHICLE"
    got: list[Message] = []
    config = MavlinkConfig((Endpoint("serial", f"serial:{device}:57600"),))

    def plug() -> tuple[int, Callable[[], None]]:
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        device.unlink(missing_ok=True)
        device.symlink_to(os.ttyname(slave))
        os.close(slave)
        return master, lambda: os.close(master)

    master, unplug = plug()
    module = mavutil.mavlink
    raw = module.MAVLink_heartbeat_message(2, 12, 0, 0, 4, 3).pack(module.MAVLink(None, 1, 1))
    async with Hub(config).running() as hub:
        local = hub.switch.open_local(245, 191, got.append)
        await hub.ready("serial")
        os.write(master, raw)
        await until(lambda: got)
        unplug()
        await until(lambda: not hub.switch.ports)
        master, unplug = plug()
        await until(lambda: hub.switch.ports)
        local.send(message("HEARTBEAT", **HEARTBEAT))

        def sent() -> bytes:
            with contextlib.suppress(BlockingIOError):
                return os.read(master, 300)
            return b""

        assert (await until(sent))[0] == 0xFD
    unplug()


async def test_a_signed_endpoint_takes_only_signed_frames_and_signs_its_own(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "fleet.key").write_text(key)
    (tmp_path / "fleet.key").chmod(0o600)
    config = MavlinkConfig((Endpoint("in", "udpin:127.0.0.1:0", signing_key="fleet", link_id=4),), key_folder=tmp_path)
    got: list[Message] = []
    async with Hub(config).running() as hub:
        await hub.ready("in")
        local = hub.switch.open_local(245, 191, got.append)
        vehicle = peer(f"udpout:127.0.0.1:{port_of(hub, 'in')}")
        beat(vehicle)
        await until(lambda: hub.switch.ports)
        await until(lambda: hub.switch.ports[0].statistics.signature_rejected == 1)
        assert got == []
        vehicle.setup_signing(bytes.fromhex(key), link_id=1)
        beat(vehicle)
        await until(lambda: got)
        local.send(message("HEARTBEAT", **HEARTBEAT))
        answer = await until(lambda: received(vehicle, "HEARTBEAT"))
        assert answer.get_srcSystem() == 245
        assert answer.get_signed()
        vehicle.close()
    assert (tmp_path / "fleet.state").stat().st_mode & 0o777 == 0o600


async def test_the_log_is_readable_by_pymavlink(tmp_path: Path) -> None:
    config = MavlinkConfig((Endpoint("in", "udpin:127.0.0.1:0"),), log=LogEndpoint(tmp_path))
    async with Hub(config).running() as hub:
        await hub.ready("in")
        vehicle = peer(f"udpout:127.0.0.1:{port_of(hub, 'in')}")
        for _ in range(10):
            beat(vehicle)
        await until(lambda: hub.switch.ports and hub.switch.ports[0].statistics.received_frames == 10)
        vehicle.close()
    (path,) = await asyncio.to_thread(lambda: list(tmp_path.glob("*.tlog")))
    log = mavutil.mavlink_connection(str(path))
    names = []
    while (item := log.recv_match()) is not None:
        names.append(item.get_type())
    assert names == ["HEARTBEAT"] * 10
    assert [frame.id for _, frame in read_tlog(path.read_bytes())] == [0] * 10


@pytest.mark.parametrize(
    "address",
    [
        "",
        "udp:127.0.0.1:1",
        "udpin:127.0.0.1",
        "udpout:127.0.0.1:0",
        "tcp:h:70000",
        "serial:tty:57600",
        "serial:/dev/x",
    ],
)
def test_a_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_address(address)


def test_an_ipv6_host_is_in_brackets() -> None:
    assert parse_address("tcp:[::1]:5760").host == "::1"


@pytest.mark.parametrize(
    "case",
    [
        test_udp_listener_learns_its_peers_and_lets_them_go,
        test_gateway_speaks_to_a_udp_server_and_a_command_reaches_only_its_target,
        test_broadcast_finds_a_ground_station_and_then_speaks_to_it,
        test_tcp_client_reconnects_when_the_server_comes_back,
        test_two_tcp_clients_of_the_server_hear_each_other_byte_by_byte,
    ],
)
def test_links_do_the_same_on_the_loop_of_the_agent(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The agent runs on uvloop, whose transports are no subclasses of asyncio's; what runs here else is asyncio's."""
    uvloop.run(case())
