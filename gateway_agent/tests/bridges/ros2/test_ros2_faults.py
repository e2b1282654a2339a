"""A peer whose RTPS packets are altered on their way: captured from the loopback interface, changed and sent on."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from ros2_support import until
from wasmbed.bridges.ros2 import Bridge, Node, Policy, parse_routes, qos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wasmbed.bridges.ros2.dds import DdsBackend
    from wasmbed.bridges.ros2.types import CodecFactory

IMU = "sensor_msgs/msg/Imu"
MARK = b"altered-on-its-way"
WRITER = f"""
import sys, time
from wasmbed.bridges.ros2 import qos
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore
codecs = CodecFactory(TypeStore.of("jazzy"))
backend = DdsBackend(codecs, domain_id=int(sys.argv[1]), node="writer", discovery=Discovery(interfaces=("lo",)))
publisher = backend.create_publisher("/imu", {IMU!r}, qos.SENSOR_DATA)
message = codecs.cls({IMU!r})()
message.header.frame_id = {MARK.decode()!r}
end = time.monotonic() + 60
while time.monotonic() < end:
    publisher.publish(codecs.codec({IMU!r}).dumps(message))
    time.sleep(0.01)
"""
DATA = 0x15
IP_AND_UDP = 14 + 20 + 8


@pytest.fixture
def capture() -> Iterator[socket.socket]:
    try:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    except PermissionError:
        pytest.skip("capturing packets needs the capability NET_RAW")
    raw.bind(("lo", 0))
    raw.settimeout(10)
    yield raw
    raw.close()


def captured(raw: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """An RTPS message that carries the mark, and where it went."""
    while True:
        frame = raw.recv(65535)
        message = frame[IP_AND_UDP:]
        if message.startswith(b"RTPS") and MARK in message:
            return message, (socket.inet_ntoa(frame[30:34]), int.from_bytes(frame[36:38], "big"))


def data_submessage(message: bytes) -> int:
    """Where the DATA submessage begins."""
    place = 20
    while message[place] != DATA:
        place += 4 + int.from_bytes(message[place + 2 : place + 4], "little")
    return place


def altered(message: bytes, sequence: int, chance: random.Random) -> bytes:
    """The message with a later sequence number and damage to its payload, its lengths or its encapsulation."""
    place = data_submessage(message)
    payload = place + 24  # after extra flags, offset, reader, writer and sequence number
    found = bytearray(message)
    found[place + 20 : place + 24] = sequence.to_bytes(4, "little")
    kind = chance.randrange(5)
    if kind == 0:  # any bytes of the payload
        for _ in range(chance.randint(1, 8)):
            found[chance.randrange(payload, len(found))] = chance.randrange(256)
    elif kind == 1:  # the length of the string
        found[payload + 12 : payload + 16] = chance.choice(
            (0xFFFFFFFF, 0x7FFFFFFF, 19, 0, chance.randrange(2**32))
        ).to_bytes(4, "little")
    elif kind == 2:  # the encapsulation
        found[payload : payload + 2] = chance.randbytes(2)
    elif kind == 3:  # cut, with and without a submessage length that says so
        found = found[: chance.randint(place + 4, len(found))]
        if chance.random() < 0.5:
            found[place + 2 : place + 4] = (len(found) - place - 4).to_bytes(2, "little")
    else:  # any bytes of the submessage but its sequence number
        for _ in range(chance.randint(1, 4)):
            found[chance.choice((*range(place, place + 16), *range(payload, len(found))))] = chance.randrange(256)
    return bytes(found)


async def test_altered_packets_are_dropped_or_counted_and_never_delivered(
    codecs: CodecFactory, backends: Callable[..., DdsBackend], domain_id: int, capture: socket.socket
) -> None:
    everything = Policy(("/*",), ("/*",), ("/*",), ("/*",), frozenset({domain_id}))
    bridge = Bridge(Node(backends("bridge"), codecs, name="bridge"), everything, domain_id)
    route = {
        "topic": "/imu",
        "type": IMU,
        "direction": "subscribe",
        "encoding": "cdr",
        "qos": "sensor_data",
        "queue": 5000,
    }
    session = bridge.open("app", parse_routes({"topics": [route]}, bridge.node.resolve, codecs))
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, str(domain_id)), env=os.environ | {"PYTHONPATH": _path()}
    )
    codec = codecs.codec(IMU)
    try:
        await until(lambda: session.receive("/imu"))
        message, target = await asyncio.to_thread(captured, capture)
        chance = random.Random(15)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(3000):
                sender.sendto(altered(message, 1_000_000 + number, chance), target)
                if number % 50 == 0:
                    await asyncio.sleep(0.01)
                    while (delivery := session.receive("/imu")) is not None:
                        codec.loads(delivery.data)  # type: ignore[union-attr]
            # A whole one at last: the reader still works.
            place = data_submessage(message) + 20
            good = message[:place] + (2_000_000).to_bytes(4, "little") + message[place + 4 :]
            sender.sendto(good, target)
        await until(lambda: session.receive("/imu"))
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 20_000
    finally:
        writer.kill()
        await writer.wait()
    statistics = session.statistics()["subscribe /imu"]
    # Some of the damage is nobody's to see (another number in a message); what is no message was refused by the bridge.
    assert statistics["malformed"] > 0
    # And it serves a new peer.
    publisher = Node(backends("other"), codecs, name="other").publisher("/imu", IMU, qos.SENSOR_DATA)
    await until(lambda: publisher.statistics.matched)
    publisher.publish(codecs.cls(IMU)())
    await until(lambda: session.receive("/imu"))
    session.close()


def _path() -> str:
    return os.pathsep.join(path for path in sys.path if path)
