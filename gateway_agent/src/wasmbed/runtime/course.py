"""States, back-off and CPU share of one instance. No input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.wire import shorten

if TYPE_CHECKING:
    from wasmbed.runtime.reports import State

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 60.0
# A failed instance is Running again after this long without a failure; the back-off begins anew after LONGEST_DELAY_S.
RECOVERY_S: Final = 10.0


@dataclass
class Course:
    """States and back-off of one instance; times are seconds of one clock."""

    state: State = "Starting"
    reason: str = ""
    message: str = ""
    restarts: int = 0
    _delay_s: float = FIRST_DELAY_S
    _began_s: float = 0.0

    def began(self, now_s: float) -> None:
        """The module is being instantiated; again, if it failed before."""
        self._began_s = now_s
        self.restarts += self.state == "Failed"

    @property
    def is_steady(self) -> bool:
        """Whether neither a call that comes back well nor the passing of time changes anything."""
        return self.state == "Running" and self._delay_s == FIRST_DELAY_S

    def worked(self, now_s: float) -> bool:
        """A call came back well, the init call included; tell whether the state changed."""
        if self.is_steady:
            return False
        healthy_s = now_s - self._began_s
        if healthy_s >= LONGEST_DELAY_S:
            self._delay_s = FIRST_DELAY_S
        if self.state == "Running" or (self.state == "Failed" and healthy_s < RECOVERY_S):
            return False
        self.state, self.reason, self.message = "Running", "", ""
        return True

    def check_again_s(self, now_s: float) -> float | None:
        """Seconds until `worked` may change something by the passing of time alone, None when it will not."""
        return max(0.0, self._began_s + RECOVERY_S - now_s) if self.state == "Failed" else None

    def failed(self, message: str) -> float:
        """The module failed; return the seconds to wait before the restart."""
        self.state, self.reason, self.message = "Failed", "DeviceError", shorten(message)
        delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2, LONGEST_DELAY_S)
        return delay_s


class Share:
    """CPU time as a share of one core over time: a token bucket that holds one second's worth.

    A call may use up more than there is; then the next one waits until the debt is paid. ready_ns is when the next call
    may begin; 0 for at once.
    """

    def __init__(self, millicores: int | None, now_ns: int) -> None:
        self._rate = None if millicores is None else millicores / 1000
        self._tokens_ns = 0.0 if self._rate is None else self._rate * 1e9
        self._at_ns = now_ns
        self.ready_ns = 0

    def spend(self, cpu_ns: int, now_ns: int) -> None:
        """Account for CPU time that was used until now."""
        if self._rate is None:
            return
        self._tokens_ns = min(self._rate * 1e9, self._tokens_ns + (now_ns - self._at_ns) * self._rate) - cpu_ns
        self._at_ns = now_ns
        self.ready_ns = 0 if self._tokens_ns >= 0 else now_ns + int(-self._tokens_ns / self._rate)
