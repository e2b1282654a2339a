"""Frames and values of the simulated sensors."""

from __future__ import annotations

import itertools
import struct

import pytest
from wasmbed.runtime.abi import SensorKind
from wasmbed.tools import sensors


def test_frame_carries_kind_length_values_and_checksum() -> None:
    data = sensors.frame(SensorKind.BAROMETER, 101325.0, 21.5)
    assert data[:3] == bytes((0xA5, 2, 8))
    assert struct.unpack("<2f", data[3:11]) == (101325.0, 21.5)
    assert sum(data[1:]) % 256 == 0xFF
    with pytest.raises(struct.error):
        sensors.frame(SensorKind.IMU, 1.0)


def test_sensors_come_at_their_rates() -> None:
    second = list(itertools.takewhile(lambda one: one[0] < 1.0, sensors.frames()))
    counts = {kind: sum(data[1] == kind for _, data in second) for kind in sensors.FORMATS}
    for kind, (_, rate) in sensors.FORMATS.items():
        assert counts[kind] == pytest.approx(rate, abs=1)
    times = [at_s for at_s, _ in second]
    assert times == sorted(times)


def test_values_are_a_vehicle_that_circles() -> None:
    for at_s in (0.0, 10.0, 1000.0, 5000.0):
        latitude, longitude, altitude = sensors.sample(SensorKind.GPS, at_s)
        assert abs(latitude - 47.397742) < 0.001
        assert abs(longitude - 8.545594) < 0.001
        assert altitude == 538.0
        voltage, _, percent = sensors.sample(SensorKind.BATTERY, at_s)
        assert 14.0 <= voltage <= 16.8
        assert 0.0 <= percent <= 100.0
        assert 93_000 < sensors.sample(SensorKind.BAROMETER, at_s)[0] < 96_000
    with pytest.raises(ValueError, match="no simulated sensor"):
        sensors.sample(SensorKind.CAMERA, 0.0)
