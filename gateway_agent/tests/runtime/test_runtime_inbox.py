"""The queue of an instance: order, bounds, timers, and what is dropped."""

from __future__ import annotations

import sys
import threading
from collections import deque
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType
from wasmbed.runtime.calls import Feeds
from wasmbed.runtime.inbox import AHEAD, Event, Inbox

MS = 1_000_000


class Clock:
    """A clock that goes only when told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drained(inbox: Inbox) -> list[tuple[int, int, bytes]]:
    """Take what is due without waiting."""
    events = []
    while event := inbox.next(until_ns=0):
        events.append((event.type, event.source, event.data))
    return events


def test_events_come_in_their_order_across_types(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    given_events = [
        (EventType.MESSAGE, 0, b"a"),
        (EventType.RESULT, 7, bytes(4)),
        (EventType.MESSAGE, 1, b"b"),
        (EventType.TELEMETRY, 1, b"c"),
    ]
    for event in given_events:
        assert inbox.put(*event)
    assert drained(inbox) == given_events


def test_timers_coalesce_and_tell_what_was_missed(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    inbox.set_timer(3, 10, 100)
    inbox.set_timer(4, 50, 0)
    assert drained(inbox) == []
    clock.now_ns = 10 * MS
    assert drained(inbox) == [(EventType.TIMER, 3, bytes(4))]
    clock.now_ns = 345 * MS
    assert sorted(drained(inbox)) == [(EventType.TIMER, 3, b"\x02\0\0\0"), (EventType.TIMER, 4, bytes(4))]
    # At a steady rate, however late the last one was.
    clock.now_ns = 409 * MS
    assert drained(inbox) == []
    clock.now_ns = 410 * MS
    assert drained(inbox) == [(EventType.TIMER, 3, bytes(4))]
    inbox.set_timer(3, 0, 0)
    clock.now_ns = 10_000 * MS
    assert drained(inbox) == []


def test_telemetry_and_samples_keep_the_newest_in_the_place_of_the_first(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    inbox.put(EventType.TELEMETRY, 1, b"old")
    inbox.put(EventType.RESULT, 1, bytes(4))
    inbox.put(EventType.TELEMETRY, 1, b"new")
    inbox.put(EventType.TELEMETRY, 2, b"other")
    assert drained(inbox) == [
        (EventType.TELEMETRY, 1, b"new"),
        (EventType.RESULT, 1, bytes(4)),
        (EventType.TELEMETRY, 2, b"other"),
    ]
    assert inbox.take_dropped() == 1
    assert inbox.take_dropped() == 0


def test_of_a_topic_the_last_32_messages_wait(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    for number in range(40):
        inbox.put(EventType.MESSAGE, 0, b"%d" % number)
    inbox.put(EventType.MESSAGE, 1, b"another")
    events = drained(inbox)
    assert [data for _, _, data in events] == [*(b"%d" % number for number in range(8, 40)), b"another"]
    assert inbox.dropped[EventType.MESSAGE] == 8


def test_of_a_route_the_last_128_messages_wait_and_what_left_is_told_by_64(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    inbox.put_all(EventType.ROS2, 0, [b"%d" % number for number in range(140)])
    assert inbox.dropped[EventType.ROS2] == 12
    assert inbox.left(0) == 0
    events = [inbox.next(until_ns=0) for _ in range(52)]
    assert [event and event.data for event in events] == [b"%d" % number for number in range(12, 64)]
    assert inbox.left(0) == 64
    assert inbox.left(0) == 0
    inbox.not_told(0, 64)
    assert inbox.left(0) == 64
    # On a microcontroller's bounds there is room for fewer; those that find none have left too.
    small = Inbox("mcu", clock)
    small.put_all(EventType.ROS2, 5, [bytes(100)] * 80)
    assert len(drained(small)) == 5
    assert small.left(5) == 80


def test_what_may_not_be_dropped_is_not_whatever_comes(clock: Clock) -> None:
    inbox = Inbox("mcu", clock)
    for number in range(20):
        inbox.put(EventType.RESULT, number, bytes(4))
    inbox.put(EventType.MESSAGE, 0, b"no room")
    inbox.put(EventType.OWNER, 0, b"\1")
    events = drained(inbox)
    assert [source for kind, source, _ in events if kind == EventType.RESULT] == list(range(20))
    assert events[-1] == (EventType.OWNER, 0, b"\1")
    assert inbox.dropped == {EventType.MESSAGE: 1}
    assert [inbox.put(EventType.SECURE, 0, b"x") for _ in range(17)] == [True] * 16 + [False]


def test_a_sample_larger_than_the_queue_fills_it_alone(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    inbox.put(EventType.MESSAGE, 0, b"first")
    frame = bytes(abi.QUEUE_BYTES + 1)
    inbox.put(EventType.SENSOR, 0, frame)
    assert drained(inbox) == [(EventType.SENSOR, 0, frame)]


def test_the_latest_link_state_is_told(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    for up in (0, 1, 0):
        inbox.put(EventType.LINK, up, b"")
    assert [source for _, source, _ in drained(inbox)] == [0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(EventType)), st.integers(0, 3), st.integers(0, 300), st.booleans(), st.integers(0, 50)
        ),
        max_size=400,
    ),
    st.sampled_from(["gateway", "mcu"]),
)
def test_the_queue_stays_within_its_bounds_whatever_comes(
    steps: list[tuple[EventType, int, int, bool, int]], device_class: str
) -> None:
    clock = Clock()
    inbox = Inbox(device_class, clock)
    most, most_bytes = abi.queue_limits(device_class)
    protected = 0
    taken = 0
    for kind, source, size, take, later_ms in steps:
        clock.now_ns += later_ms * MS
        if kind == EventType.TIMER:
            inbox.set_timer(source, 10, 10 if size % 2 else 0)
        elif inbox.put(kind, source, bytes(size)) and kind in (EventType.RESULT, EventType.SECURE):
            protected += 1
        if take:
            event = inbox.next(until_ns=0)
            taken += event is not None and event.type in (EventType.RESULT, EventType.SECURE)
        waiting = list(inbox._queue)
        assert inbox._bytes == sum(min(len(event.data), most_bytes) for event in waiting)
        droppable = [e for e in waiting if e.type in (EventType.MESSAGE, EventType.ROS2, EventType.SENSOR)]
        assert len(droppable) <= most
        assert sum(len(event.data) for event in droppable) <= most_bytes + 300
    left = drained(inbox)
    assert taken + sum(kind in (EventType.RESULT, EventType.SECURE) for kind, _, _ in left) == protected
    assert inbox._bytes == 0
    assert not any(inbox._lanes.values())


def test_an_interruption_ends_a_wait_and_is_not_lost() -> None:
    inbox = Inbox("gateway")
    inbox.interrupt()
    assert inbox.next() is None
    ended = threading.Event()

    def wait() -> None:
        assert inbox.next() is None
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    inbox.interrupt()
    assert ended.wait(60)
    thread.join()


def test_events_wait_for_the_time_they_may_be_taken(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    inbox.put(EventType.MESSAGE, 0, b"x")
    assert inbox.next(not_before_ns=5, until_ns=0) is None
    clock.now_ns = 5
    assert inbox.next(not_before_ns=5, until_ns=0) is not None


def test_a_feed_at_the_asked_rate_passes_whole(clock: Clock) -> None:
    inbox = Inbox("gateway", clock)
    feeds = Feeds(inbox, clock)
    feeds.subscribe(EventType.TELEMETRY, 1, 100)
    count = 0
    for number in range(100):
        clock.now_ns = number * 100 * MS - (number % 2) * MS
        feeds.take(EventType.TELEMETRY, 1, b"%d" % number)
        count += len(drained(inbox))
    assert count == 100
    for number in range(1000):
        clock.now_ns = 20_000 * MS + number * 10 * MS
        feeds.take(EventType.TELEMETRY, 1, b"%d" % number)
        count += len(drained(inbox))
    assert 200 <= count <= 206
    feeds.subscribe(EventType.TELEMETRY, 1, -1)
    feeds.take(EventType.TELEMETRY, 1, b"more")
    assert drained(inbox) == []
    assert feeds.newest(EventType.TELEMETRY, 1) == b"more"


END = bytes([abi.Ros2Kind.REPLY])
PLAIN = bytes([abi.Ros2Kind.MESSAGE])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from(sorted(set(EventType) - {EventType.TIMER})),
            st.integers(0, 2),
            st.sampled_from([PLAIN, END, PLAIN + bytes(100), PLAIN + bytes(20_000), PLAIN + bytes(1 << 20)]),
        ),
        st.tuples(
            st.just("all"), st.sampled_from([EventType.ROS2, EventType.MESSAGE]), st.integers(0, 2), st.integers(1, 70)
        ),
        st.tuples(st.just("timer"), st.integers(0, 2), st.integers(0, 30)),
        st.tuples(st.just("next"), st.integers(1, 40), st.sampled_from([0, 0, 0, 1])),
        st.tuples(st.just("later"), st.integers(1, 30)),
        st.tuples(st.sampled_from(["interrupt", "clear", "left", "dropped"])),
    ),
    max_size=60,
)


def told(steps: list[tuple[object, ...]], device_class: str) -> list[object]:
    """Everything an inbox answers to these steps."""
    clock = Clock()
    inbox = Inbox(device_class, clock)
    answers: list[object] = []

    for number, step in enumerate(steps):
        match step:
            case "put", int(kind), int(source), bytes(data):
                answers.append(inbox.put(kind, source, data + b"%d" % number))
            case "all", int(kind), int(source), int(count):
                inbox.put_all(kind, source, [PLAIN + b"%d %d" % (number, each) for each in range(count)])
            case "timer", int(timer), int(period):
                inbox.set_timer(timer, period, period)
            case "next", int(count), int(later):
                for _ in range(count):
                    event = inbox.next(not_before_ns=later and clock.now_ns + later, until_ns=0)
                    answers.append(event and (event.type, event.source, event.data))
            case "later", int(ms):
                clock.now_ns += ms * MS
            case ("interrupt",):
                inbox.interrupt()
            case ("clear",):
                inbox.clear()
            case ("left",):
                answers.append([inbox.left(route) for route in range(3)])
            case ("dropped",):
                answers.append((inbox.take_dropped(), dict(inbox.dropped)))
    answers += [*drained(inbox), *drained(inbox), dict(inbox.dropped)]
    return answers


@given(STEPS, st.sampled_from(["gateway", "mcu"]))
def test_laying_messages_out_changes_nothing_that_is_seen(steps: list[tuple[object, ...]], device_class: str) -> None:
    with mock.patch("wasmbed.runtime.inbox.AHEAD", 0):
        one_by_one = told(steps, device_class)
    assert told(steps, device_class) == one_by_one


def filled(count: int, clock: Clock) -> Inbox:
    """An inbox of which the first message was taken and others are laid out."""
    inbox = Inbox("gateway", clock)
    inbox.put_all(EventType.ROS2, 0, [b"%d" % number for number in range(count)])
    event = inbox.next()
    assert event is not None
    assert event.data == b"0"
    assert len(inbox.ahead) == min(count - 1, AHEAD)
    return inbox


def test_an_interruption_comes_before_messages_laid_out_and_loses_none(clock: Clock) -> None:
    inbox = filled(10, clock)
    inbox.interrupt()
    assert inbox.next() is None
    assert [data for _, _, data in drained(inbox)] == [b"%d" % number for number in range(1, 10)]


def test_messages_laid_out_are_forgotten_and_counted_with_the_others(clock: Clock) -> None:
    inbox = filled(30, clock)
    inbox.next()
    inbox.clear()
    assert drained(inbox) == []
    assert inbox.dropped == {EventType.ROS2: 28}
    assert inbox.left(0) == 0


def test_messages_laid_out_wait_for_the_share_of_the_processor_too(clock: Clock) -> None:
    inbox = filled(10, clock)
    assert inbox.next(not_before_ns=5, until_ns=0) is None
    clock.now_ns = 5
    event = inbox.next(not_before_ns=5)
    assert event is not None
    assert event.data == b"1"


def test_messages_laid_out_are_the_oldest_that_a_full_lane_drops(clock: Clock) -> None:
    inbox = filled(abi.ROS2_EVENTS, clock)
    inbox.next()
    inbox.put_all(EventType.ROS2, 0, [b"fits", b"fits", b"drops the third"])
    events = drained(inbox)
    assert [data for _, _, data in events[:2]] == [b"3", b"4"]
    assert len(events) == abi.ROS2_EVENTS
    assert inbox.dropped == {EventType.ROS2: 1}


def test_a_timer_is_due_behind_messages_laid_out_but_before_later_ones(clock: Clock) -> None:
    inbox = filled(4, clock)
    inbox.set_timer(1, 10, 0)
    clock.now_ns = 10 * MS
    assert inbox.next() is not None
    inbox.put(EventType.ROS2, 0, b"later")
    assert [kind for kind, _, _ in drained(inbox)] == [EventType.ROS2, EventType.ROS2, EventType.TIMER, EventType.ROS2]


def test_every_message_is_taken_or_dropped_once_and_in_order_whoever_is_quicker() -> None:
    """The taker is hurried on and the putters overfill their lanes, so that messages are taken back all the time."""
    inbox = Inbox("gateway")
    putters, count = 2, 30_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def put(source: int) -> None:
        for first in range(0, count, 50):
            inbox.put_all(EventType.ROS2, source, [b"%d" % number for number in range(first, first + 50)])

    threads = [threading.Thread(target=put, args=(source,)) for source in range(putters)]
    taken: list[list[int]] = [[] for _ in range(putters)]
    left = 0
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or inbox._queue:
            if event := inbox.next(until_ns=0):
                taken[event.source].append(int(event.data))
                left += inbox.left(event.source)
    finally:
        sys.setswitchinterval(before)
        for thread in threads:
            thread.join()
    assert all(numbers == sorted(set(numbers)) for numbers in taken)
    assert all(numbers[-1] == count - 1 for numbers in taken)
    assert sum(map(len, taken)) + inbox.dropped[EventType.ROS2] == putters * count
    assert left + sum((inbox._taken + inbox._lost).values()) == putters * count
    assert inbox._bytes == 0
    assert not any(inbox._lanes.values())


@pytest.mark.parametrize("count", [2, 3])
def test_a_message_taken_while_the_others_are_taken_back_is_taken_once(clock: Clock, count: int) -> None:
    inbox = filled(count, clock)
    hurried: list[bytes] = []

    class Hurried(deque[Event]):
        def pop(self) -> Event:  # type: ignore[override]
            if not hurried:
                hurried.append(self.popleft().data)
            return super().pop()

    inbox.ahead = Hurried(inbox.ahead)
    assert inbox.next(not_before_ns=1, until_ns=0) is None
    assert hurried == [b"1"]
    assert [data for _, _, data in drained(inbox)] == [b"%d" % number for number in range(2, count)]
    assert inbox._bytes == 0
