"""The mission protocol, client side: upload, download and clear plans of all three types.

The vehicle leads an upload by asking for items; we lead a download. A plan is on the vehicle whole or not at all: an
upload is read back and compared unless that is switched off, so a lost or old acknowledgement decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.mission_items import MAX_ITEMS, PlanItem, PlanOutcome, PlanType, same_plan
from wasmbed.bridges.mavlink.operations import Ids, Operation

TIMEOUT_S = 1.5
ITEM_TIMEOUT_S = 0.25
RETRIES = 5
_READINGS = 3
_ACCEPTED = 0
_INVALID_SEQUENCE = 13
_CANCELLED = 15
_REQUESTS = ("MISSION_REQUEST_INT", "MISSION_REQUEST")
_ITEMS = ("MISSION_ITEM_INT", "MISSION_ITEM")


@dataclass(frozen=True, slots=True)
class PlanResult:
    """How a transfer ended, with the items of the vehicle when they were read."""

    plan: PlanType
    outcome: PlanOutcome
    items: tuple[PlanItem, ...] = ()
    reason: str = ""
    opaque_id: int = 0

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.outcome is PlanOutcome.DONE

    def __str__(self) -> str:
        text = f"{self.plan.name.lower()}: {self.outcome}"
        return f"{text} ({self.reason})" if self.reason else text


def _refusal(item: Message) -> str:
    return default_dialect().entry("MAV_MISSION_RESULT", item["type"]).removeprefix("MAV_MISSION_").lower()


class _Transfer(Operation[PlanResult]):
    def __init__(self, ids: Ids, plan: PlanType) -> None:
        super().__init__(ids)
        self.plan = plan
        self._tries = 0

    def _ours(self, item: Message) -> bool:
        return (
            self.result is None
            and item.name.startswith("MISSION_")
            and self.ids.sent_by_target(item)
            and self.ids.is_for_us(item)
            and item.get("mission_type", 0) == self.plan
        )

    def _finish(
        self, outcome: PlanOutcome, reason: str = "", items: Sequence[PlanItem] = (), identity: int = 0
    ) -> None:
        self._end(PlanResult(self.plan, outcome, tuple(items), reason, identity))

    def _due(self, now: float) -> bool:
        return self.result is None and self.deadline is not None and now >= self.deadline

    def cancel(self, now: float) -> None:
        """Tell the vehicle that the transfer is over."""
        if self.result is None:
            self._send("MISSION_ACK", type=_CANCELLED, mission_type=int(self.plan))
            self._finish(PlanOutcome.CANCELLED)


class DownloadPlan(_Transfer):
    """Read a plan. Items come strictly in order; one out of order is dropped and asked for again in time."""

    def __init__(self, ids: Ids, plan: PlanType = PlanType.MISSION, *, retries: int = RETRIES) -> None:
        super().__init__(ids, plan)
        self._retries = retries
        self._count: int | None = None
        self._opaque_id = 0
        self._items: list[PlanItem] = []

    def start(self, now: float) -> None:
        """Ask how many items there are."""
        self._tries += 1
        self._send("MISSION_REQUEST_LIST", mission_type=int(self.plan))
        self.deadline = now + TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Take the count and the items."""
        if not self._ours(item):
            return
        if item.name == "MISSION_COUNT":
            self._take_count(item, now)
        elif item.name in _ITEMS and self._count is not None:
            if item["seq"] != len(self._items):
                return
            try:
                self._items.append(PlanItem.parse(item))
            except ValueError as error:
                self._finish(PlanOutcome.REFUSED, f"item {item['seq']}: {error}")
                return
            self._tries = 0
            self._continue(now)
        elif item.name == "MISSION_ACK" and item["type"] != _ACCEPTED:
            cancelled = item["type"] == _CANCELLED
            self._finish(PlanOutcome.CANCELLED if cancelled else PlanOutcome.REFUSED, _refusal(item))

    def advance(self, now: float) -> None:
        """Ask again, or give up."""
        if not self._due(now):
            return
        if self._tries > self._retries:
            self._finish(PlanOutcome.NO_ANSWER, f"{len(self._items)} of {self._count} items came")
        elif self._count is None:
            self.start(now)
        else:
            self._request(now)

    def _take_count(self, item: Message, now: float) -> None:
        if self._count is None:
            self._count, self._opaque_id = item["count"], item.get("opaque_id", 0)
            self._tries = 0
            self._continue(now)
        elif (item["count"], item.get("opaque_id", 0)) != (self._count, self._opaque_id):
            self._send("MISSION_ACK", type=_CANCELLED, mission_type=int(self.plan))
            self._finish(PlanOutcome.CHANGED, "the plan changed while it was read; read it again")

    def _continue(self, now: float) -> None:
        if len(self._items) == self._count:
            self._send("MISSION_ACK", type=_ACCEPTED, mission_type=int(self.plan), opaque_id=self._opaque_id)
            self._finish(PlanOutcome.DONE, items=self._items, identity=self._opaque_id)
        else:
            self._request(now)

    def _request(self, now: float) -> None:
        # The published 250 ms first, longer when nothing comes: a radio may be slower than that.
        self.deadline = now + min(ITEM_TIMEOUT_S * 2**self._tries, TIMEOUT_S)
        self._tries += 1
        self._send("MISSION_REQUEST_INT", seq=len(self._items), mission_type=int(self.plan))


