"""Sessions between the firmware's own link and the gateway's, over a line that loses, repeats, reorders and forges."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line import Faults, Line, Lost, Stranger, Up, ends
from link_support import Device, Shim
from wasmbed.link import frames, noise, smp
from wasmbed.link.frames import FrameType
from wasmbed.link.secure import REKEY_MESSAGES, SecureLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def shim() -> Shim:
    return Shim()


@pytest.fixture
def new_line(shim: Shim) -> Iterator[Callable[..., Line]]:
    devices: list[Device] = []

    def make(seed: int = 0, up: Faults | None = None, down: Faults | None = None, **changes: object) -> Line:
        device = Device(shim)
        devices.append(device)
        assert device.boot(1000)
        return Line(device, SecureLink(ends(**changes), 1.0), seed=seed, up=up, down=down)

    yield make
    for device in devices:
        device.close()


def echo(line: Line, number: int) -> None:
    line.gateway.send(smp.encode(smp.Op.WRITE, smp.GROUP_OS, number % 256, 0, {"d": f"{number:>10}"}))


def answers(line: Line) -> list[int]:
    """Numbers of the echoes that came back, from now on."""
    got: list[int] = []

    def take(data: bytes) -> None:
        message = smp.decode(data)
        if message.group == smp.GROUP_OS:
            got.append(int(message.body["r"]))

    line.on_message = take
    return got


def test_a_session_comes_up_and_answers(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    got = answers(line)
    for number in range(20):
        echo(line, number)
    line.step()
    assert got == list(range(20))
    assert line.happened(Up) == 1
    assert line.device.count("bad_frames") == line.device.count("forged") == line.gateway.counters.bad_frames == 0


def test_a_handshake_waits_for_its_answer_whatever_the_time_is(shim: Shim) -> None:
    # Once, an even millisecond made the wait look over as soon as it had begun.
    for now in range(6):
        device = Device(shim)
        device.boot(now)
        gateway = SecureLink(ends(), 0.0)
        gateway.poll(0.0)
        device.input(gateway.take(), now)
        list(gateway.feed(device.output(4096, now), 0.0))
        device.poll(now)
        device.input(gateway.take(), now)
        assert device.up
        device.close()


def test_the_handshake_has_144_bytes(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    reader = frames.FrameReader()
    wire = b"".join(line.up.recorded + line.down.recorded)
    bodies = [f.body for f in reader.feed(wire) if f.kind in (FrameType.MESSAGE1, FrameType.MESSAGE2)]
    assert [len(body) for body in bodies] == [96, 48]


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 30),
    st.builds(Faults, *[st.sampled_from([0.0, 0.05, 0.3])] * 7),
    st.builds(Faults, *[st.sampled_from([0.0, 0.05, 0.3])] * 7),
)
def test_no_fault_of_the_line_gives_a_wrong_or_repeated_message(
    shim: Shim, seed: int, up: Faults, down: Faults
) -> None:
    device = Device(shim)
    assert device.boot(1000)
    line = Line(device, SecureLink(ends(), 1.0), seed=seed, up=up, down=down)
    got = answers(line)
    sent = itertools.count()
    for _ in range(60):
        line.run(0.3)
        if line.gateway.up:
            echo(line, next(sent))
    # Never anything that was not sent, nothing twice, nothing out of order.
    assert got == sorted(set(got))
    assert set(got) < set(range(next(sent) + 1))
    # And once the line is good again, so is the session.
    line.up.faults = line.down.faults = Faults()
    assert line.run(120, line.both_up)
    before = len(got)

    def answered() -> bool:
        if len(got) == before and line.gateway.up:
            echo(line, next(sent))
            line.step()
        return len(got) > before

    assert line.run(20, answered)
    device.close()


def test_a_device_that_restarts_is_back_without_the_gateway_acting(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    line.device.boot(line.now_ms)
    assert not line.device.up
    assert line.run(5, line.both_up)
    assert line.run(5, lambda: line.happened(Up) == 2)
    assert [event.replaced for event in line.events if isinstance(event, Up)] == [False, True]


def test_a_gateway_that_restarts_is_back_and_the_application_hears_nothing(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    line.gateway = SecureLink(ends(), line.now_ms / 1000)
    assert line.run(10, line.both_up)
    assert (line.device.noted("ups"), line.device.noted("losses")) == (1, 0)


def test_the_session_before_goes_on_until_the_new_one_is_confirmed(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    got = answers(line)
    line.run(2)
    line.gateway.renew(line.now_ms / 1000)
    line.up.faults.lose = 1.0  # message 1 does not arrive: the handshake hangs
    line.step()
    line.up.faults.lose = 0.0
    echo(line, 7)
    line.step()
    assert got == [7]
    line.run(1.5)
    assert (line.happened(Up), line.happened(Lost)) == (1, 0)
    assert line.run(10, lambda: line.happened(Up) == 2)
    assert line.device.noted("losses") == 0


def test_silence_loses_the_link_on_both_ends_and_it_comes_back(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    line.up.faults.lose = line.down.faults.lose = 1.0
    assert line.run(89, lambda: not line.both_up()) is False
    assert line.run(5, lambda: not line.device.up and not line.gateway.up)
    assert line.happened(Lost) == 1
    assert line.device.noted("losses") == 1
    line.up.faults = line.down.faults = Faults()
    assert line.run(20, line.both_up)
    assert line.device.noted("ups") == 2


def test_keys_change_after_so_many_messages(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    got = answers(line)
    count = 2 * REKEY_MESSAGES + 10
    for number in range(count):
        echo(line, number)
        line.step()
    assert got == list(range(count))
    assert line.device.count("rekeys") == 2


def test_a_device_of_another_name_is_refused_silently(new_line: Callable[..., Line]) -> None:
    line = new_line(device_id=b"fleet/device-9")
    assert line.run(30, line.both_up) is False
    assert line.gateway.counters.refused >= 1
    assert not any(f.kind == FrameType.MESSAGE2 for f in frames.FrameReader().feed(b"".join(line.down.recorded)))


def test_a_device_with_an_unknown_key_is_refused_silently_and_told_once(new_line: Callable[..., Line]) -> None:
    line = new_line(devices=(noise.public_key(b"\x55" * 32),))
    assert line.run(30, line.both_up) is False
    strangers = [event for event in line.events if isinstance(event, Stranger)]
    assert strangers == [Stranger(noise.public_key(b"\x41" * 32), "fleet/device-0")]
    assert line.gateway.counters.strangers >= 2
    assert not any(f.kind == FrameType.MESSAGE2 for f in frames.FrameReader().feed(b"".join(line.down.recorded)))


def test_a_gateway_with_another_key_gets_no_session(new_line: Callable[..., Line]) -> None:
    line = new_line(privates=(b"\x33" * 32,))
    assert line.run(30, line.both_up) is False
    assert line.gateway.counters.refused >= 1
    assert line.device.count("handshakes") == 0


def test_a_recorded_handshake_is_worth_nothing_later(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    recorded = list(frames.FrameReader().feed(b"".join(line.up.recorded)))
    first = next(frame for frame in recorded if frame.kind == FrameType.MESSAGE1)
    sent = len(line.down.recorded)
    list(line.gateway.feed(frames.encode(first.kind, first.body), line.now_ms / 1000))
    assert line.gateway.counters.refused == 1
    assert line.gateway.take() == b""
    assert len(line.down.recorded) == sent


def test_recorded_messages_are_refused_in_the_session_and_after_it(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    got = answers(line)
    echo(line, 1)
    line.step()
    commands = b"".join(frame for frame in line.down.recorded if len(frame) > 40)
    line.device.input(commands, line.now_ms)
    line.step()
    assert got == [1]
    assert line.device.count("replays") >= 1
    line.device.boot(line.now_ms)
    assert line.run(10, line.both_up)
    line.device.input(commands, line.now_ms)
    line.step()
    assert got == [1]


def test_nothing_is_acted_on_before_the_handshake(new_line: Callable[..., Line]) -> None:
    line = new_line()
    request = smp.encode(smp.Op.WRITE, smp.GROUP_OS, 1, 5, {})
    for body in (request, b"\0" + request + bytes(16), bytes(60)):
        line.device.input(frames.encode(FrameType.DATA, body), line.now_ms)
    line.step()
    line.run(1)
    assert line.device.noted("resets") == 0
    assert line.device.count("requests") == 0


def test_time_is_told_with_age_and_bound(new_line: Callable[..., Line]) -> None:
    line = new_line().connect()
    assert line.device.time(line.now_ms) is None
    unix_us = 1_790_000_000_000_000

    def answer(data: bytes) -> None:
        message = smp.decode(data)
        if message.id == smp.Id.HEARTBEAT:
            line.now_ms += 40
            line.gateway.send(smp.encode(smp.Op.WRITE_ANSWER, 64, message.seq, message.id, {0: unix_us, 1: 10}))

    line.on_message = answer
    assert line.run(70, lambda: line.device.time(line.now_ms) is not None)
    found = line.device.time(line.now_ms + 500)
    assert found is not None
    assert found[1] == 500
    assert abs(found[0] - (unix_us + 520_000)) <= found[2] <= 25_000
