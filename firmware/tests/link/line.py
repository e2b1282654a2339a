"""A lossy line between the firmware's link and the gateway's, in time of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from link_support import GATEWAY_PRIVATE, Device
from wasmbed.link import noise
from wasmbed.link.secure import Ends, Lost, Message, SecureEvent, SecureLink, Stranger, Up

if TYPE_CHECKING:
    from collections.abc import Callable


def ends(number: int = 0, **changes: object) -> Callable[[], list[Ends]]:
    """The gateway's view of test device `number`, as the only one there is."""
    fields = {
        "device_id": f"fleet/device-{number}".encode(),
        "gateway_id": b"gateway-1",
        "privates": (GATEWAY_PRIVATE,),
        "devices": (noise.public_key(bytes([0x41 + number]) * 32),),
        **changes,
    }
    only = [Ends(**fields)]  # type: ignore[arg-type]
    return lambda: only


@dataclass
class Faults:
    """Chances for each frame of one direction; `recorded` frames are replayed later."""

    lose: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    replay: float = 0.0
    garbage: float = 0.0


@dataclass
class Direction:
    """Frames on their way in one direction."""

    faults: Faults
    chance: random.Random
    recorded: list[bytes] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)

    def pass_on(self, data: bytes) -> bytes:
        """What arrives of these bytes."""
        out = b""
        for part in data.split(b"\0"):
            if not part:
                continue
            frame = b"\0" + part + b"\0"
            self.recorded.append(frame)
            if self._happens(self.faults.lose):
                continue
            if self._happens(self.faults.corrupt):
                at = self.chance.randrange(1, len(frame) - 1)
                frame = frame[:at] + bytes([frame[at] ^ self.chance.randrange(1, 256)]) + frame[at + 1 :]
            if self._happens(self.faults.truncate):
                frame = frame[: self.chance.randrange(1, len(frame))]
            if self._happens(self.faults.reorder):
                self.held.append(frame)
                continue
            out += frame * (2 if self._happens(self.faults.duplicate) else 1)
            if self.held:
                out += self.held.pop()
            if self._happens(self.faults.replay):
                out += self.chance.choice(self.recorded)
            if self._happens(self.faults.garbage):
                out += self.chance.randbytes(self.chance.randrange(1, 80))
        return out

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share


class Line:
    """Both ends and the line; `run` lets time pass. Without a rate bytes take no time."""

    def __init__(self, device: Device, gateway: SecureLink, *, seed: int = 0, up: Faults | None = None,
                 down: Faults | None = None) -> None:  # fmt: skip
        chance = random.Random(seed)
        self.device, self.gateway = device, gateway
        self.up, self.down = Direction(up or Faults(), chance), Direction(down or Faults(), chance)
        self.now_ms = 1000
        self.events: list[SecureEvent] = []
        self.on_message: Callable[[bytes], None] = lambda _: None
        self._to_device = b""

    def step(self) -> None:
        """Carry what both ends have to say, until neither has."""
        for _ in range(1000):
            down = self.down.pass_on(self.gateway.take())
            self._to_device += down
            taken = self.device.input(self._to_device, self.now_ms)
            self._to_device = self._to_device[taken:]
            up = self.device.output(4096, self.now_ms)
            for event in self.gateway.feed(self.up.pass_on(up), self.now_ms / 1000):
                self.events.append(event)
                if isinstance(event, Message):
                    self.on_message(event.data)
            if not down and not up and not self._to_device:
                return
        raise AssertionError("the ends do not stop talking")

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as the condition holds."""
        end = self.now_ms + int(seconds * 1000)
        while self.now_ms < end:
            self.step()
            if until():
                return True
            self.device.poll(self.now_ms)
            self.events += self.gateway.poll(self.now_ms / 1000)
            self.step()
            if until():
                return True
            self.now_ms += 100
        return False

    def both_up(self) -> bool:
        """There is a session that both ends know."""
        return self.device.up and self.gateway.up

    def connect(self) -> Line:
        """Bring the session up."""
        assert self.run(20, self.both_up), (self.gateway.counters, self.device.count("refused"))
        return self

    def happened(self, kind: type) -> int:
        """How many events of a kind there were."""
        return sum(isinstance(event, kind) for event in self.events)


__all__ = ["Direction", "Faults", "Line", "Lost", "Message", "Stranger", "Up", "ends"]
