"""Application logs on their way to the journal."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from wasmbed.gateway import logs
from wasmbed.gateway.metrics import Metrics
from wasmbed.runtime import LogEvent


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, str]]]:
    lines: list[tuple[str, int, dict[str, str]]] = []

    def send(message: str, priority: int = 6, **fields: str) -> bool:
        lines.append((message, priority, fields))
        return True

    monkeypatch.setattr(logs, "journal_send", send)
    return lines


def event(text: str = "x", level: int = 2, instance: str = "u/ns/d", dropped: int = 0) -> LogEvent:
    return LogEvent(instance, "ns/app", "ns/d", level, text, dropped)


async def test_lines_carry_their_application_device_and_priority(sent: list[tuple[str, int, dict[str, str]]]) -> None:
    forwarder = logs.LogForwarder(Metrics(CollectorRegistry()))
    for level in range(5):
        forwarder.forward(event("hello", level))
    fields = {"WASMBED_APPLICATION": "ns/app", "WASMBED_DEVICE": "ns/d", "WASMBED_INSTANCE": "u/ns/d"}
    assert sent == [("hello", priority, fields) for priority in (3, 4, 6, 7, 7)]


async def test_an_instance_that_says_too_much_loses_lines_alone_and_tells_how_many(
    sent: list[tuple[str, int, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LINES_PER_S", 0.0)
    metrics = Metrics(CollectorRegistry())
    forwarder = logs.LogForwarder(metrics)
    for _ in range(300):
        forwarder.forward(event())
    assert len(sent) == 200
    forwarder.forward(event("other", instance="v/ns/d"))
    assert sent[-1][0] == "other"
    monkeypatch.setattr(logs, "LINES_PER_S", 1e9)
    forwarder.forward(event("after", dropped=5))
    assert [(text, fields.get("WASMBED_DROPPED")) for text, _, fields in sent[-2:]] == [
        ("105 lines dropped", "105"),
        ("after", None),
    ]
    assert metrics.registry.get_sample_value("wasmbed_agent_log_lines_total", {"fate": "dropped"}) == 105


async def test_lines_the_journal_does_not_take_are_counted(
    sent: list[tuple[str, int, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder = logs.LogForwarder(Metrics(CollectorRegistry()))
    take = logs.journal_send
    monkeypatch.setattr(logs, "journal_send", lambda *_, **__: False)
    forwarder.forward(event("lost"))
    monkeypatch.setattr(logs, "journal_send", take)
    forwarder.forward(event("kept"))
    assert [text for text, _, _ in sent] == ["1 lines dropped", "kept"]
