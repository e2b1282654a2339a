"""An instance in this process: what becomes of a row of events, and what `list` tells of it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from host_bench import compile_to
from runtime_support import application
from wasmbed.runtime import HostRequest, Limits, Provision, StartRequest, abi
from wasmbed.runtime.backends import Backends
from wasmbed.runtime.content import Content, Shared
from wasmbed.runtime.events import EventQueue
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.supervisor import Supervisor
from wasmbed.runtime.watchdog import Watchdog

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = 65536
MESSAGE = abi.ROS2_HEADER.pack(abi.Ros2Kind.MESSAGE, 0, 0, 0) + bytes(8)
OPEN = "(drop (call $ros2.open (i32.const 0) (i32.const 2)))"
ROUTE = '(data (i32.const 0) "in")'


class Served:
    """One instance, with its route `in` open."""

    def __init__(self, directory: Path, event: str, **fields: int) -> None:
        self.told = 0
        self._opened, self._ended = threading.Event(), threading.Event()
        self.watchdog = Watchdog()
        self.watchdog.start()
        backends = Backends(directory)
        backends.provide(Provision("ns/device", ("ros2",)))
        shared = Shared(EventQueue(lambda: None), Exchange(), self.watchdog, backends, self._post)
        wasm = application(ROUTE, uses=("ros2.open",), init=OPEN, event=event)
        request = StartRequest(
            *("i", "sha256:0", "ns/app", "ns/device", "gateway"),
            limits=Limits(memory_bytes=64 * PAGE),
            grants=(abi.SYS, abi.ROS2),
            routes=(("in", "subscribe", "topic"),),
            **fields,  # type: ignore[arg-type]
        )
        profile = CLASSES["gateway"].lowered(request.limits)
        content = Content(request, profile, compile_to(directory / "a.cwasm", wasm))
        self.supervisor = Supervisor(content, shared, on_end=lambda _: self._ended.set())
        self.supervisor.start()
        assert self._opened.wait(60)

    def _post(self, request: HostRequest, _must: bool) -> bool:
        if request.op == "open":
            self._opened.set()
        elif request.op == "taken":
            self.told += int(request.args[1])
        return True

    def send(self, count: int) -> None:
        self.supervisor.deliver(abi.EventType.ROS2, 0, [MESSAGE] * count)

    def close(self) -> None:
        self.supervisor.stop()
        assert self._ended.wait(60)
        self.watchdog.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def start(event: str, **fields: int) -> Served:
        served.append(Served(tmp_path, event, **fields))
        return served[-1]

    yield start
    for each in served:
        each.close()


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@pytest.mark.parametrize("count", [1, 2, 17, 40])
def test_memory_is_told_as_the_last_of_a_row_of_events_left_it(serve: Callable[..., Served], count: int) -> None:
    served = serve("(drop (memory.grow (i32.const 1)))")
    served.send(count)
    until(lambda: served.supervisor.status().memory_bytes == (1 + count) * PAGE)


def test_the_peer_is_told_of_messages_taken_from_a_row(serve: Callable[..., Served]) -> None:
    served = serve("nop")
    for number in range(1, 11):
        served.send(abi.ROS2_EVENTS)
        until(lambda: served.told == number * abi.ROS2_EVENTS)  # noqa: B023
    assert served.supervisor.status().dropped == 0


def test_events_that_come_one_by_one_are_not_charged_for_the_wakes_of_the_host(serve: Callable[..., Served]) -> None:
    """They were, ten times what the calls used, and an instance in debt paid for each event that had to wait."""
    served = serve("nop", cpu_share=20)
    sent = 0
    ends_s = time.monotonic() + 2
    while time.monotonic() < ends_s:
        served.send(1)
        sent += 1
        time.sleep(0.002)
    until(lambda: served.told >= sent - abi.ROS2_TAKEN, 5)
    assert served.supervisor.status().dropped == 0


def test_short_calls_keep_to_the_share_and_are_all_counted(serve: Callable[..., Served]) -> None:
    """Each of a fraction of a millisecond, so that most end within a millisecond of the last one."""
    spin = "(loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000))))"
    served = serve(spin, cpu_share=100)
    supervisor = served.supervisor
    began_s = time.monotonic()
    while (elapsed_s := time.monotonic() - began_s) < 2:
        served.send(20)
        time.sleep(0.002)
    used_ms = supervisor.status().cpu_ms
    assert 100 <= used_ms <= 100 + 100 * elapsed_s + 10 * busy()
