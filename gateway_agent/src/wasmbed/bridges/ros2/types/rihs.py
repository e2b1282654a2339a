"""RIHS01: the hash of a type by its structure (REP-2011); names and types count, defaults and constants do not."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wasmbed.bridges.ros2.types.model import FieldType, Message
    from wasmbed.bridges.ros2.types.store import TypeStore

_TYPE_IDS: Final = {
    "int8": 2,
    "uint8": 3,
    "char": 3,
    "int16": 4,
    "uint16": 5,
    "int32": 6,
    "uint32": 7,
    "int64": 8,
    "uint64": 9,
    "float32": 10,
    "float64": 11,
    "bool": 15,
    "byte": 16,
    "string": 17,
    "wstring": 18,
}
_NESTED: Final = 1
_BOUNDED_STRING: Final = 4  # added to the id of a string
_KIND: Final = {"single": 0, "array": 48, "bounded": 96, "sequence": 144}


def _type(field_type: FieldType) -> dict[str, Any]:
    type_id = _NESTED if field_type.nested else _TYPE_IDS[field_type.base]
    if field_type.string_bound:
        type_id += _BOUNDED_STRING
    kind = "bounded" if field_type.kind == "sequence" and field_type.size else field_type.kind
    return {
        "type_id": type_id + _KIND[kind],
        "capacity": field_type.size,
        "string_capacity": field_type.string_bound,
        "nested_type_name": field_type.base if field_type.nested else "",
    }


def _description(message: Message) -> dict[str, Any]:
    return {
        "type_name": message.name,
        "fields": [{"name": field.name, "type": _type(field.type)} for field in message.wire_fields],
    }


def type_hash(store: TypeStore, name: str) -> str:
    """`RIHS01_` and 64 hexadecimal digits, for a message, a service, an action or a part of one."""
    closure = store.closure(name)
    first, *others = closure.values()
    description = {
        "type_description": _description(first),
        "referenced_type_descriptions": [_description(closure[key]) for key in sorted(other.name for other in others)],
    }
    return "RIHS01_" + hashlib.sha256(json.dumps(description).encode()).hexdigest()