class _Verified(_Transfer):
    """A change of a plan that ends by reading it back."""

    def __init__(
        self, ids: Ids, plan: PlanType, items: Sequence[PlanItem], *, verify: bool, ignore_first: bool
    ) -> None:
        super().__init__(ids, plan)
        if len(items) > MAX_ITEMS:
            raise ValueError(f"{len(items)} items are too many; a plan has {MAX_ITEMS} at most")
        self._items = list(items)
        self._verify = verify
        self._skip = 1 if ignore_first else 0
        self._reading: DownloadPlan | None = None
        self._readings = 0
        self._opaque_id = 0

    def take(self) -> list[Message]:
        """The messages to send now, those of reading back included."""
        outgoing = super().take()
        return outgoing if self._reading is None else outgoing + self._reading.take()

    def receive(self, item: Message, now: float) -> None:
        """Take what the vehicle asks and acknowledges."""
        if not self._ours(item):
            return
        if self._reading is None:
            self._change(item, now)
        else:
            self._reading.receive(item, now)
            self._look(now)

    def advance(self, now: float) -> None:
        """Repeat the last message, or give up."""
        if not self._due(now):
            return
        if self._reading is None:
            self._repeat(now)
        else:
            self._reading.advance(now)
            self._look(now)

    def _change(self, item: Message, now: float) -> None:
        raise NotImplementedError

    def _repeat(self, now: float) -> None:
        raise NotImplementedError

    def _changed(self, now: float, *, certain: bool) -> None:
        """The vehicle has it (or may have it, when not certain): read it back, or believe it."""
        if not self._verify:
            if certain:
                self._finish(PlanOutcome.DONE, items=self._items, identity=self._opaque_id)
            else:
                self._finish(PlanOutcome.NO_ANSWER, "the last acknowledgement did not come; read the plan back")
            return
        self._readings += 1
        self._reading = DownloadPlan(self.ids, self.plan)
        self._reading.start(now)
        self.deadline = self._reading.deadline

    def _look(self, now: float) -> None:
        reading = self._reading
        assert reading is not None  # noqa: S101 - narrows the type
        self.deadline = reading.deadline
        found = reading.result
        if found is None:
            return
        # `take` still gives the acknowledgement of the download.
        if not found.ok:
            # A late copy of our own offer can start the vehicle's side again and end the reading: read once more.
            if found.outcome is not PlanOutcome.NO_ANSWER and self._readings < _READINGS:
                self._changed(now, certain=False)
            else:
                self._finish(found.outcome, f"reading back: {found.reason or found.outcome}")
            return
        differing = same_plan(self._items[self._skip :], found.items[self._skip :])
        if differing is None:
            self._finish(PlanOutcome.DONE, items=found.items, identity=found.opaque_id or self._opaque_id)
        else:
            reason = f"item {differing + self._skip} is not what was sent ({len(found.items)} items are there)"
            self._finish(PlanOutcome.DIFFERENT, reason, found.items)


