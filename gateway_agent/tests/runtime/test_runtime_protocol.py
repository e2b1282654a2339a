"""Frames and values: what was sent arrives, anything else is a ProtocolError."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import cbor2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.gateway.reconcile import CONCURRENT_LOADS
from wasmbed.runtime import Limits, LogEvent, ProtocolError, StartRequest, StateEvent, client, protocol
from wasmbed.runtime.compile import WALL_S

from tests.support.processes import ROOT

DIGEST = "sha256:" + "ab" * 32
REQUEST = StartRequest(
    "i", DIGEST, "ns/app", "ns/dev", "gateway", Limits(65536, 8192, 100), ("wasmbed:sys",), {"A": "b"}
)


@given(messages=st.lists(st.dictionaries(st.text(), st.integers() | st.binary() | st.text())), cuts=st.integers(1, 50))
def test_frames_arrive_whole_however_the_bytes_are_cut(messages: list[dict[str, object]], cuts: int) -> None:
    data = b"".join(protocol.encode(message) for message in messages)
    reader = protocol.FrameReader()
    arrived = [m for at in range(0, len(data), cuts) for m in reader.feed(data[at : at + cuts])]
    assert arrived == messages


@given(data=st.binary(max_size=400))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    for stream in (data, len(data).to_bytes(4, "big") + data):
        try:
            for message in protocol.FrameReader().feed(stream):
                assert isinstance(message, dict)
        except ProtocolError:
            pass


@given(
    message=st.dictionaries(
        st.sampled_from(["instance", "digest", "application", "device", "class", "limits", "grants", "env", "event"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        ),
    )
)
def test_any_map_is_a_request_or_a_protocol_error(message: dict[str, object]) -> None:
    for read in (StartRequest.from_wire, protocol.event_from_wire, protocol.InstanceStatus.from_wire):
        with contextlib.suppress(ProtocolError):
            read(message)


def test_every_environment_that_a_placement_can_hold_is_taken() -> None:
    """One over 32 KiB was accepted by the API and then refused by the runtime at every try."""
    crd = yaml.safe_load((ROOT / "roles/crds/files/placements.yaml").read_text())
    env = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["env"]
    limits = {name: field["maxLength"] for name, field in env["items"]["properties"].items()}
    widest = chr(0x1F681)
    entries = {f"{n:02}" + widest * (limits["name"] - 2): widest * limits["value"] for n in range(env["maxItems"])}
    request = replace(REQUEST, env=entries)
    assert StartRequest.from_wire(request.to_wire()) == request
    protocol.encode(request.to_wire())


def test_a_load_can_wait_for_those_before_it() -> None:
    assert client.LOAD_TIMEOUT_S > CONCURRENT_LOADS * WALL_S


def test_a_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        list(protocol.FrameReader().feed((protocol.MAX_FRAME_BYTES + 1).to_bytes(4, "big")))
    with pytest.raises(ProtocolError, match="over the limit"):
        protocol.encode({"wasm": bytes(protocol.MAX_FRAME_BYTES)})


def test_nested_cbor_is_an_error_not_a_crash() -> None:
    body = b"\x81" * 1_000_000 + b"\0"
    with pytest.raises(ProtocolError):
        list(protocol.FrameReader().feed(len(body).to_bytes(4, "big") + body))


def test_values_survive_the_wire() -> None:
    assert StartRequest.from_wire(cbor2.loads(cbor2.dumps(REQUEST.to_wire()))) == REQUEST
    for event in (LogEvent("i", "a/b", "c/d", 2, "text", 3), StateEvent("i", "Failed", "DeviceError", "why", 4)):
        assert protocol.event_from_wire(cbor2.loads(cbor2.dumps(event.to_wire()))) == event


def test_the_key_is_of_the_content_alone() -> None:
    again = StartRequest.from_wire(
        {**REQUEST.to_wire(), "grants": ["wasmbed:sys", "wasmbed:sys"], "id": 7, "op": "start"}
    )
    assert again.key() == REQUEST.key()
    other = StartRequest.from_wire({**REQUEST.to_wire(), "env": {"A": "c"}})
    assert other.key() != REQUEST.key()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": "sha256:12"}, "64 hexadecimal digits"),
        ({"instance": ""}, "'instance' is empty"),
        ({"limits": {"stack_bytes": 10}}, "from 1024"),
        ({"limits": {"memory_bytes": True}}, "'memory_bytes' is not a number"),
        ({"grants": "wasmbed:sys"}, "'grants' is not a list"),
        ({"env": {"A": 1}}, "'env' holds something else"),
        ({"env": {"A": "x" * 2_000_000}}, "'env' is longer"),
        ({"application": "x" * 600}, "longer than 512 bytes"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        StartRequest.from_wire({**REQUEST.to_wire(), **change})


@given(text=st.text(max_size=400), limit=st.integers(8, 300))
def test_a_shortened_text_fits_and_begins_as_before(text: str, limit: int) -> None:
    short = protocol.shorten(text, limit)
    assert len(short.encode()) <= limit
    assert short == text.encode("utf-8", "replace").decode() or text.startswith(short[:-1])
