"""What vehicles say: in the journal with the device's name when it is serious, and in the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flight_support import rig, until
from prometheus_client import CollectorRegistry
from wasmbed.bridges.mavlink.events import Event, StatusText
from wasmbed.gateway.flight_service import FlightService
from wasmbed.gateway.state import Store
from wasmbed.gateway.vehicle_words import BURST, MAX_CHARACTERS, VehicleWords
from wasmbed.service import Health

if TYPE_CHECKING:
    from pathlib import Path

IDS = (7, 1)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("vehicle says")]


@pytest.mark.parametrize(
    ("severity", "logged"),
    [("emergency", 1), ("critical", 1), ("warning", 1), ("notice", 0), ("info", 0), ("debug", 0), ("200", 0)],
)
def test_serious_texts_reach_the_journal_with_the_devices_name(
    caplog: pytest.LogCaptureFixture, severity: str, logged: int
) -> None:
    words = VehicleWords()
    words.text(IDS, ["default/alpha"], StatusText(1, severity, "Low battery\nlevel"))
    assert len(lines(caplog)) == logged
    assert all("device=default/alpha system=7" in line and "'Low battery" in line for line in lines(caplog))
    # An unknown severity makes no label of its own.
    assert dict(words.counts) == {("text", severity if severity != "200" else "other"): 1}


def test_events_are_told_by_their_number_and_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    words = VehicleWords()
    for level in (2, 6, 15):
        words.event(IDS, [], Event(1, 4711, 3, 100, level, level, b"", lost_before=2))
    (line,) = lines(caplog)
    assert "device=- system=7 component=1 severity=critical" in line
    assert "event 4711, 2 before it lost" in line
    assert dict(words.counts) == {("event", "critical"): 1, ("event", "info"): 1, ("event", "other"): 1}


def test_a_vehicle_that_repeats_itself_does_not_fill_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    words = VehicleWords(clock=lambda: now[0])
    for _ in range(100):
        words.text(IDS, ["default/alpha"], StatusText(1, "critical", "Z" * 5000))
    assert len(lines(caplog)) == BURST
    assert all(line.count("Z") == MAX_CHARACTERS for line in lines(caplog))
    assert words.left_out == 100 - BURST
    assert words.counts["text", "critical"] == 100
    words.text((8, 1), [], StatusText(1, "critical", "another vehicle"))
    assert len(lines(caplog)) == BURST + 1, "each vehicle has a rate of its own"
    now[0] = 1.5
    words.text(IDS, ["default/alpha"], StatusText(1, "critical", "again"))
    assert f"left_out={100 - BURST}" in lines(caplog)[-1]


@pytest.mark.peers
async def test_a_vehicle_that_refuses_to_arm_says_why_in_the_journal_and_in_the_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with rig() as made:
        app = await made.application("pilot")
        assert made.simulator is not None
        made.simulator.tell("fix 0")
        assert await made.vehicle.until(lambda state: state.fix == 0, 10.0)
        await app.command(400, 1.0)
        await until(lambda: made.flight.words.counts["text", "critical"] > 0)
        assert any("device=default/alpha" in line and "Preflight Fail: no GPS fix" in line for line in lines(caplog))


async def test_the_figures_tell_severities(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        registry = CollectorRegistry()
        service = FlightService(None, store, registry, Health())
        service.flight.words.text(IDS, [], StatusText(1, "warning", "Low battery"))
        said = {"kind": "text", "severity": "warning"}
        assert registry.get_sample_value("wasmbed_mavlink_vehicle_words_total", said) == 1
        assert registry.get_sample_value("wasmbed_mavlink_vehicle_words_left_out_total") == 0
    finally:
        await store.close()