class UploadPlan(_Verified):
    """Write a plan. `ignore_first` is for ArduPilot, whose item 0 is its home and never what was sent."""

    def __init__(
        self,
        ids: Ids,
        items: Sequence[PlanItem],
        plan: PlanType = PlanType.MISSION,
        *,
        verify: bool = True,
        ignore_first: bool = False,
    ) -> None:
        super().__init__(ids, plan, items, verify=verify, ignore_first=ignore_first)
        self._asked: set[int] = set()
        self._last = -1

    def start(self, now: float) -> None:
        """Offer the items."""
        self._tries += 1
        self._send("MISSION_COUNT", count=len(self._items), mission_type=int(self.plan))
        self.deadline = now + TIMEOUT_S

    def _change(self, item: Message, now: float) -> None:
        if item.name in _REQUESTS:
            sequence = item["seq"]
            if sequence >= len(self._items):
                self._send("MISSION_ACK", type=_INVALID_SEQUENCE, mission_type=int(self.plan))
                self._finish(PlanOutcome.REFUSED, f"the vehicle asked for item {sequence} of {len(self._items)}")
                return
            if sequence not in self._asked:
                self._tries = 0
            self._asked.add(sequence)
            self._last = sequence
            self._transmit(now)
        elif item.name == "MISSION_ACK":
            complete = len(self._asked) == len(self._items)
            if item["type"] == _ACCEPTED:
                # Before every item was asked for it belongs to an earlier transfer.
                if complete:
                    self._opaque_id = item.get("opaque_id", 0)
                    self._changed(now, certain=True)
            elif complete and self._tries > 1:
                # It may answer a repeated last item of an upload that has succeeded.
                self._changed(now, certain=False)
            else:
                cancelled = item["type"] == _CANCELLED
                self._finish(PlanOutcome.CANCELLED if cancelled else PlanOutcome.REFUSED, _refusal(item))

    def _repeat(self, now: float) -> None:
        if self._tries > RETRIES:
            if len(self._asked) == len(self._items):
                self._changed(now, certain=False)
            else:
                self._send("MISSION_ACK", type=_CANCELLED, mission_type=int(self.plan))
                self._finish(PlanOutcome.NO_ANSWER, f"{len(self._asked)} of {len(self._items)} items were asked for")
        elif self._last < 0:
            self.start(now)
        else:
            self._transmit(now)

    def _transmit(self, now: float) -> None:
        self._tries += 1
        values = self._items[self._last].values(self._last, self.plan, current=self._last == 0)
        self._send("MISSION_ITEM_INT", **values)
        self.deadline = now + TIMEOUT_S


class ClearPlan(_Verified):
    """Remove a plan, or with `PlanType.ALL` all three (which is not read back: it is not one plan)."""

    def __init__(self, ids: Ids, plan: PlanType = PlanType.MISSION, *, verify: bool = True) -> None:
        super().__init__(ids, plan, (), verify=verify and plan is not PlanType.ALL, ignore_first=False)

    def start(self, now: float) -> None:
        """Ask for it."""
        self._tries += 1
        self._send("MISSION_CLEAR_ALL", mission_type=int(self.plan))
        self.deadline = now + TIMEOUT_S

    def _change(self, item: Message, now: float) -> None:
        if item.name != "MISSION_ACK":
            return
        if item["type"] == _ACCEPTED:
            self._changed(now, certain=True)
        else:
            self._finish(PlanOutcome.REFUSED, _refusal(item))

    def _repeat(self, now: float) -> None:
        if self._tries > RETRIES:
            self._finish(PlanOutcome.NO_ANSWER)
        else:
            self.start(now)


class MissionProgress:
    """Where a mission is, from MISSION_CURRENT and MISSION_ITEM_REACHED."""

    def __init__(self) -> None:
        self.current: int | None = None
        self.total: int | None = None
        self.state = 0
        self.reached: set[int] = set()

    def receive(self, item: Message) -> None:
        """Take a message of the vehicle."""
        if item.name == "MISSION_CURRENT":
            if self.current is not None and item["seq"] == 0 and self.current > 0:
                self.reached.clear()
            self.current = item["seq"]
            self.total = item["total"] if item["total"] not in (0, 0xFFFF) else self.total
            self.state = item["mission_state"]
        elif item.name == "MISSION_ITEM_REACHED":
            self.reached.add(item["seq"])
