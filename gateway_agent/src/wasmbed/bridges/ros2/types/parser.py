"""Reads .msg, .srv and .action text: fields, defaults, constants, bounds; every size is limited."""

from __future__ import annotations

import ast
import re
from typing import Final

from wasmbed.bridges.ros2.errors import DefinitionError
from wasmbed.bridges.ros2.types.model import (
    FLOATS,
    PRIMITIVE_SIZES,
    STRINGS,
    Action,
    Constant,
    Default,
    Definition,
    Field,
    FieldType,
    Message,
    Scalar,
    Service,
    integer_range,
)

MAX_TEXT: Final = 1 << 20
MAX_MEMBERS: Final = 4096
MAX_ARRAY: Final = 1 << 24

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
_TYPE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,127}/(msg|srv|action)/[A-Za-z][A-Za-z0-9_]{0,127}")
_TYPE: Final = re.compile(
    r"(?P<base>[A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*){0,2})"
    r"(?:<=(?P<string>\d{1,9}))?(?P<brackets>\[(?P<upper><=)?(?P<size>\d{0,9})\])?"
)
_SEPARATOR: Final = "---"


def check_type_name(name: str) -> str:
    """Return `package/kind/Name`; `package/Name` is taken as a message. Raises DefinitionError."""
    if name.count("/") == 1:
        name = name.replace("/", "/msg/")
    if not _TYPE_NAME.fullmatch(name):
        raise DefinitionError(f"{name[:80]!r} is not the name of an interface: expected package/msg/Name")
    return name


def parse(name: str, text: str) -> Definition:
    """Read the definition `name` (`package/msg/Name`, `package/srv/Name` or `package/action/Name`).

    Raises:
        DefinitionError: with the name and the line.
    """
    name = check_type_name(name)
    if len(text) > MAX_TEXT:
        raise DefinitionError(f"{name}: the definition is longer than {MAX_TEXT} characters")
    parts: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() == _SEPARATOR:
            parts.append([])
        else:
            parts[-1].append((number, line))
    kind = name.split("/")[1]
    expected = {"msg": 1, "srv": 2, "action": 3}[kind]
    if len(parts) != expected:
        raise DefinitionError(f"{name}: {len(parts)} sections between lines of ---, a .{kind} has {expected}")
    if kind == "msg":
        return _message(name, name, parts[0])
    if kind == "srv":
        return Service(name, _message(name, f"{name}_Request", parts[0]), _message(name, f"{name}_Response", parts[1]))
    return Action(
        name,
        *(
            _message(name, f"{name}_{part}", lines)
            for part, lines in zip(("Goal", "Result", "Feedback"), parts, strict=True)
        ),
    )


def _message(source: str, name: str, lines: list[tuple[int, str]]) -> Message:
    fields: list[Field] = []
    constants: list[Constant] = []
    seen: set[str] = set()
    package = name.split("/", 1)[0]
    for number, line in lines:
        statement = _without_comment(line).strip()
        if not statement:
            continue
        try:
            member = _member(package, statement)
        except (ValueError, DefinitionError) as error:
            raise DefinitionError(f"{source}:{number}: {error}") from None
        if member.name in seen:
            raise DefinitionError(f"{source}:{number}: {member.name} is defined twice")
        seen.add(member.name)
        if len(seen) > MAX_MEMBERS:
            raise DefinitionError(f"{source}:{number}: more than {MAX_MEMBERS} members")
        if isinstance(member, Field):
            fields.append(member)
        else:
            constants.append(member)
    return Message(name, tuple(fields), tuple(constants))


def _without_comment(line: str) -> str:
    """Cut at the first # outside quotes; a backslash escapes in quotes."""
    if "#" not in line:
        return line
    quote = ""
    escaped = False
    for index, character in enumerate(line):
        if quote:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == quote:
                quote = ""
        elif character in "\"'" and (index == 0 or line[index - 1] in " \t=[,"):
            quote = character
        elif character == "#":
            return line[:index]
    # An apostrophe in a comment is no quote: what opened one never closed.
    return line if not quote else line.split("#", 1)[0]


