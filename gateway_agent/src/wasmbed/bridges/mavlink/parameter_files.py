"""Parameter files and the cache: QGroundControl's tab-separated `.params` and ArduPilot's `NAME value` `.parm`."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wasmbed.bridges.mavlink.keystore import write_private
from wasmbed.bridges.mavlink.parameter_values import FLOAT, Number, Parameter, same
from wasmbed.bridges.mavlink.parameters import ParameterList

MAX_FILE_BYTES = 1024 * 1024
_QGC_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class FileParameter:
    """A value from a file; `type` is None where the file does not say it."""

    name: str
    value: Number
    type: int | None = None
    component: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What a vehicle has (None: nothing) and what a file wants."""

    name: str
    present: Number | None
    wanted: Number


def parse_file(text: str) -> list[FileParameter]:
    """The parameters of a file of either kind. ValueError names the line that cannot be read."""
    found: dict[tuple[str, int | None], FileParameter] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "//")):
            continue
        parts = stripped.split("\t") if "\t" in stripped else stripped.replace(",", " ").split()
        try:
            item = _parse_parts(parts)
        except ValueError as error:
            raise ValueError(
                f"line {number}: {error}; write NAME and value, or QGroundControl's five columns"
            ) from None
        if (item.name, item.component) in found:
            raise ValueError(f"line {number}: {item.name} is there twice; remove one")
        found[item.name, item.component] = item
    return list(found.values())


def _parse_parts(parts: list[str]) -> FileParameter:
    if len(parts) == _QGC_COLUMNS and parts[0].isdigit():
        component, name, kind = int(parts[1]), parts[2], int(parts[4])
        return FileParameter(_name(name), _number(parts[3], kind), kind, component)
    if len(parts) < 2:
        raise ValueError(f"{' '.join(parts)!r} has no value")
    return FileParameter(_name(parts[0]), _number(parts[1], None))


def _name(text: str) -> str:
    if not 1 <= len(text) <= 16 or not text.isascii():
        raise ValueError(f"{text!r} is not a parameter name")
    return text


def _number(text: str, kind: int | None) -> Number:
    value: Number
    if kind == FLOAT or (kind is None and not text.lstrip("+-").isdigit()):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is not a number")
        return value
    return int(text)


def write_file(parameters: Mapping[str, Parameter], system: int, component: int = 1) -> str:
    """QGroundControl's format. Floats have the nine digits that a 32-bit float needs."""
    lines = ["# Vehicle-Id\tComponent-Id\tName\tValue\tType"]
    for item in sorted(parameters.values(), key=lambda item: item.name):
        value = f"{item.value:.9g}" if item.type == FLOAT else str(item.value)
        lines.append(f"{system}\t{component}\t{item.name}\t{value}\t{item.type}")
    return "\n".join(lines) + "\n"


def differences(wanted: list[FileParameter], present: Mapping[str, Parameter]) -> list[Difference]:
    """What has to be written so that the vehicle has the file's values. Types are the vehicle's."""
    found = []
    for item in wanted:
        here = present.get(item.name)
        if here is None or not same(here.value, item.value, here.type):
            found.append(Difference(item.name, None if here is None else here.value, item.value))
    return found


class ParameterCache:
    """All parameters of a vehicle, kept on disk under the hash the vehicle gave for them.

    A hash stands for the values PX4 counts in, which are not its volatile ones: those may be older in the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, vehicle: str) -> bool:
        """Whether there is something of this vehicle, under whatever hash."""
        return self._path(vehicle).is_file()

    def load(self, vehicle: str, hash_check: int) -> dict[str, Parameter] | None:
        """The parameters stored under this hash; None when there are none or the file is damaged."""
        try:
            path = self._path(vehicle)
            if path.stat().st_size > MAX_FILE_BYTES:
                return None
            return parse_cache(path.read_bytes(), hash_check)
        except (OSError, ValueError):
            return None

    def store(self, vehicle: str, complete: ParameterList) -> None:
        """Keep a complete list that has a hash; OSError when the disk does not take it."""
        if not complete.ok or complete.hash is None:
            return
        rows = [[item.name, item.value, item.type, item.index] for item in complete.parameters.values()]
        data = json.dumps({"hash": complete.hash, "parameters": rows}).encode()
        write_private(self._path(vehicle), data)

    def _path(self, vehicle: str) -> Path:
        if not vehicle.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{vehicle!r} cannot name a cache file")
        return self._folder / f"{vehicle}.parameters.json"


def parse_cache(data: bytes, hash_check: int) -> dict[str, Parameter] | None:
    """The parameters of a cache file if it is for this hash; ValueError when it is not a cache file."""
    value = json.loads(data)
    if not isinstance(value, dict) or not isinstance(value.get("parameters"), list):
        raise ValueError("not a parameter cache")
    if value.get("hash") != hash_check:
        return None
    found = {}
    for row in value["parameters"]:
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError("a row is not name, value, type and index")
        name, number, kind, index = row
        if not isinstance(name, str) or type(number) not in (int, float) or type(kind) is not int:
            raise ValueError(f"{row!r} is not a parameter")
        found[name] = Parameter(name, number, kind, index if type(index) is int else -1)
    return found
