"""Who is not let in, how each is told, and what hostile ends of a connection achieve: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

import cbor2
import pytest
from gateway_site import eventually
from link_faults import ThreadedProxy

from tests.support.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from device_site import LinkSite, LinuxDevice


def context(device: LinuxDevice, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.maximum_version = version
    made.load_verify_locations(device.gateway_ca)
    made.load_cert_chain(device.certificate, device.key)
    return made


def secured(device: LinuxDevice) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", device.port), timeout=30)
    return context(device).wrap_socket(raw, server_hostname="127.0.0.1")


def frame(message: object) -> bytes:
    body = cbor2.dumps(message)
    return len(body).to_bytes(4, "big") + body


HELLO = {"event": "hello", "version": 1, "wasmbed": "0", "stream": "s", "check": False}


def receive(connection: ssl.SSLSocket) -> dict[str, object]:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    return dict(cbor2.loads(exactly(int.from_bytes(exactly(4), "big"))))


def opened(device: LinuxDevice) -> ssl.SSLSocket:
    """A session of the device by hand."""
    connection = secured(device)
    connection.sendall(frame(HELLO))
    assert receive(connection)["event"] == "welcome"
    return connection


def test_a_device_is_refused_for_the_reason_that_there_is(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("guest", register=False)
    device.start()
    cases: list[tuple[str, str, Callable[[], None]]] = [
        ("Unknown", "no EdgeDevice default/guest belongs to this gateway", lambda: None),
        ("NoKey", "set spec.publicKey to", lambda: link_site.add("guest")),
        ("WrongKey", "has another key than this device", lambda: link_site.add("guest", "A" * 43 + "=")),
        ("WrongClass", "is of class mcu", lambda: link_site.add("guest", device.public_key, **{"class": "mcu"})),
        ("Revoked", "is revoked", lambda: link_site.add("guest", device.public_key, revoked=True)),
    ]
    for reason, words, change in cases:
        change()
        device.wait_problem(words)
        assert link_site.refusals(reason) > 0
    status, text = device.check()
    assert status == 1
    assert "refuses this device: EdgeDevice default/guest is revoked (Revoked)" in text
    link_site.add("guest", device.public_key)
    device.wait_ready()
    status, text = device.check()
    assert (status, text.count("ok  ")) == (0, 2), text
    # Asking did not replace the session.
    assert device.metric("wasmbed_device_sessions_total") == 1
    link_site.add("guest", device.public_key, revoked=True)
    device.wait_problem("is revoked")
    link_site.wait_link("guest", "Disconnected")


def test_certificates_that_do_not_count(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], tmp_path: Path
) -> None:
    device = new_device("papers")
    stranger = Authority(tmp_path, "stranger")
    good = (device.certificate, device.key)
    device.certificate, device.key, _ = stranger.issue_device("d", "wasmbed:device:default/papers")
    device.write_config()
    status, text = device.check()
    assert status == 1
    assert "does not know the authority that signed our certificate" in text
    device.certificate, device.key, _ = link_site.device_ca.issue_device("e", "somebody")
    device.write_config()
    assert "common name is not wasmbed:device:" in device.check()[1]
    device.certificate, device.key, _ = link_site.device_ca.issue_device("f", "wasmbed:device:default/other")
    device.write_config()
    assert "is of default/other, and the device is default/papers" in device.check()[1]
    device.certificate, device.key, _ = link_site.device_ca.issue_device("g", "wasmbed:device:default/papers", days=-1)
    device.write_config()
    assert "renew it, or set the clock right" in device.check()[1]
    device.certificate, device.key = good
    device.gateway_ca = stranger.ca_file
    device.write_config()
    assert "the other side's certificate is not valid here" in device.check()[1]
    device.gateway_ca = link_site.site_ca.ca_file
    device.write_config(gateway_name="other.example")
    assert "not valid here: IP address mismatch" in device.check()[1] or "Hostname mismatch" in device.check()[1]
    device.write_config(gateway="127.0.0.1:1")
    assert "127.0.0.1:1: Connection refused" in device.check()[1] or "Connect call failed" in device.check()[1]
    device.write_config()
    assert device.check()[0] == 0
    assert link_site.refusals("BadCertificate") >= 1


def test_tls_1_2_is_refused(link_site: LinkSite, new_device: Callable[..., LinuxDevice]) -> None:
    device = new_device("old")
    before = link_site.refusals("Handshake")
    raw = socket.create_connection(("127.0.0.1", device.port), timeout=30)
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        context(device, ssl.TLSVersion.TLSv1_2).wrap_socket(raw, server_hostname="127.0.0.1")
    eventually(lambda: link_site.refusals("Handshake") > before, "a counted refusal")


def test_a_client_without_a_certificate_is_refused(link_site: LinkSite, new_device: Callable[..., LinuxDevice]) -> None:
    device = new_device("bare")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(device.gateway_ca)
    raw = socket.create_connection(("127.0.0.1", device.port), timeout=30)
    with pytest.raises(ssl.SSLError), bare.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.recv(1)


@pytest.mark.parametrize(
    "first",
    [
        b"\xff" * 4,
        frame([1, 2, 3]),
        frame({"event": "heartbeat"}),
        frame({**HELLO, "stream": 7}),
        frame({**HELLO, "version": 2}),
        (4).to_bytes(4, "big") + b"\x9f\x9f\x9f\x9f",
        (20_000).to_bytes(4, "big"),
    ],
    ids=["huge", "list", "no-hello", "bad-hello", "version", "not-cbor", "large-hello"],
)
def test_a_session_that_begins_with_something_else_ends(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], first: bytes
) -> None:
    device = new_device("garbage")
    with secured(device) as connection:
        connection.sendall(first)
        # Either a word why or the end, and never a welcome.
        with contextlib.suppress(EOFError, OSError):
            assert receive(connection)["event"] == "refused"
    assert link_site.readyz()[0] == 200


def entry(number: int, data: object) -> dict[str, object]:
    return {"event": "entries", "spool": "logs", "entries": [[number, cbor2.dumps(data)]]}


@pytest.mark.parametrize(
    "message",
    [
        {"event": "instances", "instances": 7, "problem": ""},
        {"event": "instances", "instances": [{}], "problem": ""},
        {"event": "state"},
        {"event": "entries", "spool": "none", "entries": []},
        entry(1, 1),
        entry(1, {"event": "state"}),
        {"event": "heartbeat"},
        {"event": "unknown"},
        {"nothing": 1},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_that_the_protocol_does_not_have_ends_the_session_with_a_word(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], message: object
) -> None:
    device = new_device("liar")
    eventually(lambda: device.check()[0] == 0, "the gateway's knowledge of the device")
    with opened(device) as connection:
        connection.sendall(frame(message))
        while (answer := receive(connection))["event"] == "heartbeat":
            pass
        assert (answer["event"], answer["reason"]) == ("refused", "BadMessage")
    assert link_site.readyz()[0] == 200


def test_an_answer_that_nobody_asked_for_and_one_without_an_end_do_no_harm(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("slow")
    eventually(lambda: device.check()[0] == 0, "the gateway's knowledge of the device")
    with opened(device) as connection:
        connection.sendall(frame({"id": 99, "ok": True}) + frame({"id": "x"}))
        # A frame of which one byte comes at a time is cut off: by the time of a whole frame, not of a byte.
        connection.sendall((1000).to_bytes(4, "big"))
        began = time.monotonic()
        with pytest.raises(OSError, match=r"(?i)reset|broken|closed|eof|timed"):
            trickle(connection, 30)
    assert time.monotonic() - began < 15
    assert link_site.readyz()[0] == 200


def trickle(connection: ssl.SSLSocket, seconds: float) -> None:
    """Send a byte every tenth of a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"\x00")
        time.sleep(0.1)


