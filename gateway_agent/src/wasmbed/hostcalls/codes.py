"""What a host call came to (docs/abi.md)."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """0 or an error code of application ABI 1, as in `runtime.abi.Code`."""

    OK = 0
    DENIED = -1
    NOTFOUND = -2
    IO = -5
    AGAIN = -11
    BUSY = -16
    UNAVAILABLE = -19
    INVALID = -22
    TIMEOUT = -62
    REJECTED = -71
    RATE = -75
    TOOBIG = -90
