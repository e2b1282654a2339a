"""The switch: ports, components of the gateway, signing and statistics, without sockets."""

from pathlib import Path
from typing import Any

import pytest
from wasmbed.bridges.mavlink.codec import Message, message
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.frames import FrameParser, make_frame
from wasmbed.bridges.mavlink.routing import PortPolicy
from wasmbed.bridges.mavlink.signing import Signer
from wasmbed.bridges.mavlink.switch import PortOptions, Switch
from wasmbed.bridges.mavlink.tlog import TelemetryLog, read_tlog

DIALECT = default_dialect()
KEY = bytes(range(32))
NOW = 1_800_000_000.0


class Bench:
    """A switch with a settable clock and ports that keep what they are given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.switch = Switch(clock=lambda: self.now, wall_clock=lambda: NOW)

    def port(self, name: str, **options: Any) -> tuple[Any, list[bytes]]:
        out: list[bytes] = []
        return self.switch.open(PortOptions(PortPolicy(name), **options), name, lambda raw: not out.append(raw)), out


def raw(name: str = "HEARTBEAT", system: int = 1, sequence: int = 0, signed: bool = False, **values: Any) -> bytes:
    return make_frame(DIALECT[name], values, system=system, component=1, sequence=sequence, signed=signed)


def test_a_recorded_frame_is_refused_on_a_signed_link() -> None:
    bench = Bench()
    vehicle, _ = bench.port("vehicle", signer=Signer(KEY, lambda: NOW))
    _, out = bench.port("station")
    sender = Signer(KEY, lambda: NOW)
    recorded = sender.sign(raw(signed=True), 1)
    bench.switch.receive(vehicle, recorded)
    assert out == [recorded]
    bench.now = 60.0
    bench.switch.receive(vehicle, recorded)
    bench.switch.receive(vehicle, raw(sequence=1))
    bench.switch.receive(vehicle, Signer(bytes(32), lambda: NOW).sign(raw(sequence=2, signed=True), 1))
    assert out == [recorded]
    assert vehicle.statistics.signature_rejected == 3


def test_own_frames_are_signed_and_numbered_for_each_link() -> None:
    bench = Bench()
    _, signed = bench.port("signed", signer=Signer(KEY, lambda: NOW), link_id=7)
    _, plain = bench.port("plain")
    _, old = bench.port("old", version=1)
    local = bench.switch.open_local(245, 191, lambda _: None)
    for _ in range(3):
        local.send(message("HEARTBEAT", autopilot=8))
    local.send(message("SETUP_SIGNING", secret_key=bytes(32)))
    for out, count in ((signed, 4), (plain, 4), (old, 3)):
        frames = FrameParser().feed(b"".join(out))
        assert [frame.sequence for frame in frames] == list(range(count))
    assert [frame.signed for frame in FrameParser().feed(b"".join(signed))] == [True] * 4
    assert all(frame[0] == 0xFE for frame in old)
    assert [port.statistics.send_dropped for port in bench.switch.ports] == [0, 0, 1]


def test_a_key_is_neither_forwarded_nor_logged(tmp_path: Path) -> None:
    bench = Bench()
    bench.switch.log = log = TelemetryLog(tmp_path)
    vehicle, _ = bench.port("vehicle")
    _, out = bench.port("station")
    local = bench.switch.open_local(245, 191, lambda _: None)
    bench.switch.receive(vehicle, raw("SETUP_SIGNING", secret_key=KEY))
    assert out == []
    local.send(message("SETUP_SIGNING", secret_key=KEY))
    assert KEY not in log.take()


def test_components_of_the_gateway_speak_with_each_other_and_one_mistake_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    got: list[Message] = []

    def broken(_: Message) -> None:
        raise RuntimeError("a mistake")

    bench.switch.open_local(245, 1, broken)
    bench.switch.open_local(245, 2, got.append)
    first = bench.switch.open_local(245, 3, lambda _: None)
    vehicle, out = bench.port("vehicle")
    assert first.send(message("COMMAND_LONG", target_system=245, target_component=2, command=400)) == 1
    assert [(item.name, item.system, item.component) for item in got] == [("COMMAND_LONG", 245, 3)]
    assert out == []
    bench.switch.receive(vehicle, raw())
    assert [item.name for item in got] == ["COMMAND_LONG", "HEARTBEAT"]
    assert "failed on a frame" in caplog.text
    first.close()
    bench.switch.receive(vehicle, raw("COMMAND_LONG", target_system=245, target_component=3))
    assert [item.name for item in got] == ["COMMAND_LONG", "HEARTBEAT", "COMMAND_LONG"]


def test_an_own_frame_that_comes_back_ends() -> None:
    bench = Bench()
    vehicle, sent = bench.port("vehicle")
    _, station = bench.port("station")
    local = bench.switch.open_local(245, 191, lambda _: None)
    local.send(message("HEARTBEAT", autopilot=8))
    station.clear()
    bench.switch.receive(vehicle, sent[0])
    assert station == []


def test_losses_late_and_repeated_frames_are_counted() -> None:
    bench = Bench()
    vehicle, _ = bench.port("vehicle")
    for sequence in (0, 1, 4, 2, 5, 5, 6):
        bench.now += 0.01
        bench.switch.receive(vehicle, raw(sequence=sequence))
    statistics = vehicle.statistics
    assert (statistics.received_frames, statistics.lost, statistics.late, statistics.repeated) == (7, 1, 1, 1)
    assert statistics.loss == pytest.approx(1 / 8)
    for number in range(300):
        bench.now += 0.01
        bench.switch.receive(vehicle, raw(sequence=(7 + number) & 255))
    assert statistics.received_per_s == pytest.approx(100, rel=0.05)
    assert statistics.lost == 1


def test_a_link_that_takes_nothing_is_counted() -> None:
    bench = Bench()
    vehicle, _ = bench.port("vehicle")
    full = bench.switch.open(PortOptions(PortPolicy("full")), "full", lambda _: False)
    bench.switch.receive(vehicle, raw())
    assert (full.statistics.send_dropped, full.statistics.sent_frames) == (1, 0)


def test_logs_turn_at_their_size_and_old_ones_go(tmp_path: Path) -> None:
    log = TelemetryLog(tmp_path, max_bytes=1024, keep=3)
    for number in range(100):
        for frame in FrameParser().feed(raw(sequence=number)):
            log.write(frame, NOW + number)
        log.flush(log.take(), NOW + number)
    files = sorted(tmp_path.glob("*.tlog"))
    assert len(files) == 3
    last = list(read_tlog(files[-1].read_bytes()))
    assert last[-1][1].sequence == 99
    assert last[-1][0] == NOW + 99
    assert all(path.stat().st_size <= 1024 for path in files)
