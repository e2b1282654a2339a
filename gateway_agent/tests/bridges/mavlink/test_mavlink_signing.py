"""Signing by the guide's rules: replay, rollback, wrong key, clocks, what is on disk. Checked with pymavlink."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.frames import Frame, FrameParser, make_frame
from wasmbed.bridges.mavlink.keystore import KeyStore, KeyStoreError, new_key, parse_state
from wasmbed.bridges.mavlink.signing import Signer, SigningState, Verdict, timestamp_of
from wasmbed_sitl import SimulatedVehicle

DIALECT = default_dialect()
KEY = bytes(range(32))
NOW = 1_800_000_000.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def signed(signer: Signer, *, link: int = 1, system: int = 1, sequence: int = 0, name: str = "HEARTBEAT") -> Frame:
    raw = make_frame(DIALECT[name], {}, system=system, component=1, sequence=sequence, signed=True)
    (frame,) = FrameParser().feed(signer.sign(raw, link))
    return frame


def test_pymavlink_accepts_our_signature_and_we_its() -> None:
    module = importlib.import_module("pymavlink.dialects.v20.common")
    theirs = module.MAVLink(None, 1, 1)
    theirs.signing.secret_key = KEY
    theirs.signing.timestamp = timestamp_of(NOW)
    theirs.signing.sign_outgoing = True
    theirs.signing.link_id = 3
    raw = bytes(module.MAVLink_heartbeat_message(2, 12, 0, 0, 4, 3).pack(theirs))
    ours = Signer(KEY, Clock())
    (frame,) = FrameParser().feed(raw)
    assert ours.check(frame) is Verdict.ACCEPTED
    checker = module.MAVLink(None, 2, 1)
    checker.signing.secret_key = KEY
    checker.signing.timestamp = timestamp_of(NOW)
    received = checker.parse_char(signed(ours).raw)
    assert received.get_type() == "HEARTBEAT"
    checker.signing.secret_key = bytes(32)
    with pytest.raises(module.MAVError):
        checker.parse_char(signed(ours, sequence=1).raw)


@pytest.mark.parametrize(("key", "times"), [(KEY, 1), (None, 2)], ids=["signed", "not signed"])
def test_an_order_that_the_link_doubles_is_done_once_when_it_is_signed(key: bytes | None, times: int) -> None:
    """MAVLink has nothing else that tells a copy from a new order; the other end is pymavlink."""
    theirs = importlib.import_module("pymavlink.dialects.v20.common").MAVLink(None, 1, 1)
    theirs.robust_parsing = True
    theirs.signing.secret_key = key
    theirs.signing.timestamp = timestamp_of(NOW)
    vehicle = SimulatedVehicle()
    values = {"command": 2000, "target_system": 1, "target_component": 1}
    raw = make_frame(DIALECT["COMMAND_LONG"], values, system=245, component=191, sequence=0, signed=key is not None)
    if key is not None:
        raw = Signer(key, Clock()).sign(raw, 1)
    for item in theirs.parse_buffer(raw + raw):
        if item.get_type() == "COMMAND_LONG":
            vehicle.handle("COMMAND_LONG", item.to_dict(), (245, 191), 1.0)
    assert [command for _, command, _ in vehicle.executed] == [2000] * times


def test_a_frame_is_accepted_once() -> None:
    sender, receiver = Signer(KEY, Clock()), Signer(KEY, Clock())
    first, second = signed(sender), signed(sender, sequence=1)
    assert receiver.check(second) is Verdict.ACCEPTED
    assert receiver.check(second) is Verdict.REPLAYED
    assert receiver.check(first) is Verdict.REPLAYED


def test_streams_of_links_and_systems_are_apart() -> None:
    sender, receiver = Signer(KEY, Clock()), Signer(KEY, Clock())
    early, late = signed(sender, link=1), signed(sender, link=2)
    assert receiver.check(late) is Verdict.ACCEPTED
    assert receiver.check(early) is Verdict.ACCEPTED


def test_a_new_stream_more_than_a_minute_behind_is_refused() -> None:
    receiver = Signer(KEY, Clock())
    assert receiver.check(signed(Signer(KEY, Clock(NOW - 59)))) is Verdict.ACCEPTED
    assert receiver.check(signed(Signer(KEY, Clock(NOW - 61)), link=2)) is Verdict.TOO_OLD


def test_a_wrong_key_changes_nothing() -> None:
    receiver = Signer(KEY, Clock())
    before = receiver.state()
    assert receiver.check(signed(Signer(bytes(32), Clock(NOW + 10_000)))) is Verdict.BAD_SIGNATURE
    assert receiver.state() == before


def test_a_clock_set_back_does_not_set_the_time_back() -> None:
    clock = Clock()
    signer = Signer(KEY, clock)
    first = signed(signer)
    clock.now -= 86_400
    second = signed(signer, sequence=1)
    assert second.timestamp == first.timestamp + 1
    assert Signer(KEY, clock, signer.state()).timestamp >= second.timestamp


def test_the_time_follows_a_peer_that_is_ahead() -> None:
    receiver = Signer(KEY, Clock())
    ahead = signed(Signer(KEY, Clock(NOW + 3600)))
    assert receiver.check(ahead) is Verdict.ACCEPTED
    assert signed(receiver).timestamp > ahead.timestamp


def test_unsigned_frames_are_refused_but_for_the_radio() -> None:
    receiver = Signer(KEY, Clock())
    (plain,) = FrameParser().feed(make_frame(DIALECT["HEARTBEAT"], {}, system=1, component=1, sequence=0))
    (radio,) = FrameParser().feed(make_frame(DIALECT["RADIO_STATUS"], {}, system=1, component=1, sequence=0))
    assert receiver.check(plain) is Verdict.UNSIGNED
    assert receiver.check(radio) is Verdict.UNSIGNED_ACCEPTED
    assert receiver.check(plain, accept_unsigned=True) is Verdict.UNSIGNED_ACCEPTED


@given(st.lists(st.integers(0, 19), max_size=60), st.lists(st.floats(-1e5, 1e5), min_size=20, max_size=20))
@settings(deadline=None)
def test_whatever_is_replayed_in_whatever_order_nothing_is_accepted_twice(order: list[int], jumps: list[float]) -> None:
    clock = Clock()
    sender, receiver = Signer(KEY, clock), Signer(KEY, Clock())
    frames = []
    for number, jump in enumerate(jumps):
        clock.now += jump
        frames.append(signed(sender, sequence=number))
    stamps = [frame.timestamp for frame in frames]
    assert stamps == sorted(set(stamps))
    accepted = [index for index in order if receiver.check(frames[index]) is Verdict.ACCEPTED]
    assert len(accepted) == len(set(accepted))


def store_with_key(folder: Path, clock: Any) -> KeyStore:
    path = folder / "fleet.key"
    if not path.exists():
        path.write_text(new_key())
        path.chmod(0o600)
    return KeyStore(folder, clock)


def test_after_a_restart_nothing_is_accepted_again(tmp_path: Path) -> None:
    clock = Clock()
    store = store_with_key(tmp_path, clock)
    signer = store.signer("fleet")
    sender = Signer(bytes.fromhex((tmp_path / "fleet.key").read_text()), Clock())
    frame = signed(sender)
    assert signer.check(frame) is Verdict.ACCEPTED
    own = signed(signer, system=9).timestamp
    store.save(store.snapshot())
    clock.now -= 1000.0
    again = store_with_key(tmp_path, clock).signer("fleet")
    assert again.check(frame) is Verdict.REPLAYED
    assert signed(again, system=9).timestamp > own
    assert (tmp_path / "fleet.state").stat().st_mode & 0o777 == 0o600


def test_an_unclean_end_reuses_no_time(tmp_path: Path) -> None:
    clock = Clock()
    store = store_with_key(tmp_path, clock)
    signer = store.signer("fleet")
    store.save(store.snapshot())
    clock.now += 14.0
    own = signed(signer).timestamp
    clock.now = 0.0
    assert signed(store_with_key(tmp_path, clock).signer("fleet")).timestamp > own


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store = store_with_key(tmp_path, Clock())
    (tmp_path / "fleet.key").chmod(0o640)
    with pytest.raises(KeyStoreError, match="0600"):
        store.signer("fleet")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "."])
def test_a_key_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyStoreError, match="key name"):
        KeyStore(tmp_path).signer(name)


def test_a_damaged_state_is_not_passed_over(tmp_path: Path) -> None:
    store = store_with_key(tmp_path, Clock())
    path = tmp_path / "fleet.state"
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(KeyStoreError, match="damaged"):
        store.signer("fleet")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_a_state_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    try:
        assert isinstance(parse_state(data), SigningState)
    except (ValueError, RecursionError):
        return


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="create it"):
        KeyStore(tmp_path).signer("none")
    assert not list(os.scandir(tmp_path))