async def test_many_that_say_nothing_do_not_keep_a_device_out(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", link_site.link_port) for _ in range(40)]
    device = new_device("patient")
    device.start()
    await asyncio.to_thread(device.wait_ready)
    for _, writer in idle:
        writer.transport.abort()


def test_of_more_strangers_than_fit_the_rest_is_turned_away(link_site: LinkSite) -> None:
    before = link_site.refusals("TooMany")
    idle = [socket.create_connection(("127.0.0.1", link_site.link_port), timeout=10) for _ in range(80)]
    eventually(lambda: link_site.refusals("TooMany") >= before + 10, "refusals that are counted")
    for item in idle:
        # A reset, so that the gateway need not wait for an end.
        item.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        item.close()

    def told() -> bool:
        """What was not logged is told with the next refusal that is."""
        socket.create_connection(("127.0.0.1", link_site.link_port), timeout=10).close()
        log = link_site.log.read_text()
        return "unlogged=" in log or "reason=TooMany" in log

    eventually(told, "a line about them")
    assert link_site.log.read_text().count("reason=TooMany") < 20


def test_a_second_session_replaces_the_first_only_when_it_is_the_device(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("twice")
    eventually(lambda: device.check()[0] == 0, "the gateway's knowledge of the device")
    with opened(device) as first:
        certificate, key, _ = link_site.device_ca.issue_device("thief", "wasmbed:device:default/twice")
        mine = (device.certificate, device.key)
        device.certificate, device.key = certificate, key
        with secured(device) as thief:
            thief.sendall(frame(HELLO))
            assert receive(thief)["reason"] == "WrongKey"
        device.certificate, device.key = mine
        first.sendall(frame({"event": "heartbeat", **VITALS}))
        assert receive(first) == {"event": "heartbeat"}
        before = link_site.metric("wasmbed_agent_link_replaced_total")
        with opened(device):
            answer = receive(first)
            assert (answer["event"], answer["reason"]) == ("refused", "Replaced")
            assert link_site.metric("wasmbed_agent_link_replaced_total") == before + 1
            assert link_site.link("twice")["state"] == "Connected"


VITALS = {
    "uptime_s": 1,
    "memory_bytes": 1,
    "spooled_bytes": 0,
    "dropped_logs": 0,
    "wasmbed": "0",
    "wasmtime": "",
}


def test_a_device_ends_a_session_with_a_gateway_that_speaks_garbage(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("fooled")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*link_site.site_ca.issue("fake", "gateway"))
    listener = socket.create_server(("127.0.0.1", 0))
    device.port = listener.getsockname()[1]
    device.write_config()
    device.start()
    welcome = {
        "event": "welcome",
        "version": 1,
        "wasmbed": "0",
        "gateway": "g",
        "heartbeat_s": 1.0,
        "taken": {"logs": 0, "sealed": 0},
    }
    answers = [
        (b"\xff" * 8, "is over the limit"),
        (frame({"event": "welcome"}), "heartbeat_s"),
        (frame(welcome) + frame({"event": "what"}), "unknown event"),
        (frame(welcome) + frame({"deliver": 1, "event": "deliver"}), "deliver"),
        (frame(welcome), "silent for"),
    ]
    for answer, words in answers:
        listener.settimeout(30)
        raw, _ = listener.accept()
        connection = server_context.wrap_socket(raw, server_side=True)
        receive(connection)
        connection.sendall(answer)
        device.wait_problem(words)
        connection.close()
    listener.close()


def test_delays_do_not_end_a_session(link_site: LinkSite, new_device: Callable[..., LinuxDevice]) -> None:
    proxy = ThreadedProxy(link_site.link_port)
    device = new_device("far", port=proxy.port)
    device.start()
    device.wait_ready()
    sessions = device.metric("wasmbed_device_sessions_total")
    proxy.delay(0.3)
    beats = device.metric("wasmbed_device_sessions_total")
    before = proxy.forwarded
    eventually(lambda: proxy.forwarded > before + 1000, "heartbeats over a slow link")
    assert device.metric("wasmbed_device_sessions_total") == sessions == beats
    proxy.cut()
