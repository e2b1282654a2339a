"""Logs in the journal's native protocol and on stderr."""

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasmbed.service import journal_send, setup_logging


@pytest.fixture(autouse=True)
def keep_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    setup_logging("tests", journal_socket=Path("/nonexistent"))
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(60)
        yield server


def decode(data: bytes) -> dict[str, str]:
    """Read an entry as https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ writes it."""
    fields = {}
    while data:
        line, data = data.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_records_go_to_the_journal_with_priority(journal: socket.socket, tmp_path: Path) -> None:
    setup_logging("wasmbed-agent", journal_socket=tmp_path / "journal")
    logging.getLogger("wasmbed.gateway").warning("pull failed digest=%s", "sha256:1")
    assert decode(journal.recv(65536)) == {
        "MESSAGE": "pull failed digest=sha256:1",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "wasmbed-agent",
        "LOGGER": "wasmbed.gateway",
    }


def test_application_lines_carry_fields_and_cannot_forge_others(journal: socket.socket, tmp_path: Path) -> None:
    setup_logging("wasmbed-agent", journal_socket=tmp_path / "journal")
    text = "first\nPRIORITY=0\nWASMBED_APPLICATION=other/app"
    assert journal_send(text, 6, WASMBED_APPLICATION="default/hello")
    entry = decode(journal.recv(65536))
    assert (entry["MESSAGE"], entry["PRIORITY"], entry["WASMBED_APPLICATION"]) == (text, "6", "default/hello")


def test_a_journal_that_does_not_read_loses_lines_instead_of_blocking(journal: socket.socket, tmp_path: Path) -> None:
    setup_logging("wasmbed-agent", journal_socket=tmp_path / "journal")
    results = [journal_send("x" * 1000) for _ in range(20000)]
    assert results[0]
    assert not results[-1]


def test_without_a_journal_lines_are_key_value_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WASMBED_LOG_LEVEL", "debug")
    setup_logging("wasmbed-agent", journal_socket=tmp_path / "none")
    logging.getLogger("a").debug("two words\nand a line")
    journal_send("hello", 4, WASMBED_DEVICE="default/d")
    assert capsys.readouterr().err == (
        'level=debug msg="two words\\nand a line" logger=a\nlevel=warning msg=hello wasmbed_device=default/d\n'
    )


def test_an_unknown_level_is_told_and_info_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WASMBED_LOG_LEVEL", "loud")
    setup_logging("wasmbed-agent", journal_socket=tmp_path / "none")
    assert "use DEBUG, INFO, WARNING or ERROR" in capsys.readouterr().err
    assert logging.getLogger().level == logging.INFO