def _member(package: str, statement: str) -> Field | Constant:
    type_text, _, rest = statement.replace("\t", " ").partition(" ")
    rest = rest.strip()
    name = re.match(r"[A-Za-z0-9_]*", rest)
    identifier = name.group() if name else ""
    if not _NAME.fullmatch(identifier):
        raise ValueError(f"{rest[:60]!r} does not begin with a name")
    rest = rest[len(identifier) :].strip()
    field_type = parse_type(package, type_text)
    if rest.startswith("="):
        if field_type.kind != "single" or field_type.nested:
            raise ValueError(f"a constant cannot be of type {type_text}")
        return Constant(identifier, field_type.base, _scalar(field_type, rest[1:].strip()))
    return Field(identifier, field_type, _default(field_type, rest) if rest else None)


def parse_type(package: str, text: str) -> FieldType:
    """Read the type of a field of a message in `package`; raises ValueError."""
    match = _TYPE.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:60]!r} is not a type")
    base, bound = match["base"], int(match["string"] or 0)
    if match["string"] is not None and (base not in STRINGS or bound < 1):
        raise ValueError(f"{text!r}: only a string has a bound, of 1 at least")
    if base not in PRIMITIVE_SIZES and base not in STRINGS:
        if "/" not in base:
            base = f"{package}/msg/{base}"
        base = check_type_name(base)
    kind, size = "single", 0
    if match["brackets"]:
        size = int(match["size"] or 0)
        kind = "sequence" if match["upper"] or not match["size"] else "array"
        if size > MAX_ARRAY or (match["size"] and size < 1) or (match["upper"] and not match["size"]):
            raise ValueError(f"{text!r}: a size must be 1 to {MAX_ARRAY}")
    return FieldType(base, bound, kind, size)


def _default(field_type: FieldType, text: str) -> Default:
    if field_type.nested:
        raise ValueError("a field of another message has no default value")
    if field_type.kind == "single":
        return _scalar(field_type, text)
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"the default {text[:60]!r} of an array must be in brackets")
    items = tuple(_scalar(field_type, item) for item in _split(text[1:-1]))
    if field_type.kind == "array" and len(items) != field_type.size:
        raise ValueError(f"{len(items)} default values for {field_type.size} elements")
    if field_type.size and len(items) > field_type.size:
        raise ValueError(f"{len(items)} default values, the bound is {field_type.size}")
    return items


def _split(text: str) -> list[str]:
    """Split at commas outside quotes."""
    items = re.findall(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,"']*)\s*(?:,|$)""", text)
    stripped = [item.strip() for item in items]
    if stripped and not stripped[-1]:
        stripped.pop()
    if any(not item for item in stripped):
        raise ValueError(f"an element is missing in [{text[:60]}]")
    return stripped


def _scalar(field_type: FieldType, text: str) -> Scalar:
    base = field_type.base
    if base in STRINGS:
        value = _unquote(text)
        if field_type.string_bound and len(value) > field_type.string_bound:
            raise ValueError(f"the default is longer than {field_type.string_bound}")
        return value
    if base == "bool":
        values = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() not in values:
            raise ValueError(f"{text[:60]!r} is not a bool")
        return values[text.lower()]
    try:
        if base in FLOATS:
            return float(text)
        number = int(text, 0)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not of type {base}") from None
    low, high = integer_range(base)
    if not low <= number <= high:
        raise ValueError(f"{number} is not within {low} to {high} of {base}")
    return number


def _unquote(text: str) -> str:
    """The text of a string literal; without quotes it stands for itself."""
    if len(text) < 2 or text[0] not in "\"'":
        return text
    if text[-1] != text[0]:
        raise ValueError(f"{text[:60]!r}: the quote is not closed")
    body = text[1:-1]
    if "\\" not in body:
        return body
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return body
    return value if isinstance(value, str) else body
