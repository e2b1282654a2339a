"""Reads .idl definitions: the part of IDL 4.2 that ROS 2 interfaces use (design.ros2.org, "IDL Interface Definition").

Modules, structures, constants, `typedef` of arrays and sequences, `@default`. What else IDL has (enumerations, unions,
keys, optional members, characters, arrays of several dimensions) is refused by its name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn

from wasmbed.bridges.ros2.errors import DefinitionError
from wasmbed.bridges.ros2.types.model import (
    DUMMY_FIELD,
    FLOATS,
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
)
from wasmbed.bridges.ros2.types.parser import MAX_ARRAY, MAX_TEXT, check_type_name, parse
from wasmbed.bridges.ros2.types.render import render

MAX_MODULES: Final = 8

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/|^[ \t]*\#[^\n]*)|(?P<text>L?"(?:[^"\\\n]|\\.)*")"""
    r"""|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fFdD]?)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>::|[{}()\[\]<>;:,=@-])""",
    re.DOTALL | re.MULTILINE,
)
_BASES: Final = {
    "boolean": "bool",
    "octet": "byte",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "long": "int32",
    "long long": "int64",
    "unsigned short": "uint16",
    "unsigned long": "uint32",
    "unsigned long long": "uint64",
} | {name: name for sign in ("int", "uint") for name in (f"{sign}8", f"{sign}16", f"{sign}32", f"{sign}64")}
_UNSUPPORTED: Final = frozenset(
    ("enum", "union", "bitmask", "bitset", "map", "any", "fixed", "char", "wchar", "interface", "valuetype")
)
# Annotations that change what is on the wire; the others are left out.
_DECISIVE: Final = frozenset(
    ("key", "optional", "external", "nested", "mutable", "appendable", "final", "extensibility")
)
_PARTS: Final = {"msg": ("",), "srv": ("_Request", "_Response"), "action": ("_Goal", "_Result", "_Feedback")}


class Idl(str):
    """The text of an .idl file, to tell it from one in the syntax of .msg files."""

    __slots__ = ()


