"""What the protocol state machines have in common: messages and a clock in, messages and a result out.

An operation is started once, gets every message of its vehicle and is woken at its deadline. `take` gives what is to be
sent. It has ended when `result` is set; then it sends nothing any more and ignores what comes.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from wasmbed.bridges.mavlink.codec import Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ids:
    """Who speaks and to whom: our own system and component, the vehicle's system and component."""

    own_system: int
    own_component: int
    system: int
    component: int = 1

    def sent_by_target(self, item: Message) -> bool:
        """Whether a message is the vehicle's; target component 0 means all of its components."""
        return item.system == self.system and self.component in (0, item.component)

    def is_for_us(self, item: Message) -> bool:
        """Whether a message that may name a target is for us; 0 and absent mean everybody."""
        return item.get("target_system", 0) in (0, self.own_system) and item.get("target_component", 0) in (
            0,
            self.own_component,
        )


class Operation(Generic[T]):
    """Base of the state machines with an end. All times are monotonic seconds of the caller's clock."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.result: T | None = None
        self.deadline: float | None = None
        self._outgoing: list[Message] = []

    def take(self) -> list[Message]:
        """The messages to send now."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def start(self, now: float) -> None:
        """Begin."""
        raise NotImplementedError

    def receive(self, item: Message, now: float) -> None:
        """Take a message of the vehicle."""
        raise NotImplementedError

    def advance(self, now: float) -> None:
        """Take note of the time; call it at `deadline` or later."""
        raise NotImplementedError

    def cancel(self, now: float) -> None:
        """Give up, telling the vehicle when the protocol has a message for it."""

    def _send(self, name: str, **values: object) -> None:
        targets = {"target_system": self.ids.system, "target_component": self.ids.component}
        self._outgoing.append(Message(name, {**targets, **values}))

    def _end(self, result: T) -> None:
        if self.result is None:
            self.result = result
            self.deadline = None
