"""What the tests of the ROS 2 bridge share: random messages, peers in processes of their own, waiting."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasmbed.bridges.ros2.dds import Discovery
from wasmbed.bridges.ros2.types.cdr import FORMATS
from wasmbed.bridges.ros2.types.classes import attribute
from wasmbed.bridges.ros2.types.model import FLOATS, STRINGS, integer_range

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from wasmbed.bridges.ros2.types import CodecFactory, Field

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("WASMBED_SHARED_DATA", HERE.parents[4] / "shared/data"))
LOOPBACK = Discovery(interfaces=("lo",))
DISTRIBUTIONS = ("jazzy", "kilted")
TEXTS = ("", "a", "drone-7", "Hellö wörld", "ハロー", "x" * 40)


_domains = itertools.count(os.getpid() * 7)


def domain() -> int:
    """A domain nobody uses: another one for each call, so that what a killed peer leaves behind disturbs nobody.

    Above 101 the ports of a domain are among those the system gives to clients, so they may be in use.
    """
    while True:
        number = 100 + next(_domains) % 130
        try:
            for port in range(7400 + 250 * number, 7412 + 250 * number):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return number


def scalar(base: str, bound: int, chance: random.Random) -> Any:
    if base in STRINGS:
        text = chance.choice(TEXTS)
        return text if not bound or len(text.encode()) <= bound else text[: bound // 4]
    if base == "bool":
        return chance.random() < 0.5
    if base in FLOATS:
        value = chance.choice((0.0, -1.5, 1e10, chance.uniform(-1e3, 1e3)))
        return value if base == "float64" else array("f", [value])[0]
    low, high = integer_range(base)
    return chance.choice((low, high, 0, chance.randint(low, high)))


def value_of(factory: CodecFactory, field: Field, chance: random.Random, size: int = 4) -> Any:
    """A random value as a decoder would make it."""
    kind = field.type

    def one() -> Any:
        if kind.nested:
            return message_of(factory, kind.base, chance, size)
        return scalar(kind.base, kind.string_bound, chance)

    if kind.kind == "single":
        return one()
    count = kind.size if kind.kind == "array" else chance.randint(0, min(size, kind.size or size))
    items = [one() for _ in range(count)]
    if kind.octets:
        return bytes(items)
    if kind.primitive and kind.kind == "array":
        return tuple(items)
    if kind.primitive and kind.base != "bool":
        return array(FORMATS[kind.base], items)
    return items


def message_of(factory: CodecFactory, name: str, chance: random.Random, size: int = 4) -> Any:
    """A random message of a type."""
    definition = factory.message(name)
    values = {attribute(field.name): value_of(factory, field, chance, size) for field in definition.fields}
    return factory.cls(name)(**values)


def listed(value: Any) -> Any:
    """What `to_dict` gives, with octets as lists of integers as the peer reports them."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    if isinstance(value, bytes | list | tuple | array):
        return [listed(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


async def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait for a condition and return what made it true; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.01)


def rclpy_python(distribution: str) -> Path | None:
    """The interpreter of a ROS 2 installation for tests, from WASMBED_ROS2_<DISTRIBUTION>."""
    value = os.environ.get(f"WASMBED_ROS2_{distribution.upper()}")
    return Path(value) if value else None


def rclpy_environment(domain_id: int) -> dict[str, str]:
    """Variables that keep a peer on the loopback interface."""
    return {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "PYTHONPATH": "",
    }


class Peer:
    """A real ROS 2 node that obeys commands; see ros2_peer.py."""

    def __init__(self, python: Path, domain_id: int, name: str = "peer", namespace: str = "/") -> None:
        self.messages: deque[dict[str, Any]] = deque()
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self.process = subprocess.Popen(
            [str(python), str(HERE / "ros2_peer.py"), name, namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get("WASMBED_TEST_VERBOSE") else sys.stderr,
            env={**os.environ, **rclpy_environment(domain_id)},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["event"] == "answer":
                self._answers[said["number"]] = said
            elif said["event"] != "ready":
                self.messages.append(said)

    async def run(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Have something done; its answer."""
        self._number += 1
        number = self._number
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": operation, "number": number, **arguments}) + "\n")
        self.process.stdin.flush()
        await until(lambda: number in self._answers, timeout_s=60)
        said = self._answers.pop(number)
        assert "Error" not in str(said.get("error", "")), said
        return said

    async def next_message(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The oldest message or count that a subscription of the peer reported."""
        await until(lambda: self.messages, timeout_s)
        return self.messages.popleft()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
