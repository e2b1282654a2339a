"""The switch: ports, components of the gateway, signing and statistics, without sockets."""

from pathlib import Path
from typing import Any

import pytest
from lossy import IDS
from wasmbed.bridges.mavlink.codec import Message, message
from wasmbed.bridges.mavlink.commands import Command, CommandRun, Outcome
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.frames import FrameParser, decode_frame, make_frame
from wasmbed.bridges.mavlink.routing import PortPolicy
from wasmbed.bridges.mavlink.signing import Signer
from wasmbed.bridges.mavlink.switch import PortOptions, Switch
from wasmbed.bridges.mavlink.tlog import TelemetryLog, read_tlog
from wasmbed_sitl import SimulatedVehicle

ARM, CAPTURE, REBOOT = 400, 2000, 246
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


class TwoRadios:
    """A simulated vehicle with two radios of one group: each is a link of its own to it, as PX4's are.

    It counts the orders that it gets. Its answers leave by the link on which it was asked.
    """

    def __init__(self) -> None:
        self.bench = Bench()
        self.vehicle = SimulatedVehicle()
        self.vehicle.power_on(0.0)
        self.orders: list[tuple[str, int]] = []
        self.silent: set[str] = set()
        self.told: list[str] = []
        self.heard: list[Message] = []
        self.run: CommandRun | None = None
        self._answers: list[tuple[str, str, dict[str, Any]]] = []
        self._numbers = dict.fromkeys("ab", 0)
        self._ports = {
            name: self.bench.switch.open(
                PortOptions(PortPolicy(name, redundancy="radios")), name, lambda raw, name=name: self._sent(name, raw)
            )
            for name in "ab"
        }
        self.local = self.bench.switch.open_local(IDS.own_system, IDS.own_component, self._heard)
        self.pass_time(2.0)

    def _sent(self, radio: str, raw: bytes) -> bool:
        (found,) = FrameParser().feed(raw)
        item = decode_frame(found)
        assert item is not None
        if radio not in self.silent:
            if "command" in item.values:
                self.orders.append((radio, item["command"]))
            for answer in self.vehicle.handle(item.name, dict(item.values), (item.system, 191), self.bench.now):
                self._answers.append((radio, *answer))
        return True

    def _heard(self, item: Message) -> None:
        self.heard.append(item)
        if self.run is not None:
            self.run.receive(item, self.bench.now)

    def _brings(self, radio: str, name: str, fields: dict[str, Any]) -> None:
        if radio in self.silent:
            return
        values = {key: value for key, value in fields.items() if key != "param_bytes"}
        self._numbers[radio] = (self._numbers[radio] + 1) & 0xFF
        sent = make_frame(DIALECT[name], values, system=1, component=1, sequence=self._numbers[radio])
        self.bench.switch.receive(self._ports[radio], sent)

    def pass_time(self, seconds: float) -> None:
        """Let the vehicle fly and an order be carried out."""
        for _ in range(round(seconds / 0.02)):
            self.bench.now += 0.02
            answers, self._answers = self._answers, []
            for answer in answers:
                self._brings(*answer)
            for name, fields in self.vehicle.step(self.bench.now):
                self.told.append(name)
                for radio in "ab":
                    self._brings(radio, name, fields)
            if self.run is not None:
                if self.run.deadline is not None and self.bench.now >= self.run.deadline:
                    self.run.advance(self.bench.now)
                for item in self.run.take():
                    self.local.send(item)

    def order(self, command: int, *params: float) -> Outcome:
        """Give an order and wait for what becomes of it."""
        self.run = CommandRun(IDS, Command(command, params))
        self.run.start(self.bench.now)
        self.pass_time(10.0)
        assert self.run.result is not None
        return self.run.result.outcome


def test_an_order_by_two_radios_is_done_once_and_goes_by_the_one_that_is_left() -> None:
    radios = TwoRadios()
    assert radios.order(CAPTURE, 0.0) is Outcome.ACCEPTED
    assert radios.orders == [("a", CAPTURE)]
    radios.silent = {"a"}
    radios.pass_time(2.0)
    assert radios.order(CAPTURE, 0.0) is Outcome.ACCEPTED
    radios.silent = set()
    radios.pass_time(2.0)
    assert radios.order(REBOOT, 1.0) is Outcome.ACCEPTED
    assert radios.orders == [("a", CAPTURE), ("b", CAPTURE), ("b", REBOOT)]
    assert [command for _, command, _ in radios.vehicle.executed].count(CAPTURE) == 2


def test_an_order_that_is_sent_again_arrives_although_its_radio_dies_at_that_moment() -> None:
    radios = TwoRadios()
    radios.silent = {"a"}
    assert radios.order(ARM, 1.0) is Outcome.ACCEPTED
    assert radios.orders == [("b", ARM)]
    assert radios.vehicle.armed


def test_telemetry_by_two_radios_is_heard_once_and_on_by_the_one_that_is_left() -> None:
    radios = TwoRadios()
    for silent in (set(), {"a"}, {"b"}, set()):
        radios.silent = silent
        # What the other one brought before counts for a second.
        radios.pass_time(1.5)
        radios.heard, radios.told = [], []
        radios.pass_time(10.0)
        assert [item.name for item in radios.heard] == radios.told, silent
        assert radios.told.count("HEARTBEAT") >= 9
        times = [item["time_boot_ms"] for item in radios.heard if item.name == "ATTITUDE"]
        assert times == sorted(set(times))


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
