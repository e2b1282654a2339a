"""`wasmbed sensors`: feeds the simulated sensors of a QEMU board over its second serial port.

Frame: 0xA5, u8 kind (as abi.SensorKind), u8 length of the values, the values (little-endian), u8 0xFF minus the sum of
kind, length and values modulo 256. docs/firmware.md describes it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.abi import SensorKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

MARK: Final = 0xA5
# Values of each kind and how often they come, in Hz, as `sensor.info` of the firmware says.
FORMATS: Final = {
    SensorKind.IMU: (struct.Struct("<6f"), 100.0),
    SensorKind.BAROMETER: (struct.Struct("<2f"), 25.0),
    SensorKind.GPS: (struct.Struct("<3d"), 5.0),
    SensorKind.BATTERY: (struct.Struct("<3f"), 1.0),
}
_RETRY_S: Final = 1.0
# One turn of the simulated circle.
_TURN_S: Final = 40.0
_RADIUS_M: Final = 30.0
_HOME: Final = (47.397742, 8.545594, 488.0)
_METRES_PER_DEGREE: Final = 111_319.5
_FLIGHT_S: Final = 1500.0


def frame(kind: SensorKind, *values: float) -> bytes:
    """One sample as it goes over the port; raises struct.error for a wrong number of values."""
    data = FORMATS[kind][0].pack(*values)
    body = bytes((kind, len(data))) + data
    return bytes((MARK,)) + body + bytes((0xFF - sum(body) % 256,))


def sample(kind: SensorKind, at_s: float) -> tuple[float, ...]:
    """What a sensor of a vehicle that flies circles at 50 m measures, in the units of docs/abi.md."""
    turn = 2 * math.pi / _TURN_S
    angle = turn * at_s
    match kind:
        case SensorKind.IMU:
            inward = _RADIUS_M * turn * turn
            return (inward * math.cos(angle), inward * math.sin(angle), -9.81, 0.0, 0.0, turn)
        case SensorKind.BAROMETER:
            return (101_325.0 * (1 - 2.25577e-5 * (_HOME[2] + 50.0)) ** 5.25588, 21.5)
        case SensorKind.GPS:
            north, east = _RADIUS_M * math.sin(angle), _RADIUS_M * math.cos(angle)
            wide = _METRES_PER_DEGREE * math.cos(math.radians(_HOME[0]))
            return (_HOME[0] + north / _METRES_PER_DEGREE, _HOME[1] + east / wide, _HOME[2] + 50.0)
        case SensorKind.BATTERY:
            left = max(0.0, 1 - at_s / _FLIGHT_S)
            return (14.0 + 2.8 * left, 12.0, 100.0 * left)
        case _:
            raise ValueError(f"no simulated sensor of kind {kind}")


def frames(rate: float = 1.0) -> Iterator[tuple[float, bytes]]:
    """Frames for ever, in order, each with its time in seconds; rate scales how often they come."""
    due = dict.fromkeys(FORMATS, 0.0)
    while True:
        kind = min(due, key=lambda one: due[one])
        yield due[kind], frame(kind, *sample(kind, due[kind]))
        due[kind] += 1 / (FORMATS[kind][1] * rate)


def feed(path: str, rate: float) -> None:
    """Feed the port behind a UNIX socket for ever, again after it was gone."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as port:
            port.connect(path)
            port.settimeout(_RETRY_S)
            since = time.monotonic() - began
            for at_s, data in frames(rate):
                if at_s < since:
                    continue
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                port.sendall(data)
        time.sleep(_RETRY_S)


def run(arguments: argparse.Namespace) -> int:
    """The command; ends by a signal."""
    feed(arguments.socket, arguments.rate)
    return 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    one = commands.add_parser("sensors", help="feed the simulated sensors of a QEMU board")
    one.add_argument("socket", metavar="PATH", help="UNIX socket of the board's second serial port")
    one.add_argument("--rate", type=float, default=0.1, help="of the sensors' own rates (100, 25, 5 and 1 Hz)")
    one.set_defaults(action=run)
