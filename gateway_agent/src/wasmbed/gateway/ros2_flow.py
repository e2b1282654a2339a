"""How much of a route is under way to its application, so that no more is sent than its queue takes.

A runtime tells from time to time what has left an instance's queue. What waits meanwhile waits in the route's own queue
at the bridge, where dropping costs next to nothing. A microcontroller tells nothing, and is sent what comes.
"""

from __future__ import annotations

from typing import Final

from wasmbed.runtime.abi import ROS2_EVENTS


class Flow:
    """One route of one instance."""

    __slots__ = ("_tells", "_under_way", "heard", "held")

    def __init__(self) -> None:
        self._under_way = 0
        self._tells = False
        self.heard = 0
        """How often something was told."""
        self.held = False
        """Whether the sender waits for room."""

    @property
    def room(self) -> int:
        """How many more may be sent."""
        return ROS2_EVENTS - self._under_way if self._tells else ROS2_EVENTS

    @property
    def full(self) -> bool:
        """Whether what is under way is enough."""
        return self.room <= 0

    def sent(self, count: int = 1) -> None:
        """So many more are under way."""
        self._under_way += count

    def taken(self, count: int) -> None:
        """So many have left the instance's queue."""
        self._tells = True
        self.heard += 1
        self._under_way = max(0, self._under_way - count)

    def forget(self) -> None:
        """What is under way has not been heard of for long: it was lost, or the application takes its time."""
        self._under_way = 0


LATE_S: Final = 1.0
"""After this long without a word, what is under way is forgotten."""
