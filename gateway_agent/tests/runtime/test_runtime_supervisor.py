"""States and back-off of an instance, as decisions of time alone; event and message queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.runtime import HostRequest, LogEvent, StateEvent, abi
from wasmbed.runtime.course import Course, Share
from wasmbed.runtime.events import MAX_LOGS, MAX_LOGS_PER_INSTANCE, EventQueue
from wasmbed.runtime.host.sys import LogGate
from wasmbed.runtime.inbox import Inbox
from wasmbed.runtime.messages import Exchange, TooManyTopicsError


def test_a_healthy_instance_is_running_after_its_first_call() -> None:
    course = Course()
    course.began(0)
    assert course.worked(0.1)
    assert (course.state, course.reason, course.restarts) == ("Running", "", 0)
    assert not course.worked(1)
    assert course.check_again_s(1) is None


def test_a_failed_instance_is_running_again_after_ten_healthy_seconds() -> None:
    course = Course()
    course.began(0)
    assert course.failed("why") == 1
    assert (course.state, course.reason, course.message, course.restarts) == ("Failed", "DeviceError", "why", 0)
    course.began(1)
    assert course.restarts == 1
    assert not course.worked(2)
    assert course.state == "Failed"
    assert course.check_again_s(2) == 9
    assert course.worked(11)
    assert (course.state, course.reason, course.message) == ("Running", "", "")


def test_pauses_double_to_a_minute_and_begin_anew_after_a_healthy_one() -> None:
    course = Course()
    now = 0.0
    pauses = []
    for _ in range(8):
        course.began(now)
        pauses.append(course.failed("why"))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    course.began(now)
    course.worked(now + 59)
    assert course.failed("why") == 60
    course.began(now)
    course.worked(now + 60)
    assert course.failed("why") == 1


@given(st.lists(st.sampled_from(["began", "worked", "failed"]), max_size=50))
def test_states_and_reasons_agree_whatever_happens(steps: list[str]) -> None:
    course = Course()
    for now, step in enumerate(steps):
        if step == "failed":
            assert 1 <= course.failed("x" * 300) <= 60
        else:
            getattr(course, step)(float(now))
        assert (course.state == "Failed") == (course.reason == "DeviceError") == bool(course.message)
        assert len(course.message.encode()) <= 256


def line(instance: str, text: str = "") -> LogEvent:
    return LogEvent(instance, "a/b", "c/d", 2, text)


def test_a_storm_leaves_room_for_the_others_and_is_counted() -> None:
    woken: list[None] = []
    queue = EventQueue(lambda: woken.append(None))
    for _ in range(1000):
        queue.put(line("storm"))
    queue.put(line("quiet", "here"))
    assert len(woken) == 1
    events = queue.take(10_000)
    assert len(events) == MAX_LOGS_PER_INSTANCE + 1
    assert events[-1] == line("quiet", "here")
    queue.put(line("storm"))
    assert queue.take() == [LogEvent("storm", "a/b", "c/d", 2, "", 1000 - MAX_LOGS_PER_INSTANCE)]
    assert len(woken) == 2


def test_the_queue_is_bounded_over_all_instances() -> None:
    queue = EventQueue(lambda: None)
    for number in range(MAX_LOGS * 2):
        queue.put(line(str(number)))
    assert len(queue.take(MAX_LOGS * 2)) == MAX_LOGS


def test_only_the_last_state_of_an_instance_is_sent() -> None:
    queue = EventQueue(lambda: None)
    for restarts in range(5):
        queue.put(StateEvent("one", "Failed", "DeviceError", "", restarts))
    queue.put(StateEvent("two", "Running", "", "", 0))
    queue.put(StateEvent("one", "Running", "", "", 5))
    assert queue.take() == [StateEvent("two", "Running", "", "", 0), StateEvent("one", "Running", "", "", 5)]
    queue.put(StateEvent("one", "Failed", "DeviceError", "", 6))
    queue.forget("one")
    assert queue.take() == []


def test_a_roll_back_is_told_by_whatever_state_follows_it() -> None:
    """The restored version was Running before its Starting was sent, and nobody heard that the update had failed."""
    queue = EventQueue(lambda: None)
    queue.put(StateEvent("one", "Starting", "", "update failed", 1, rolled_back="key"))
    queue.put(StateEvent("one", "Running", "", "update failed", 1))
    assert queue.take() == [StateEvent("one", "Running", "", "update failed", 1, rolled_back="key")]
    queue.put(StateEvent("one", "Failed", "DeviceError", "", 1))
    assert queue.take() == [StateEvent("one", "Failed", "DeviceError", "", 1)]


def test_the_log_gate_lets_a_burst_and_then_the_rate_through() -> None:
    gate = LogGate(100)
    assert sum(gate.admit(0.0) is not None for _ in range(500)) == 100
    assert gate.admit(0.005) is None
    assert gate.admit(0.011) == 401
    assert gate.admit(0.021) == 0


def test_messages_go_to_the_other_readers_of_the_application_and_topic() -> None:
    exchange = Exchange()
    inboxes = [Inbox("gateway") for _ in range(4)]
    sender, reader, deaf, stranger = (
        exchange.join(name, inbox) for name, inbox in zip(("app", "app", "app", "other"), inboxes, strict=True)
    )
    for listener in (sender, reader, stranger):
        assert exchange.subscribe(listener, b"topic") == 0
        assert exchange.subscribe(listener, b"topic") == 0
    assert exchange.subscribe(deaf, b"another") == 0
    assert exchange.send(sender, b"topic", b"hello") == 1
    event = inboxes[1].next(until_ns=0)
    assert event is not None
    assert (event.type, event.source, event.data) == (abi.EventType.MESSAGE, 0, b"hello")
    assert [inbox.next(until_ns=0) for inbox in inboxes] == [None] * 4
    exchange.leave(reader)
    assert exchange.send(sender, b"topic", b"hello") == 0


def test_topics_are_bounded() -> None:
    exchange = Exchange()
    reader = exchange.join("app", Inbox("gateway"))
    assert [exchange.subscribe(reader, b"%d" % number) for number in range(abi.TOPICS)] == list(range(abi.TOPICS))
    with pytest.raises(TooManyTopicsError):
        exchange.subscribe(reader, b"one more")


def test_requests_and_states_come_in_their_order_and_before_logs() -> None:
    """A request that came after the failure of what made it was carried out for the one started next."""
    queue = EventQueue(lambda: None)
    first, second = (HostRequest("one", "a/b", "c/d", "px4", op) for op in ("arm", "land"))
    failed = StateEvent("one", "Failed", "DeviceError", "", 0)
    queue.put(line("one"))
    queue.put(first)
    queue.put(failed)
    queue.put(second)
    assert queue.take() == [first, failed, second, line("one")]
    queue.put(first)
    queue.put(failed)
    queue.drop_requests()
    assert queue.take() == [failed]


def test_a_share_of_a_core_holds_over_time() -> None:
    second = 1_000_000_000
    share = Share(100, 0)
    assert share.ready_ns == 0
    share.spend(second // 10, 0)  # what a second is worth may come at once
    assert share.ready_ns == 0
    share.spend(second // 20, 0)
    assert share.ready_ns == pytest.approx(second // 2)
    share.spend(second // 100, second)
    assert share.ready_ns == 0
    share.spend(60 * second, 100 * second)
    assert share.ready_ns == pytest.approx(100 * second + 599 * second)
    free = Share(None, 0)
    free.spend(60 * second, 0)
    assert free.ready_ns == 0
