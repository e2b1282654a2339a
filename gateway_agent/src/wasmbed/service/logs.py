"""Logs: systemd's journal by its native protocol where there is one, key=value lines on stderr elsewhere.

The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ (fields as `NAME=value`, or with an 8-byte little-endian
length when the value has a newline).
"""

import contextlib
import json
import logging
import os
import socket
import struct
import sys
from pathlib import Path

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
MAX_MESSAGE_BYTES = 32 * 1024
_SEND_BUFFER_BYTES = 4 * 1024 * 1024

# syslog(3) severities of the levels of `logging`.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_LEVEL_NAMES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")


class _Sink:
    """Where lines go; a journal that is full or away loses lines rather than stopping the event loop."""

    def __init__(self) -> None:
        self.identifier = "wasmbed"
        self.channel: socket.socket | None = None
        self.address = ""

    def open(self, name: str, journal_socket: Path) -> None:
        self.identifier = name
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if journal_socket.is_socket():
            self.address = str(journal_socket)
            self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self.channel.setblocking(False)
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def send(self, message: str, priority: int, fields: dict[str, str]) -> bool:
        if self.channel is None:
            return self._to_stderr(message, priority, fields)
        data = encode_entry(
            {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": self.identifier, **fields}
        )
        try:
            # Not connected: a journal that is restarted keeps being reached.
            self.channel.sendto(data, self.address)
        except OSError:
            return False
        return True

    @staticmethod
    def _to_stderr(message: str, priority: int, fields: dict[str, str]) -> bool:
        line = f"level={_LEVEL_NAMES[priority]} msg={_quoted(message)}"
        line += "".join(f" {name.lower()}={_quoted(value)}" for name, value in fields.items())
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
            return True
        return False


_sink = _Sink()


def encode_entry(fields: dict[str, str]) -> bytes:
    """One journal datagram; a value is cut at 32 KiB."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")[:MAX_MESSAGE_BYTES]
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def journal_send(message: str, priority: int = 6, **fields: str) -> bool:
    """Send one line with journal fields (names A-Z, 0-9, _), priority 0 to 7 as syslog(3); False when it was lost."""
    return _sink.send(message, priority, fields)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
            _sink.send(self.format(record), priority, {"LOGGER": record.name})
        except Exception:
            self.handleError(record)


def setup_logging(name: str, *, journal_socket: Path = JOURNAL_SOCKET) -> None:
    """Send the root logger's records to the journal, or to stderr where there is none; name is the identifier.

    The level is WASMBED_LOG_LEVEL (DEBUG, INFO, WARNING, ERROR), INFO when it is not set.
    """
    _sink.open(name, journal_socket)
    wanted = os.environ.get("WASMBED_LOG_LEVEL", "INFO").upper()
    level = logging.getLevelNamesMapping().get(wanted)
    root = logging.getLogger()
    root.handlers[:] = [_Handler()]
    root.setLevel(logging.INFO if level is None else level)
    # These say at INFO and DEBUG what our own lines say already.
    for noisy in ("asyncio", "urllib3", "oras", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    if level is None:
        logging.getLogger(__name__).warning(
            "WASMBED_LOG_LEVEL %r is not a level; use DEBUG, INFO, WARNING or ERROR", wanted
        )


def _quoted(value: str) -> str:
    plain = value and not any(character in ' "=\\' or not character.isprintable() for character in value)
    return value if plain else json.dumps(value, ensure_ascii=False)
