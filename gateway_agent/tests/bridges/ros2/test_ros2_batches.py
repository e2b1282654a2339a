"""Messages that come together: each is counted, checked and passed on as if it had come alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from wasmbed.bridges.ros2 import Bridge, Node, Policy, parse_routes
from wasmbed.bridges.ros2.dds import binding
from wasmbed.bridges.ros2.shared import CHECKED_LATER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import pytest
    from wasmbed.bridges.ros2 import Session
    from wasmbed.bridges.ros2.dds import DdsBackend
    from wasmbed.bridges.ros2.shared import SharedSubscription
    from wasmbed.bridges.ros2.types import CodecFactory

ALL = Policy(("/*",), ("/*",), ("/*",), ("/*",), frozenset(range(233)))
STRING = "std_msgs/msg/String"


class Topic:
    """A bridge with applications of one topic, whose messages the test brings."""

    def __init__(self, backend: DdsBackend, codecs: CodecFactory, domain_id: int) -> None:
        self.codec = codecs.codec(STRING)
        self.codecs = codecs
        self.bridge = Bridge(Node(backend, codecs, name="bridge"), ALL, domain_id)

    def open(self, name: str, **options: Any) -> Session:
        route = {"topic": "/t", "type": STRING, "direction": "subscribe", "name": "in", "encoding": "cdr", **options}
        return self.bridge.open(name, parse_routes({"topics": [route]}, self.bridge.node.resolve, self.codecs))

    @property
    def shared(self) -> SharedSubscription:
        return next(iter(self.bridge._shared.values()))

    def text(self, value: str) -> bytes:
        return self.codec.dumps(self.codec.cls(value))

    def bad(self, size: int = 1) -> bytes:
        """A message that says it is longer than it is."""
        sound = self.text("x" * size)
        return sound[:4] + (2 * size + 8).to_bytes(4, "little") + sound[8:]

    def bring(self, *messages: bytes) -> bool:
        return self.shared._on_messages([(data, 1000 + number) for number, data in enumerate(messages)])


@pytest_asyncio.fixture
async def topic(backends: Callable[..., DdsBackend], codecs: CodecFactory, domain_id: int) -> AsyncIterator[Topic]:
    topic = Topic(backends("bridge"), codecs, domain_id)
    yield topic
    topic.bridge.close()


def figures(session: Session) -> dict[str, int]:
    found: dict[str, int] = session.statistics()["subscribe in"]
    return found


async def test_what_is_malformed_is_left_out_and_the_rest_goes_on(topic: Topic) -> None:
    session = topic.open("app")
    good = [topic.text(f"{number}") for number in range(5)]
    assert not topic.bring(good[0], topic.bad(), good[1], good[2], topic.bad(), topic.bad(), topic.bad(), good[3])
    topic.bring(good[4])
    # Two of the first three; then what begins with nothing but malformed ones; then nothing.
    assert session.take("in", 3, 1 << 20) == [(good[0], 1000), (good[1], 1002)]
    assert session.take("in", 1, 1 << 20) == [(good[2], 1003)]
    assert session.take("in", 3, 1 << 20) == [(good[3], 1007), (good[4], 1000)]
    assert not session.take("in", 3, 1 << 20)
    found = figures(session)
    assert [found[name] for name in ("received", "delivered", "dropped", "malformed", "queued")] == [9, 5, 0, 4, 0]
    assert found["delivered_bytes"] == sum(map(len, good))
    assert len(found["problems"]) == 1  # type: ignore[arg-type]


async def test_long_messages_are_checked_when_they_come_and_short_ones_when_it_is_their_turn(topic: Topic) -> None:
    session = topic.open("app")
    long = topic.text("y" * CHECKED_LATER_BYTES)
    topic.bring(topic.text("a"), topic.bad(CHECKED_LATER_BYTES), long, topic.bad())
    assert (figures(session)["malformed"], figures(session)["queued"]) == (1, 3)
    assert session.take("in", 9, 1 << 20) == [(topic.text("a"), 1000), (long, 1002)]
    assert (figures(session)["malformed"], figures(session)["delivered"]) == (2, 2)


async def test_each_application_gets_them_in_its_encoding(topic: Topic) -> None:
    sessions = [topic.open(encoding, encoding=encoding) for encoding in ("cdr", "json", "cbor")]
    topic.bring(topic.text("a"), topic.bad(), topic.text("b"))
    first, json, cbor = (session.take("in", 9, 1 << 20) for session in sessions)
    assert [data for data, _ in first] == [topic.text("a"), topic.text("b")]
    assert [data for data, _ in json] == [b'{"data":"a"}', b'{"data":"b"}']
    assert [data for data, _ in cbor] == [b"\xa1ddataaa", b"\xa1ddataab"]
    assert [figures(session)["malformed"] for session in sessions] == [1, 1, 1]


async def test_an_application_that_comes_meanwhile_gets_nothing_in_another_encoding(topic: Topic) -> None:
    """All of a batch reached it in CDR and unchecked."""
    topic.open("before")
    joined: list[Session] = []

    class Batch(list[tuple[bytes, int]]):
        def __iter__(self) -> Iterator[tuple[bytes, int]]:
            if not joined:
                joined.append(topic.open("joins", encoding="json"))
            return super().__iter__()

    topic.shared._on_messages(Batch([(topic.text("a"), 1)]))
    assert not joined[0].take("in", 9, 1 << 20)
    topic.bring(topic.text("b"))
    assert [data for data, _ in joined[0].take("in", 9, 1 << 20)] == [b'{"data":"b"}']


async def test_a_rate_and_a_full_queue_count_each_message(topic: Topic) -> None:
    slow, full = topic.open("slow", maxRateHz=1), topic.open("full", queue=3)
    texts = [topic.text(str(number)) for number in range(10)]
    # It is full for one of the two only.
    assert not topic.bring(*texts)
    assert [data for data, _ in slow.take("in", 99, 1 << 20)] == texts[:1]
    assert [data for data, _ in full.take("in", 99, 1 << 20)] == texts[-3:]
    assert (figures(slow)["rate_limited"], figures(slow)["dropped"]) == (9, 0)
    assert (figures(full)["rate_limited"], figures(full)["dropped"]) == (0, 7)
    assert topic.bring(*texts)
    await asyncio.sleep(1.1)
    topic.bring(*texts)
    assert len(slow.take("in", 99, 1 << 20)) == 1


async def test_a_reader_counts_what_is_no_message_among_the_samples(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = topic.open("app")
    subscription: Any = topic.shared.subscription
    sound = topic.text("a")
    samples = [
        (data, SimpleNamespace(valid_data=valid, source_timestamp=7))
        for data, valid in (
            *((sound, True), (b"", False), (b"\0\3" + sound[2:], True), (b"\0\1", True), (sound, False)),
            *((b"\0\0" + sound[2:], True), (sound, True)),
        )
    ]
    monkeypatch.setattr(binding, "take", lambda *_: samples)
    monkeypatch.setattr(subscription.context, "pause", lambda *_: None)
    before = subscription.statistics.messages
    subscription._on_data()
    assert (subscription.statistics.messages - before, subscription.statistics.malformed) == (3, 2)
    assert figures(session)["queued"] == 3
