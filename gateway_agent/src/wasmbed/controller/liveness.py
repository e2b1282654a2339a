"""Which gateways are alive, judged by their Leases and by this process' own clock and watch alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_DURATION_S = 40.0


class Liveness(Enum):
    """What is known of a gateway."""

    FRESH = "fresh"
    # Seen for the first time with an old Lease, or with none: it has one lease time to renew it.
    SUSPECT = "suspect"
    EXPIRED = "expired"


@dataclass
class _Lease:
    renewal: str
    duration_s: float
    seen_at: float
    state: Liveness


class LeaseTracker:
    """The state of each gateway's Lease. Times are those of the event loop, in seconds.

    A Lease expires when its duration has passed since this process saw it renewed, and since its watch became healthy,
    whichever is later. So neither a gateway's clock nor an outage of the API makes one expire.
    """

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}

    def state(self, gateway: str) -> Liveness:
        """What is known of a gateway; one that was never observed is suspect."""
        lease = self._leases.get(gateway)
        return Liveness.SUSPECT if lease is None else lease.state

    def forget(self, gateway: str) -> None:
        """Drop a gateway that is gone."""
        self._leases.pop(gateway, None)

    def observe(
        self, gateway: str, lease: Mapping[str, Any] | None, now: float, *, wall: datetime | None = None
    ) -> bool:
        """Take in a gateway's Lease, None if there is none; returns whether the gateway's state changed."""
        spec = (lease or {}).get("spec") or {}
        renewal = f"{spec.get('holderIdentity', '')}@{spec['renewTime']}" if spec.get("renewTime") else ""
        duration_s = float(spec.get("leaseDurationSeconds") or DEFAULT_DURATION_S)
        known = self._leases.get(gateway)
        if known is None:
            fresh = bool(renewal) and _age_s(spec["renewTime"], wall or datetime.now(UTC)) < duration_s
            self._leases[gateway] = _Lease(renewal, duration_s, now, Liveness.FRESH if fresh else Liveness.SUSPECT)
            return True
        if not renewal or renewal == known.renewal:
            return False
        changed = known.state is not Liveness.FRESH
        known.renewal, known.duration_s, known.seen_at, known.state = renewal, duration_s, now, Liveness.FRESH
        return changed

    def deadline(self, gateway: str, live_since: float | None) -> float | None:
        """When the Lease expires if it is not renewed; None while it cannot: unknown, expired, or no healthy watch."""
        lease = self._leases.get(gateway)
        if lease is None or lease.state is Liveness.EXPIRED or live_since is None:
            return None
        return max(lease.seen_at, live_since) + lease.duration_s

    def expire(self, gateway: str) -> bool:
        """Mark a Lease expired; returns whether it was not."""
        lease = self._leases.get(gateway)
        if lease is None or lease.state is Liveness.EXPIRED:
            return False
        lease.state = Liveness.EXPIRED
        return True


def _age_s(text: str, wall: datetime) -> float:
    """Age of a time in RFC 3339; one that cannot be read is very old, one in the future is as old as it is ahead."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return float("inf")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return abs((wall - moment).total_seconds())