@dataclass
class _Reader:
    """Tokens with their lines, and what was defined so far by its scoped name."""

    tokens: list[tuple[str, str, int]]
    place: int = 0
    structures: dict[tuple[str, ...], tuple[Field, ...]] = field(default_factory=dict)
    constants: dict[tuple[str, ...], list[Constant]] = field(default_factory=dict)
    types: dict[tuple[str, ...], FieldType] = field(default_factory=dict)

    def fail(self, text: str) -> NoReturn:
        line = self.tokens[min(self.place, len(self.tokens) - 1)][2] if self.tokens else 1
        raise ValueError(f"{line}: {text}")

    @property
    def next(self) -> str:
        return self.tokens[self.place][1] if self.place < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        word = self.next
        if not word or (expected and word not in expected):
            self.fail(f"{' or '.join(expected) or 'more'} is expected, not {word[:40] or 'the end'!r}")
        self.place += 1
        return word

    def name(self) -> str:
        if self.place >= len(self.tokens) or self.tokens[self.place][0] != "name":
            self.fail(f"a name is expected, not {self.next[:40]!r}")
        return self.take()

    def members(self, scope: tuple[str, ...]) -> None:
        """What a module has, up to its brace or the end of the text."""
        if len(scope) > MAX_MODULES:
            self.fail(f"modules are nested deeper than {MAX_MODULES}")
        while self.next not in ("", "}"):
            self.annotations()
            word = self.take()
            if word == "module":
                inner = (*scope, self.name())
                self.take("{")
                self.members(inner)
                self.take("}")
            elif word == "struct":
                self.structure(scope)
            elif word == "const":
                self.constant(scope)
            elif word == "typedef":
                kind = self.kind(scope)
                name, kind = self.declared(kind)
                self.types[*scope, name] = kind
            else:
                self.place -= 1
                self.fail(f"{word!r} is not supported in interfaces of ROS 2")
            self.take(";")

    def structure(self, scope: tuple[str, ...]) -> None:
        name = self.name()
        if self.next == ":":
            self.fail("inheritance is not supported in interfaces of ROS 2")
        self.take("{")
        fields: list[Field] = []
        while self.next != "}":
            notes = self.annotations()
            member, kind = self.declared(self.kind(scope))
            fields.append(Field(member, kind, self.default(kind, notes["default"]) if "default" in notes else None))
            self.take(";")
        self.take("}")
        if [item.name for item in fields] == [DUMMY_FIELD]:
            fields = []
        self.structures[*scope, name] = tuple(fields)

    def constant(self, scope: tuple[str, ...]) -> None:
        kind = self.kind(scope)
        name = self.name()
        self.take("=")
        self.constants.setdefault(scope, []).append(Constant(name, kind.base, self.scalar(kind, self.literal())))

    def kind(self, scope: tuple[str, ...]) -> FieldType:
        """A type without the sizes behind the name of what has it."""
        word = self.next
        if word in _UNSUPPORTED:
            self.fail(f"{word} is not supported in interfaces of ROS 2")
        if word in STRINGS:
            self.take()
            return FieldType(word, self.bound() if self.next == "<" else 0)
        if word == "sequence":
            self.take()
            self.take("<")
            inner = self.kind(scope)
            size = 0
            if self.next == ",":
                self.take()
                size = self.size()
            self.take(">")
            if inner.kind != "single":
                self.fail("a sequence of sequences or arrays is not supported in interfaces of ROS 2")
            return FieldType(inner.base, inner.string_bound, "sequence", size)
        words = [self.name()]
        while words[-1] in ("unsigned", "long") and self.next in ("short", "long", "double"):
            words.append(self.take())
        if base := _BASES.get(" ".join(words)):
            return FieldType(base)
        if len(words) > 1 or words[0] == "unsigned":
            self.fail(f"{' '.join(words)} is not supported in interfaces of ROS 2")
        while self.next == "::":
            self.take()
            words.append(self.name())
        for depth in range(len(scope), -1, -1):
            found = (*scope[:depth], *words)
            if found in self.types:
                return self.types[found]
            if found in self.structures:
                return FieldType("/".join(found))
        return FieldType("/".join(words if len(words) > 1 else (*scope, *words)))

    def declared(self, kind: FieldType) -> tuple[str, FieldType]:
        """A name and the size in brackets behind it."""
        name = self.name()
        if self.next == "[":
            self.take()
            size = self.size()
            self.take("]")
            if kind.kind != "single" or self.next == "[":
                self.fail("an array of arrays or sequences is not supported in interfaces of ROS 2")
            kind = FieldType(kind.base, kind.string_bound, "array", size)
        return name, kind

    def bound(self) -> int:
        self.take("<")
        size = self.size()
        self.take(">")
        return size

    def size(self) -> int:
        word = self.take()
        if not word.isdecimal() or len(word) > 9 or not 1 <= int(word) <= MAX_ARRAY:
            self.fail(f"a size of 1 to {MAX_ARRAY} is expected, not {word[:40]!r}")
        return int(word)

    def annotations(self) -> dict[str, Scalar]:
        """The values of those before a member; raises ValueError for one that changes what is on the wire."""
        found: dict[str, Scalar] = {}
        while self.next == "@":
            self.take()
            name = self.name()
            if name in _DECISIVE:
                self.fail(f"@{name} is not supported")
            if self.next != "(":
                continue
            self.take()
            while self.next != ")":
                if self.next in ("", ";", "{"):
                    self.fail(f"@{name} is not closed")
                if name == "default" and self.next == "value":
                    self.take()
                    self.take("=")
                    found[name] = self.literal()
                elif self.take() == "(":
                    self.fail(f"@{name}: brackets in brackets are not supported")
            self.take(")")
        return found

    def literal(self) -> Scalar:
        """A number, TRUE, FALSE, or strings one after the other, which are one."""
        kind, word, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        if kind == "text":
            text = ""
            while self.place < len(self.tokens) and self.tokens[self.place][0] == "text":
                text += self.unquoted(self.take().removeprefix("L"))
            return text
        self.take()
        if word in ("TRUE", "FALSE"):
            return word == "TRUE"
        if kind != "number":
            self.fail(f"a value is expected, not {word[:40]!r}; expressions are not supported")
        digits = word.lstrip("+-")
        try:
            if re.fullmatch(r"0[0-7]+", digits):
                return int(digits, 8) * (-1 if word.startswith("-") else 1)
            return int(word, 0) if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)", word) else float(word.rstrip("fFdD"))
        except ValueError:
            self.fail(f"{word[:40]!r} is not a number")

    def unquoted(self, word: str) -> str:
        try:
            value = ast.literal_eval(word)
        except (SyntaxError, ValueError):
            value = None
        if not isinstance(value, str):
            self.fail(f"{word[:40]} is not a string")
        return value

    def default(self, kind: FieldType, value: Scalar) -> Default:
        """The default of a member; that of an array or a sequence is written as a string."""
        if kind.kind == "single":
            return self.scalar(kind, value)
        try:
            items = ast.literal_eval(str(value))
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            items = None
        items = items if isinstance(items, tuple | list) else (items,)
        if not all(isinstance(item, bool | int | float | str) for item in items):
            self.fail(f"the default {str(value)[:40]!r} is not a list of values")
        return tuple(self.scalar(kind, item) for item in items)

    def scalar(self, kind: FieldType, value: Scalar) -> Scalar:
        """A value as its type has it; ranges are checked where the definition is read again."""
        if kind.base in FLOATS and type(value) is int:
            return float(value)
        wanted = bool if kind.base == "bool" else str if kind.base in STRINGS else float if kind.base in FLOATS else int
        if type(value) is not wanted:
            self.fail(f"{value!r} is not of type {kind.base}")
        return value


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"{line}: {text[place : place + 20]!r} is not IDL")
        if match.lastgroup and match.lastgroup != "skip":
            found.append((match.lastgroup, match.group(), line))
        line += match.group().count("\n")
        place = match.end()
    return found


def to_text(name: str, idl: str) -> str:
    """The definition `package/kind/Name` of an .idl file in the syntax of .msg, .srv or .action files.

    Raises:
        DefinitionError: with the name and the line.
    """
    name = check_type_name(name)
    if len(idl) > MAX_TEXT:
        raise DefinitionError(f"{name}: the definition is longer than {MAX_TEXT} characters")
    scope = tuple(name.split("/"))
    try:
        reader = _Reader(_tokens(idl))
        reader.members(())
        if reader.next:
            reader.fail("a } too many")
        parts = []
        for suffix in _PARTS[scope[1]]:
            path = (*scope[:2], scope[2] + suffix)
            if path not in reader.structures:
                reader.fail(f"there is no struct {'::'.join(path)}")
            constants = reader.constants.get((*path[:2], f"{path[2]}_Constants"), [])
            parts.append(Message("/".join(path), reader.structures[path], tuple(constants)))
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{name}:{error}") from None
    definition: Definition = parts[0]
    if scope[1] == "srv":
        definition = Service(name, *parts)
    elif scope[1] == "action":
        definition = Action(name, *parts)
    text = render(definition)
    parse(name, text)
    return text
