"""What host functions know of the instance they serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wasmbed.runtime.host.binding import ModuleMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.backends import Backends, Ownership
    from wasmbed.runtime.calls import Calls, Feeds
    from wasmbed.runtime.inbox import Inbox
    from wasmbed.runtime.messages import Exchange, Reader
    from wasmbed.runtime.protocol import StartRequest

# What the module is doing; some functions are only for some of it.
Phase = Literal["", "init", "event", "save", "stop"]


@dataclass
class Context:
    """One instance: its request, its queues, what it shares with others, and the call it is in.

    on_log gets the level (0..4), the text and the number of lines dropped before it. predecessor_owner is the ownership
    of the version that this one is about to replace.
    """

    request: StartRequest
    inbox: Inbox
    calls: Calls
    feeds: Feeds
    backends: Backends
    exchange: Exchange
    reader: Reader
    ownership: Ownership
    on_log: Callable[[int, str, int], None]
    memory: ModuleMemory = field(default_factory=ModuleMemory)
    phase: Phase = ""
    event_data: bytes = b""
    state_in: bytes | None = None
    state_out: bytes | None = None
    open_routes: set[int] = field(default_factory=set)
    predecessor_owner: Ownership | None = None
    # Whether the call under way is to end; for host functions that take their time.
    interrupted: Callable[[], bool] = bool

    def available(self, module: str) -> bool:
        """Whether a host module has something behind it for this device now."""
        return self.backends.has(self.request.device, module)

    def begin_anew(self) -> None:
        """Forget what the application did before it failed."""
        self.calls.clear()
        self.feeds.clear()
        self.open_routes.clear()
        self.exchange.forget(self.reader)
        self.inbox.clear()

    def end_ownership(self, reason: str) -> None:
        """Give the autopilot up and tell the peer why."""
        if self.ownership.release():
            self.calls.must_tell("px4", "release", reason)
