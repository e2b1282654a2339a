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
from wasmbed.runtime import (
    Delivery,
    HostRequest,
    InstanceStatus,
    Limits,
    LogEvent,
    ProtocolError,
    Provision,
    Secret,
    Sensor,
    StartRequest,
    StateEvent,
    client,
    protocol,
    reports,
    wire,
)
from wasmbed.runtime.compile import WALL_S

from tests.support.processes import ROOT

DIGEST = "sha256:" + "ab" * 32
REQUEST = StartRequest(
    *("i", DIGEST, "ns/app", "ns/dev", "gateway", Limits(65536, 8192, 100), ("wasmbed:sys",), {"A": "b"}),
    app_uid="uid",
    cpu_share=100,
    isolation="dedicated",
    routes=(("odom", "subscribe", "topic"),),
    rights=("px4-command",),
)


@given(messages=st.lists(st.dictionaries(st.text(), st.integers() | st.binary() | st.text())), cuts=st.integers(1, 50))
def test_frames_arrive_whole_however_the_bytes_are_cut(messages: list[dict[str, object]], cuts: int) -> None:
    data = b"".join(wire.encode(message) for message in messages)
    reader = wire.FrameReader()
    arrived = [m for at in range(0, len(data), cuts) for m in reader.feed(data[at : at + cuts])]
    assert arrived == messages


@given(data=st.binary(max_size=400))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    for stream in (data, len(data).to_bytes(4, "big") + data):
        try:
            for message in wire.FrameReader().feed(stream):
                assert isinstance(message, dict)
        except ProtocolError:
            pass


@given(
    message=st.dictionaries(
        st.sampled_from(
            [
                *(
                    "instance",
                    "digest",
                    "application",
                    "device",
                    "class",
                    "limits",
                    "grants",
                    "env",
                    "event",
                    "deliver",
                ),
                *("routes", "rights", "isolation", "sensors", "available", "link", "key", "sequence", "args", "token"),
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        ),
    )
)
def test_any_map_is_a_request_or_a_protocol_error(message: dict[str, object]) -> None:
    for read in (
        StartRequest.from_wire,
        Provision.from_wire,
        Secret.from_wire,
        protocol.deliveries,
        protocol.delivery_groups,
        reports.event_from_wire,
        InstanceStatus.from_wire,
    ):
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
    wire.encode(request.to_wire())


def test_a_load_can_wait_for_those_before_it() -> None:
    assert client.LOAD_TIMEOUT_S > CONCURRENT_LOADS * WALL_S


def test_a_frame_over_the_limit_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        list(wire.FrameReader().feed((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big")))
    with pytest.raises(ProtocolError, match="over the limit"):
        wire.encode({"wasm": bytes(wire.MAX_FRAME_BYTES)})


def test_nested_cbor_is_an_error_not_a_crash() -> None:
    body = b"\x81" * 1_000_000 + b"\0"
    with pytest.raises(ProtocolError):
        list(wire.FrameReader().feed(len(body).to_bytes(4, "big") + body))


def test_values_survive_the_wire() -> None:
    assert StartRequest.from_wire(cbor2.loads(cbor2.dumps(REQUEST.to_wire()))) == REQUEST
    row = InstanceStatus("i", DIGEST, "Running", "", "", 1, "key", ("wasmbed:sys",), "before", 65536, 12, 3)
    assert InstanceStatus.from_wire(cbor2.loads(cbor2.dumps(row.to_wire()))) == row
    provision = Provision("ns/dev", ("px4", "sensor"), link=False, sensors=(Sensor("cam", 6, 0, 30_000, 100_000),))
    assert Provision.from_wire(cbor2.loads(cbor2.dumps(provision.to_wire()))) == provision
    secret = Secret("ns/app", "ns/dev", bytes(32), 1000)
    assert Secret.from_wire(cbor2.loads(cbor2.dumps(secret.to_wire()))) == secret
    batch = [Delivery("i", 6, 7, b"\0\0\0\0"), Delivery("i", 8, 1), Delivery("i", 8, 1, b"next"), Delivery("k", 8, 1)]
    assert protocol.deliveries({"deliver": [item.to_wire() for item in batch]}) == batch
    groups = [["i", 6, 7, [b"\0\0\0\0"]], ["i", 8, 1, [b"", b"next"]], ["k", 8, 1, [b""]]]
    assert protocol.delivery_groups(cbor2.loads(cbor2.dumps({"deliver": protocol.in_groups(batch)}))) == groups
    for event in (
        LogEvent("i", "a/b", "c/d", 2, "text", 3),
        StateEvent("i", "Failed", "DeviceError", "why", 4, "key"),
        HostRequest("i", "a/b", "c/d", "px4", "command", 7, ("x", 1, 2.5), b"data"),
        HostRequest("i", "a/b", "c/d", "px4", "acquire"),
    ):
        assert reports.event_from_wire(cbor2.loads(cbor2.dumps(event.to_wire()))) == event


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
        ({"isolation": "none"}, "'isolation' is not one of"),
        ({"cpu_share": 0}, "'cpu_share' is not a number"),
        ({"routes": [["a", "b"]]}, "a route is not"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        StartRequest.from_wire({**REQUEST.to_wire(), **change})


@given(text=st.text(max_size=400), limit=st.integers(8, 300))
def test_a_shortened_text_fits_and_begins_as_before(text: str, limit: int) -> None:
    short = wire.shorten(text, limit)
    assert len(short.encode()) <= limit
    assert short == text.encode("utf-8", "replace").decode() or text.startswith(short[:-1])


@pytest.mark.parametrize(
    "row",
    [
        *(
            ["i", 6, 7],
            ["i", 6, 7, "text"],
            [1, 6, 7, b""],
            ["i", 99, 7, b""],
            ["i", 6, -1, b""],
            ["i", 6, 1 << 40, b""],
        ),
    ],
)
def test_a_bad_delivery_is_refused(row: list[object]) -> None:
    with pytest.raises(ProtocolError, match="a delivery "):
        protocol.deliveries({"deliver": [row]})
    if len(row) == 4 and row[3] == b"":
        with pytest.raises(ProtocolError, match="a delivery "):
            protocol.delivery_groups({"deliver": [[*row[:3], [b""]]]})


@pytest.mark.parametrize("data", [b"", "text", ["text"], [b"", 1], None, [[b""]]], ids=repr)
def test_a_bad_group_is_refused(data: object) -> None:
    with pytest.raises(ProtocolError, match="a delivery "):
        protocol.delivery_groups({"deliver": [["i", 6, 7, data]]})


@pytest.mark.parametrize("count", [protocol.MAX_DELIVERIES, protocol.MAX_DELIVERIES + 1])
def test_events_in_groups_are_bounded_in_all(count: int) -> None:
    for groups in ([["i", 5, 0, [b""]]] * count, [["i", 5, 0, [b""] * (count - 1)], ["i", 5, 1, [b""]]]):
        if count > protocol.MAX_DELIVERIES:
            with pytest.raises(ProtocolError, match="deliver"):
                protocol.delivery_groups({"deliver": groups})
        else:
            assert protocol.delivery_groups({"deliver": groups}) == groups


def test_a_key_is_not_shown() -> None:
    assert "7777" not in repr(Secret("ns/app", "ns/dev", b"7" * 32, 0))
