"""How much of a route goes to its application at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wasmbed.gateway.ros2_flow import Flow
from wasmbed.runtime.abi import ROS2_EVENTS, ROS2_TAKEN, EventType
from wasmbed.runtime.inbox import Inbox


def test_a_runtime_that_tells_nothing_is_sent_what_comes() -> None:
    flow = Flow()
    for _ in range(1000):
        assert not flow.full
        flow.sent()


def test_what_is_under_way_is_bounded_and_told_messages_make_room() -> None:
    flow = Flow()
    flow.taken(1)
    for _ in range(ROS2_EVENTS):
        assert not flow.full
        flow.sent()
    assert flow.full
    flow.taken(ROS2_TAKEN)
    assert not flow.full


def test_what_is_not_heard_of_for_long_is_forgotten() -> None:
    flow = Flow()
    flow.taken(1)
    for _ in range(ROS2_EVENTS):
        flow.sent()
    assert flow.full
    flow.forget()
    assert not flow.full


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200)), max_size=60))
def test_an_application_that_is_slow_loses_nothing_in_its_queue_and_never_stalls(
    steps: list[tuple[bool, int]],
) -> None:
    flow, inbox = Flow(), Inbox("gateway")
    flow.taken(1)  # from now on it tells
    sent = got = 0
    for sends, count in [*steps, (False, 10_000), (True, 1), (False, 1)]:
        for _ in range(count):
            if sends and not flow.full:
                flow.sent()
                inbox.put(EventType.ROS2, 3, b"%d" % sent)
                sent += 1
            elif not sends and (event := inbox.next(until_ns=0)) is not None:
                assert event.data == b"%d" % got
                got += 1
                if left := inbox.left(3):
                    flow.taken(left)
    assert not inbox.dropped
    assert got == sent >= 1
