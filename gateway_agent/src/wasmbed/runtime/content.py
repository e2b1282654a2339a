"""What a version of an instance is made of, and what all instances of a worker have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.runtime.backends import Backends
    from wasmbed.runtime.events import EventQueue
    from wasmbed.runtime.messages import Exchange
    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.protocol import StartRequest
    from wasmbed.runtime.reports import HostRequest
    from wasmbed.runtime.watchdog import Watchdog


@dataclass(frozen=True)
class Shared:
    """What the instances of a worker have in common; post hands a request of an instance to the peer."""

    events: EventQueue
    exchange: Exchange
    watchdog: Watchdog
    backends: Backends
    post: Callable[[HostRequest, bool], bool]


@dataclass(frozen=True)
class Content:
    """What is run: the request, the limits that hold, and the compiled module."""

    request: StartRequest
    profile: Profile
    artifact: Path
