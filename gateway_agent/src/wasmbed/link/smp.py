"""SMP messages (MCUmgr): the header, results, and what the Wasmbed group (64) is made of.

The groups OS (0) and image (1) are spoken by the package `smpclient`; see `mcuboot`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import cbor2

HEADER: Final = struct.Struct(">BBHHBB")
GROUP_OS: Final = 0
GROUP_IMAGE: Final = 1
GROUP_WASMBED: Final = 64
_VERSION: Final = 1


class SmpError(Exception):
    """Bytes that are no SMP message, or an answer without what it must have."""


class Op(IntEnum):
    """Operations; an answer's is its request's and one more."""

    READ = 0
    READ_ANSWER = 1
    WRITE = 2
    WRITE_ANSWER = 3


class Id(IntEnum):
    """Commands of the Wasmbed group; from 32 on the device's own messages."""

    INFO = 0
    UPLOAD = 1
    MODULES = 2
    REMOVE = 3
    START = 4
    STOP = 5
    INSTANCES = 6
    DELIVER = 7
    SENSOR = 8
    STATISTICS = 9
    CRASH = 10
    TIME = 11
    GATEWAY_KEY = 12
    DEVICE_KEY = 13
    PROVIDE = 14
    SECRET = 15
    HEARTBEAT = 32
    LOG = 33
    STATE = 34
    TELEMETRY = 35
    REQUEST = 36


class Result(IntEnum):
    """MCUmgr's results."""

    OK = 0
    UNKNOWN = 1
    NO_ROOM = 2
    INVALID = 3
    TIMEOUT = 4
    NOT_FOUND = 5
    BAD_STATE = 6
    TOO_LONG = 7
    NOT_SUPPORTED = 8
    CORRUPT = 9
    BUSY = 10
    DENIED = 11


class ResultError(Exception):
    """The device's answer to what it does not carry out."""

    def __init__(self, result: int, reason: str, group: int | None = None) -> None:
        """group: the result is an error of this group, not one of all."""
        super().__init__(reason or (f"result {result}" if group is None else f"error {result} of group {group}"))
        self.result = result
        self.reason = reason
        self.group = group


@dataclass(frozen=True)
class Message:
    """One message; body is the CBOR map."""

    op: int
    group: int
    seq: int
    id: int
    body: dict[Any, Any]


def encode(op: int, group: int, seq: int, command: int, body: dict[Any, Any]) -> bytes:
    """Make a message."""
    payload = cbor2.dumps(body)
    return HEADER.pack(_VERSION << 3 | op, 0, len(payload), group, seq, command) + payload


def header(data: bytes) -> tuple[int, int, int, int]:
    """Return operation, group, sequence and command of a message; raises SmpError."""
    if len(data) < HEADER.size:
        raise SmpError(f"{len(data)} bytes are no message")
    first, _, length, group, seq, command = HEADER.unpack_from(data)
    if length != len(data) - HEADER.size:
        raise SmpError(f"the header says {length} bytes and {len(data) - HEADER.size} follow")
    return first & 7, group, seq, command


def decode(data: bytes) -> Message:
    """Read a message; raises SmpError and nothing else."""
    op, group, seq, command = header(data)
    try:
        body = cbor2.loads(data[HEADER.size :])
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise SmpError(f"not CBOR: {error}") from error
    if not isinstance(body, dict):
        raise SmpError("not a map")
    return Message(op, group, seq, command, body)


def raise_result(body: dict[Any, Any]) -> None:
    """Raise ResultError when an answer is a refusal."""
    result, group = body.get("rc", 0), None
    if isinstance(body.get("err"), dict):
        result, group = body["err"].get("rc", 0), body["err"].get("group")
    if type(result) is not int or type(group) not in (int, type(None)):
        raise SmpError("the result is not a number")
    if result != 0:
        reason = body.get("rsn", "")
        raise ResultError(result, reason[:256] if isinstance(reason, str) else "", group)


def octets(body: dict[Any, Any], key: int, *, length: int | None = None) -> bytes:
    """Return a byte string of an answer; raises SmpError."""
    value = body.get(key)
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise SmpError(f"field {key} is not {length if length is not None else 'some'} bytes")
    return value


def number(body: dict[Any, Any], key: int, *, most: int = (1 << 32) - 1) -> int:
    """Return a number from 0 to most of an answer; raises SmpError."""
    value = body.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise SmpError(f"field {key} is not a number from 0 to {most}")
    return value


def text(body: dict[Any, Any], key: int, *, limit: int = 256) -> str:
    """Return a text of an answer; raises SmpError."""
    value = body.get(key)
    if not isinstance(value, str) or len(value) > limit:
        raise SmpError(f"field {key} is not a text of at most {limit} characters")
    return value
