"""The gateway's key of serial links: made once, for its owner alone."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from wasmbed.gateway.line_keys import LineKeyError, read_key
from wasmbed.tools import link_key
from wasmbed.tools.main import parser

if TYPE_CHECKING:
    from pathlib import Path


def test_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    public, changed = link_key.ensure(path)
    assert changed
    assert path.stat().st_mode & 0o777 == 0o600
    assert link_key.ensure(path) == (public, False)
    assert (tmp_path / "serial.key.pub").read_text() == f"{public}\n"
    assert base64.b64decode(public) == link_key.read(path).public_key().public_bytes_raw()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["serial.key", "serial.key.pub"]


def test_public_key_that_was_lost_or_spoiled_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    public, _ = link_key.ensure(path)
    (tmp_path / "serial.key.pub").write_text("something else")
    assert link_key.ensure(path) == (public, True)
    assert link_key.ensure(path) == (public, False)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(bytes(31)).decode(), "A" * 1000])
def test_file_that_is_no_key_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "serial.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(link_key.LinkKeyError, match=r"serial\.key does not hold 32 bytes"):
        link_key.ensure(path)
    assert path.read_text() == text


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    link_key.ensure(path)
    path.chmod(0o640)
    with pytest.raises(link_key.LinkKeyError, match="mode 0600"):
        link_key.read(path)


def test_command_prints_the_public_key_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "serial.key"
    for word in ("changed", "ok"):
        arguments = parser().parse_args(["link-key", str(path)])
        assert arguments.action(arguments) == 0
        printed = capsys.readouterr().out
        assert printed == f"{word} {(tmp_path / 'serial.key.pub').read_text()}"
        assert path.read_text().strip() not in printed


def test_rotation_keeps_the_key_before_until_it_is_ended(tmp_path: Path) -> None:
    path, previous = tmp_path / "serial.key", tmp_path / "serial.key.previous"
    before, _ = link_key.ensure(path)
    key = path.read_text()
    assert link_key.rotate(path, timedelta(days=7), check=True)
    assert path.read_text() == key
    assert not previous.exists()
    assert link_key.rotate(path, timedelta(days=7))
    after, changed = link_key.ensure(path)
    assert (after != before, changed) == (True, False)
    assert previous.read_text() == key
    assert previous.stat().st_mode & 0o777 == 0o600
    until = datetime.fromisoformat((tmp_path / "serial.key.previous.until").read_text().strip())
    assert timedelta(days=6.9) < until - datetime.now(UTC) <= timedelta(days=7)
    # One that is under way is left as it is: devices may know the key before alone.
    assert not link_key.rotate(path, timedelta(days=1))
    assert link_key.ensure(path)[0] == after
    assert link_key.end(path, check=True)
    assert previous.exists()
    assert link_key.end(path)
    assert not link_key.end(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["serial.key", "serial.key.pub"]


def test_rotation_that_broke_off_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    before, _ = link_key.ensure(path)
    previous = tmp_path / "serial.key.previous"
    previous.touch(0o600)
    previous.write_text(path.read_text())
    assert link_key.rotate(path, timedelta(days=7))
    assert link_key.ensure(path)[0] != before


def test_rotation_that_broke_off_before_the_public_key_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    link_key.ensure(path)
    beside = tmp_path / "serial.key.pub"
    before = beside.read_text()
    assert link_key.rotate(path, timedelta(days=7))
    after = beside.read_text()
    beside.write_text(before)
    assert link_key.rotate(path, timedelta(days=7))
    assert beside.read_text() == after
    assert not link_key.rotate(path, timedelta(days=7))


def test_agent_refuses_a_key_file_that_goes_on_behind_a_key(tmp_path: Path) -> None:
    path = tmp_path / "serial.key"
    link_key.ensure(path)
    read_key(path)
    path.write_text(path.read_text() + " " * 300)
    with pytest.raises(LineKeyError, match="more than 256 bytes"):
        read_key(path)


def test_command_rotates_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "serial.key")
    answers = []
    for options in (
        [],
        ["--rotate", "--check"],
        ["--rotate", "--overlap-days", "0.5"],
        ["--rotate"],
        ["--end"],
        ["--end"],
    ):
        arguments = parser().parse_args(["link-key", path, *options])
        assert arguments.action(arguments) == 0
        answers.append(capsys.readouterr().out.split())
    assert [word for word, _ in answers] == ["changed", "changed", "changed", "ok", "changed", "ok"]
    assert len({key for _, key in answers}) == 2
    with pytest.raises(SystemExit):
        parser().parse_args(["link-key", path, "--rotate", "--overlap-days", "0"])
