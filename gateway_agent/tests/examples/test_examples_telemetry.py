"""The watch over an autopilot in the microcontrollers' interpreter, its figures against numpy's."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import cbor2
import numpy as np
import pytest
from example_desk import HIFIVE1, Host
from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType, Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_desk import Desk


@pytest.fixture
def watch(desk: Callable[..., Desk]) -> Callable[..., Desk]:
    return lambda **env: desk("telemetry", Host(env=env))


def give(desk: Desk, kind: Telemetry, *values: Any, pause_s: float = 0.2) -> None:
    desk.event(EventType.TELEMETRY, kind, abi.TELEMETRY[kind].pack(desk.realtime_ns, *values))
    desk.advance(pause_s)


def battery(desk: Desk, *volts: float, current: float = 10.0, heat: float = 30.0) -> None:
    for value in volts:
        give(desk, Telemetry.BATTERY, value, current, 0.8, heat)


def status(desk: Desk, *, armed: bool, in_air: bool) -> None:
    give(desk, Telemetry.STATUS, armed, in_air, abi.FlightMode.HOLD, 0, 0, 1, 1, 0)


def reports(desk: Desk) -> dict[str, dict[str, Any]]:
    return {
        message["channel"]: message for message in map(cbor2.loads, desk.sent) if "mean" in message and "n" in message
    }


def anomalies(desk: Desk) -> list[tuple[str, str]]:
    return [(m["channel"], m["anomaly"]) for m in map(cbor2.loads, desk.sent) if "anomaly" in m]


def test_it_subscribes_to_what_it_watches(watch: Callable[..., Desk]) -> None:
    one = watch(INTERVAL_S="0.5")
    wanted = (Telemetry.STATUS, Telemetry.BATTERY, Telemetry.ATTITUDE, Telemetry.LOCAL, Telemetry.GPS)
    assert one.subscriptions == {("px4", kind): 500 for kind in wanted}


@pytest.mark.parametrize("shape", ["normal", "uniform", "two humps", "skewed"])
def test_the_report_agrees_with_exact_statistics(watch: Callable[..., Desk], shape: str) -> None:
    random = np.random.default_rng(5)
    values = {
        "normal": random.normal(15.8, 0.1, 2000),
        "uniform": random.uniform(14, 16.8, 2000),
        "two humps": np.where(random.random(2000) < 0.5, random.normal(14, 0.1, 2000), random.normal(16, 0.1, 2000)),
        "skewed": 14 + random.exponential(0.5, 2000),
    }[shape].astype(np.float32)
    one = watch(REPORT_S="401")
    battery(one, *map(float, values))
    one.advance(2)
    report = reports(one)["battery voltage"]
    assert report["n"] == 2000
    assert report["mean"] == pytest.approx(float(values.mean()), abs=1e-3)
    assert report["sd"] == pytest.approx(float(values.std(ddof=1)), rel=1e-3)
    assert (report["min"], report["max"]) == (float(values.min()), float(values.max()))
    # P-square estimates; between two humps nothing lies, so there its median may be anywhere.
    low, high = np.quantile(values, [0.45, 0.55])
    assert low - 0.02 <= report["p50"] <= high + 0.02
    low, high = np.quantile(values, [0.93, 0.97])
    assert low <= report["p95"] <= high


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_few_values_are_reported_exactly(watch: Callable[..., Desk], count: int) -> None:
    values = [15.0, 12.0, 14.0, 13.0, 16.0, 11.0][:count]
    one = watch(REPORT_S="5")
    battery(one, *values)
    one.advance(5)
    report = reports(one)["battery voltage"]
    assert report["n"] == count
    assert report["mean"] == pytest.approx(sum(values) / count)
    assert report["sd"] == pytest.approx(statistics.stdev(values) if count > 1 else 0.0)
    if count % 2 and count <= 5:
        assert report["p50"] == sorted(values)[count // 2]
    assert report["min"] <= report["p50"] <= report["p95"] <= report["max"]


def test_each_report_is_of_its_own_time(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="2")
    battery(one, *[15.0] * 9)
    one.advance(0.2)
    battery(one, *[14.0] * 9)
    one.advance(1)
    assert [cbor2.loads(m)["max"] for m in one.sent if cbor2.loads(m)["channel"] == "battery voltage"] == [15.0, 14.0]


def test_derived_channels_are_magnitudes(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="5")
    give(one, Telemetry.ATTITUDE, 1, 0, 0, 0, 0.3, -0.4, 0.0)
    give(one, Telemetry.LOCAL, 1, 2, 3, 3.0, -4.0, -1.5)
    give(one, Telemetry.GPS, 3, 12, 0.8, 1.2)
    one.advance(5)
    got = {channel: report["mean"] for channel, report in reports(one).items()}
    assert got == pytest.approx({"turn rate": 0.5, "climb": 1.5, "speed": 5.0, "hdop": 0.8, "satellites": 12})


def test_noise_is_no_anomaly(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="86400")
    random = np.random.default_rng(11)
    status(one, armed=False, in_air=False)
    for _ in range(3000):
        battery(one, float(random.normal(16, 0.05)), current=float(random.normal(10, 1.5)))
    assert anomalies(one) == []


def test_a_sudden_change_is_a_spike_once(watch: Callable[..., Desk]) -> None:
    one = watch()
    random = np.random.default_rng(12)
    battery(one, *(float(random.normal(16, 0.05)) for _ in range(100)))
    battery(one, 12.0)
    assert anomalies(one) == []  # one value alone may be a fault of the link
    battery(one, *(float(random.normal(16, 0.05)) for _ in range(50)))
    battery(one, *(float(random.normal(14, 0.05)) for _ in range(100)))
    assert anomalies(one) == [("battery voltage", "spike")]
    warning = next(text for level, text in one.logs if level == 1)
    assert warning.startswith("spike of battery voltage: 1")
    assert ", normal is 1" in warning


def test_a_slow_change_is_a_drift(watch: Callable[..., Desk]) -> None:
    one = watch()
    random = np.random.default_rng(13)
    battery(one, *(float(random.normal(16, 0.05)) for _ in range(200)))
    battery(one, *(float(random.normal(16, 0.05)) + 0.1 for _ in range(60)))
    assert anomalies(one) == [("battery voltage", "drift")]


def test_take_off_is_no_anomaly(watch: Callable[..., Desk]) -> None:
    one = watch()
    status(one, armed=False, in_air=False)
    battery(one, *[16.0] * 60, current=0.5)
    status(one, armed=True, in_air=False)
    battery(one, *[15.8] * 60, current=3.0)
    status(one, armed=True, in_air=True)
    battery(one, *[15.2] * 60, current=25.0)
    assert anomalies(one) == []


def test_an_anomaly_is_sent_again_until_the_cloud_has_it(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="86400")
    outcomes = iter([Code.UNAVAILABLE, Code.TIMEOUT, 0])
    one.host.secure = lambda _message: next(outcomes)
    battery(one, *[16.0] * 60, *[10.0] * 60)
    one.advance(60)
    assert anomalies(one) == [("battery voltage", "spike")] * 3


def test_more_anomalies_than_it_keeps_are_counted(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="1000")
    one.host.secure_refuses = Code.UNAVAILABLE
    for level in range(6):
        battery(one, *[16.0 - level] * 60)
    one.advance(1000)
    assert "lost: events 0, anomalies 1" in one.text()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, -1.0])
def test_impossible_values_change_no_figure(watch: Callable[..., Desk], value: float) -> None:
    one = watch(REPORT_S="10")
    battery(one, 16.0, *[value] * 20, 16.0)
    one.advance(10)
    report = reports(one)["battery voltage"]
    assert (report["n"], report["mean"], report["sd"]) == (2, 16.0, 0.0)
    # NaN is how an autopilot says that it does not know.
    assert report["refused"] == (0 if math.isnan(value) else 20)


@pytest.mark.parametrize("kind", [*Telemetry, 0, 9, -1, 2**31 - 1])
@pytest.mark.parametrize("data", [b"", b"\xff" * 7, b"\xff" * 23, b"\xff" * 100])
def test_damaged_records_change_nothing(watch: Callable[..., Desk], kind: int, data: bytes) -> None:
    one = watch(REPORT_S="1")
    one.event(EventType.TELEMETRY, kind, data)
    one.advance(2)
    assert one.sent == []


def test_a_host_that_takes_nothing_more_gets_the_report_later(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="10")
    one.host.secure_refuses = Code.AGAIN
    battery(one, 16.0, 16.1)
    one.advance(10)
    assert one.sent == []
    one.host.secure_refuses = None
    one.advance(2)
    assert set(reports(one)) == {"battery voltage", "battery current", "battery temperature"}


def test_an_autopilot_that_comes_later_is_watched(desk: Callable[..., Desk]) -> None:
    one = desk("telemetry", Host(px4=False))
    assert one.logs[0] == (1, "no autopilot yet")
    one.advance(60)
    assert one.subscriptions == {}
    one.host.px4 = True
    one.advance(5)
    assert len(one.subscriptions) == 5


def test_it_fits_the_smallest_board(watch: Callable[..., Desk]) -> None:
    one = watch(REPORT_S="10")
    battery(one, *[16.0] * 100)
    assert one.ram_bytes <= HIFIVE1.ram_bytes
    assert one.stack_used <= HIFIVE1.stack_bytes // 2
    assert one.most_fuel < 200_000
