"""Rotation of the gateway's and of the device's static key: the new one is used once it has proved good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from line import Line, Up, ends
from link_support import GATEWAY_PRIVATE, Device, Shim
from wasmbed.link import noise, smp
from wasmbed.link.secure import SecureLink

if TYPE_CHECKING:
    from collections.abc import Iterator

NEXT_GATEWAY = b"\x66" * 32
PUBLIC, GATEWAY, NEXT_PUBLIC, FLAGS = 32, 64, 128, 192


@pytest.fixture(scope="module")
def shim() -> Shim:
    return Shim()


@pytest.fixture
def line(shim: Shim) -> Iterator[Line]:
    device = Device(shim)
    device.boot(1000)
    yield Line(device, SecureLink(ends(), 1.0)).connect()
    device.close()


def ask(line: Line, command: int, body: dict[int, Any]) -> dict[Any, Any]:
    """One request of the Wasmbed group and its answer."""
    found: list[smp.Message] = []

    def take(data: bytes) -> None:
        message = smp.decode(data)
        if message.id == command:
            found.append(message)

    line.on_message = take
    line.gateway.send(smp.encode(smp.Op.WRITE, smp.GROUP_WASMBED, 9, command, body))
    line.step()
    assert len(found) == 1
    return found[0].body


def restart_gateway(line: Line, **changes: object) -> None:
    line.gateway = SecureLink(ends(**changes), line.now_ms / 1000)


def last_up(line: Line) -> Up:
    return [event for event in line.events if isinstance(event, Up)][-1]


def test_the_gateways_key_changes_once_the_gateway_proves_the_new_one(line: Line) -> None:
    new = noise.public_key(NEXT_GATEWAY)
    assert ask(line, smp.Id.GATEWAY_KEY, {0: new}) == {}
    # The gateway still has its old key: the device falls back to it.
    line.device.boot(line.now_ms)
    assert line.run(60, line.both_up)
    assert line.device.identity(GATEWAY, 32) == noise.public_key(GATEWAY_PRIVATE)
    # Then it has both, and from then on only the new one.
    restart_gateway(line, privates=(GATEWAY_PRIVATE, NEXT_GATEWAY))
    assert line.run(60, lambda: line.gateway.up)
    if last_up(line).gateway == 0:
        line.device.boot(line.now_ms)
        assert line.run(60, lambda: last_up(line).gateway == 1)
    assert line.device.identity(GATEWAY, 32) == new
    assert line.device.identity(FLAGS, 4) == bytes(4)
    restart_gateway(line, privates=(NEXT_GATEWAY,))
    assert line.run(60, lambda: line.gateway.up)


def test_the_key_in_use_ends_a_rotation(line: Line) -> None:
    ask(line, smp.Id.GATEWAY_KEY, {0: b"\x09" * 32})
    ask(line, smp.Id.GATEWAY_KEY, {0: noise.public_key(GATEWAY_PRIVATE)})
    assert line.device.identity(FLAGS, 4) == bytes(4)


def test_the_devices_key_changes_and_its_private_key_never_leaves(line: Line) -> None:
    before = line.device.identity(PUBLIC, 32)
    public = ask(line, smp.Id.DEVICE_KEY, {})[0]
    assert public == line.device.identity(NEXT_PUBLIC, 32) != before
    assert ask(line, smp.Id.DEVICE_KEY, {})[0] == public
    assert ask(line, smp.Id.GATEWAY_KEY, {0: b"\x09" * 32})["rc"] == smp.Result.BUSY
    restart_gateway(line, devices=(before, public))
    assert line.run(60, lambda: line.gateway.up)
    assert last_up(line).device == public
    assert line.device.identity(PUBLIC, 32) == public
    restart_gateway(line, devices=(before,))
    assert line.run(30, lambda: line.gateway.up) is False
    restart_gateway(line, devices=(public,))
    assert line.run(60, lambda: line.gateway.up)


def test_a_gateway_that_does_not_know_the_devices_next_key_keeps_the_link(line: Line) -> None:
    before = line.device.identity(PUBLIC, 32)
    ask(line, smp.Id.DEVICE_KEY, {})
    restart_gateway(line)
    assert line.run(60, lambda: line.gateway.up)
    assert last_up(line).device == before
