"""Faithful cyclonedds types of ROS messages: for matching, type objects and the typed calls; bytes go around them."""

from __future__ import annotations

import importlib
import keyword
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from wasmbed.bridges.ros2.names import dds_type
from wasmbed.bridges.ros2.types.rihs import type_hash

if TYPE_CHECKING:
    from wasmbed.bridges.ros2.types.model import FieldType
    from wasmbed.bridges.ros2.types.store import TypeStore

_idl: Any = importlib.import_module("cyclonedds.idl")
_types: Any = importlib.import_module("cyclonedds.idl.types")

_BASES: Final = {
    "bool": bool,
    "byte": _types.byte,
    "char": _types.uint8,
    "int8": _types.int8,
    "uint8": _types.uint8,
    "int16": _types.int16,
    "uint16": _types.uint16,
    "int32": _types.int32,
    "uint32": _types.uint32,
    "int64": _types.int64,
    "uint64": _types.uint64,
    "float32": _types.float32,
    "float64": _types.float64,
    "string": str,
    # The package has no wide strings; a sequence of units has the same bytes.
    "wstring": _types.sequence[_types.uint32],
}
_MAX_BOUND: Final = 65535  # of a sequence in the package
# Identity of a request in Cyclone's services: before the request and, echoed, before the reply.
HEADER_FIELDS: Final = {"guid": _types.uint64, "seq": _types.int64}


class DdsTypes:
    """Makes the types of a store; each once in the process, whatever the store.

    The package aborts, or takes all memory, when a type of one name is made some thirty times over.
    """

    _made: ClassVar[dict[tuple[str, str, bool], Any]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, store: TypeStore) -> None:
        self._store = store
        self._own: dict[tuple[str, bool], Any] = {}

    def get(self, name: str, *, header: bool = False) -> Any:
        """The type of `package/msg/Name`, with `header` as it goes in Cyclone's services."""
        found = self._own.get((name, header))
        if found is None:
            key = (name, type_hash(self._store, name), header)
            with self._lock:
                if key not in self._made:
                    self._made[key] = self._make(name, header)
                found = self._own[name, header] = self._made[key]
        return found

    def _make(self, name: str, header: bool) -> Any:
        fields = dict(HEADER_FIELDS) if header else {}
        for field in self._store.message(name).wire_fields:
            fields[field.name] = self._field(field.type)
        return _idl.make_idl_struct(
            name.rsplit("/", 1)[1] + "_",
            dds_type(name).replace("::", "."),
            fields,
            dataclassify=not any(map(keyword.iskeyword, fields)),
        )

    def _field(self, kind: FieldType) -> Any:
        if kind.nested:
            base = self.get(kind.base)
        elif kind.string_bound and kind.base == "string":
            base = _types.bounded_str[kind.string_bound]
        else:
            base = _BASES[kind.base]
        if kind.kind == "array":
            return _types.array[base, kind.size]
        if kind.kind == "sequence":
            return _types.sequence[base, kind.size] if 0 < kind.size <= _MAX_BOUND else _types.sequence[base]
        return base
