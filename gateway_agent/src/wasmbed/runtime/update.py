"""A hot update: what the old version hands to the new one, and the way back when the new one fails."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.wire import MAX_MESSAGE_BYTES, shorten

if TYPE_CHECKING:
    from wasmbed.runtime.content import Content

# A version that fails this soon after it took over is taken back.
TRIAL_S: Final = 60.0
# A version that is in a long call is not waited for any longer; its state is then not handed over.
SAVE_WAIT_S: Final = 5.0


class RolledBackError(Exception):
    """The new version failed and the old one is to run again; the message says why."""


class HandOver:
    """The meeting of two versions: the old one saves and waits, the new one starts and decides."""

    def __init__(self) -> None:
        self.state: bytes | None = None
        self._saved = threading.Event()
        self._decided = threading.Event()
        self.committed = False

    def saved(self) -> None:
        self._saved.set()

    def wait(self) -> None:
        """Wait for the old version's state, SAVE_WAIT_S at most."""
        self._saved.wait(SAVE_WAIT_S)

    def decide(self, *, commit: bool) -> None:
        self.committed = commit
        self._decided.set()

    def wait_for_decision(self) -> None:
        self._decided.wait()


@dataclass(frozen=True)
class Fallback:
    """The version before, and the state it handed over; times are seconds of one clock."""

    content: Content
    state: bytes | None
    taken_over_s: float

    def holds(self, now_s: float) -> bool:
        return now_s - self.taken_over_s < TRIAL_S


def rolled_back_message(digest: str, failure: str) -> str:
    """Tell of an update that failed."""
    end = f"; {digest[:19]} runs again"
    return shorten(f"update failed: {failure}", MAX_MESSAGE_BYTES - len(end)) + end
