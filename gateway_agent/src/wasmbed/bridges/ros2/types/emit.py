"""Writes the Python source of a codec: fixed members between two variable ones become one precompiled struct.

A struct exists for each offset modulo 8 at which its run can begin, with the padding in it, so no alignment is computed
member by member. Nested single messages are inlined; elements of arrays of messages have functions of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from wasmbed.bridges.ros2.types.cdr import FORMATS, HEADER, make_tables
from wasmbed.bridges.ros2.types.classes import attribute
from wasmbed.bridges.ros2.types.model import PRIMITIVE_SIZES, STRINGS

if TYPE_CHECKING:
    from wasmbed.bridges.ros2.types.model import Field, Message

# The first two bytes of plain little-endian CDR, read as a little-endian 16-bit number.
_LITTLE_ENDIAN = int.from_bytes(HEADER[:2], "little")


class Types(Protocol):
    """What the emitters need to know of other types."""

    def message(self, name: str) -> Message: ...

    def class_name(self, scope: dict[str, Any], name: str) -> str: ...

    def reader(self, scope: dict[str, Any], order: str, name: str) -> str: ...

    def checker(self, scope: dict[str, Any], order: str, name: str) -> str: ...

    def writer(self, scope: dict[str, Any], name: str) -> str: ...

    def least(self, name: str) -> int: ...


class _Emitter:
    def __init__(self, types: Types, scope: dict[str, Any], order: str, *, top: bool) -> None:
        self.types, self.scope, self.order, self.top = types, scope, order, top
        self.lines: list[str] = []
        self.atoms: list[tuple[str, int]] = []
        self.first = top  # the next run begins at offset 0 of the message
        self._count = 0

    def fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def add(self, line: str) -> None:
        self.lines.append(line)

    def table(self) -> str:
        """Bind the structs of the run and forget its atoms; the first run has one struct, the others a table."""
        tables = make_tables(self.order, self.atoms)
        name = f"_s{len(self.scope)}"
        self.scope[name] = tables[0] if self.first else tables
        self.atoms = []
        return name


class ReadEmitter(_Emitter):
    """The source of `read(b, o) -> (value, o)`, or of `decode(b) -> value` when it is the top."""

    def __init__(self, types: Types, scope: dict[str, Any], order: str, *, top: bool) -> None:
        super().__init__(types, scope, order, top=top)
        self.targets: list[tuple[str, int]] = []  # variable and, for an array, its length
        self.values: dict[str, str] = {}

    def source(self, name: str, message: Message) -> str:
        if self.top:
            self.atom("H2x", 2)
        expression = self.walk(message)
        self.flush()
        for variable, value in self.values.items():
            expression = expression.replace(f"<{variable}>", value)
        if not self.top:
            return _function(f"{name}(b, o)", [*self.lines, f"return {expression}, o"])
        return _function(
            f"{name}(b)", [*self.lines, "if len(b) - o > 3:", "    check_end(b, o)", f"return {expression}"]
        )

    def atom(self, code: str, alignment: int, array: int = 0) -> str:
        variable = self.fresh("v")
        self.atoms.append((code, alignment))
        self.targets.append((variable, array))
        self.values[variable] = variable
        return variable

    def flush(self) -> None:
        if not self.atoms:
            return
        first = self.first
        table, targets = self.table(), self.targets
        self.targets, self.first = [], False
        place = "(b, 0)" if first else "(b, o)"
        struct = table if first else "s"
        if not first:
            self.add(f"s = {table}[o & 7]")
        if not targets:
            self.add(f"{struct}.unpack_from{place}")
        elif any(array for _, array in targets):
            run = self.fresh("t")
            self.add(f"{run} = {struct}.unpack_from{place}")
            index = 0
            for variable, array in targets:
                self.values[variable] = f"{run}[{index}:{index + array}]" if array else f"{run}[{index}]"
                index += array or 1
        else:
            self.add(f"{', '.join(variable for variable, _ in targets)}, = {struct}.unpack_from{place}")
        self.add(f"o = {struct}.size" if first else "o += s.size")
        if first:
            self.add(f"if {self.values[targets[0][0]]} != {_LITTLE_ENDIAN if self.order == '<' else 0}:")
            self.add("    return other(b)")

    def length(self) -> str:
        """Read the length that ends a run."""
        variable = self.atom("I", 4)
        self.flush()
        return self.values[variable]

    def walk(self, message: Message) -> str:
        """Emit the members and return the expression that makes the message."""
        members = ", ".join(self.member(field) for field in message.wire_fields)
        return f"{self.types.class_name(self.scope, message.name)}({members})"

    def member(self, field: Field) -> str:
        kind = field.type
        if kind.kind == "single":
            return self.single(field)
        if kind.kind == "array" and kind.primitive:
            if kind.octets:
                return f"<{self.atom(f'{kind.size}s', 1)}>"
            return f"<{self.atom(f'{kind.size}{FORMATS[kind.base]}', PRIMITIVE_SIZES[kind.base], kind.size)}>"
        if kind.kind == "array":
            self.flush()
            return self.elements(field, str(kind.size), 0)
        return self.elements(field, self.length(), kind.size)

    def single(self, field: Field) -> str:
        kind = field.type
        if kind.nested:
            return self.walk(self.types.message(kind.base))
        if kind.base in STRINGS:
            wide = kind.base == "wstring"
            call = f"read_wide({self.order!r}, " if wide else "read_text("
            return self.variable(f"{call}b, o, {self.length()}, {kind.string_bound})")
        return f"<{self.atom(FORMATS[kind.base], PRIMITIVE_SIZES[kind.base])}>"

    def elements(self, field: Field, count: str, bound: int) -> str:
        kind = field.type
        if kind.octets:
            return self.variable(f"read_octets(b, o, {count}, {bound})")
        if kind.base == "bool":
            return self.variable(f"read_bools(b, o, {count}, {bound})")
        if kind.primitive:
            return self.variable(f"read_numbers({self.order!r}, {FORMATS[kind.base]!r}, b, o, {count}, {bound})")
        if kind.base in STRINGS:
            self.add(f"check_count({count}, 4, {bound}, len(b) - o)")
            wide = kind.base == "wstring"
            return self.variable(f"read_texts({self.order!r}, b, o, {count}, {kind.string_bound}, {wide})")
        self.add(f"check_count({count}, {self.types.least(kind.base)}, {bound}, len(b) - o)")
        values, reader = self.fresh("v"), self.reader(kind.base)
        self.add(f"{values} = []")
        self.add(f"for _ in range({count}):")
        self.add(f"    x, o = {reader}(b, o)")
        self.add(f"    {values}.append(x)")
        return values

    def variable(self, call: str) -> str:
        variable = self.fresh("v")
        self.add(f"{variable}, o = {call}")
        return variable

    def reader(self, name: str) -> str:
        return self.types.reader(self.scope, self.order, name)


class CheckEmitter(ReadEmitter):
    """As ReadEmitter, but makes no values: lengths and texts alone are looked at."""

    def walk(self, message: Message) -> str:
        for field in message.wire_fields:
            self.member(field)
        return "None"

    def member(self, field: Field) -> str:
        kind = field.type
        if kind.primitive and kind.base not in STRINGS and kind.kind != "sequence":
            size = PRIMITIVE_SIZES[kind.base]
            self.atoms.append((f"{size * (kind.size if kind.kind == 'array' else 1)}x", size))
            return "None"
        return super().member(field)

    def elements(self, field: Field, count: str, bound: int) -> str:
        kind = field.type
        if kind.primitive and kind.base not in STRINGS:
            self.add(f"o = skip_numbers({PRIMITIVE_SIZES[kind.base]}, b, o, {count}, {bound})")
            return "None"
        return super().elements(field, count, bound)

    def reader(self, name: str) -> str:
        return self.types.checker(self.scope, self.order, name)


class WriteEmitter(_Emitter):
    """The source of `write(p, o, m) -> o`, or of `encode(m) -> bytes` when it is the top."""

    def __init__(self, types: Types, scope: dict[str, Any], *, top: bool) -> None:
        super().__init__(types, scope, "<", top=top)
        self.values: list[str] = []
        self.variable_part = not top

    def source(self, name: str, message: Message) -> str:
        if self.top:
            self.atom("4s", 1, "HEADER")
        self.walk(message, "m")
        if self.top and not self.variable_part:
            return _function(f"{name}(m)", [*self.lines, f"return {self.table()}.pack({', '.join(self.values)})"])
        self.flush()
        if self.top:
            return _function(f"{name}(m)", [*self.lines, "return b''.join(p)"])
        return _function(f"{name}(p, o, m)", [*self.lines, "return o"])

    def atom(self, code: str, alignment: int, value: str) -> None:
        self.atoms.append((code, alignment))
        self.values.append(value)

    def flush(self) -> None:
        self.variable_part = True
        if not self.atoms:
            return
        first, values, table = self.first, ", ".join(self.values), self.table()
        self.first, self.values = False, []
        if first:
            self.add(f"p = [{table}.pack({values})]")
            self.add(f"o = {table}.size")
        else:
            self.add(f"s = {table}[o & 7]")
            self.add(f"p.append(s.pack({values}))")
            self.add("o += s.size")

    def walk(self, message: Message, place: str) -> None:
        for field in message.wire_fields:
            self.member(field, f"{place}.{attribute(field.name)}")

    def member(self, field: Field, value: str) -> None:
        kind = field.type
        if kind.kind == "single" and kind.nested:
            nested = self.bind(value)
            # Another class with the same members would be written as if it were this one.
            self.add(f"if type({nested}) is not {self.types.class_name(self.scope, kind.base)}:")
            self.add(f"    wrong_class({nested}, {kind.base!r}, {field.name!r})")
            self.walk(self.types.message(kind.base), nested)
        elif kind.kind == "single" and kind.base in STRINGS:
            wide = kind.base == "wstring"
            call = f"wide_bytes({self.order!r}, " if wide else "text_bytes("
            data = self.bind(f"{call}{value}, {kind.string_bound})")
            self.atom("I", 4, f"len({data}) // 4" if wide else f"len({data})")
            self.flush()
            self.append(data)
        elif kind.kind == "single":
            self.atom(FORMATS[kind.base], PRIMITIVE_SIZES[kind.base], value)
        elif kind.kind == "array":
            items = self.bind(value)
            self.add(f"if len({items}) != {kind.size}:")
            self.add(f"    check_length({items}, {kind.size}, {field.name!r})")
            if kind.octets:
                self.atom(f"{kind.size}s", 1, f"bytes({items})")
            elif kind.primitive:
                self.atom(f"{kind.size}{FORMATS[kind.base]}", PRIMITIVE_SIZES[kind.base], f"*{items}")
            else:
                self.flush()
                self.elements(field, items)
        else:
            items = self.bind(value)
            if kind.size:
                self.add(f"check_bound({items}, {kind.size}, {field.name!r})")
            self.sequence(field, items)

    def sequence(self, field: Field, items: str) -> None:
        kind = field.type
        if not kind.primitive:
            self.atom("I", 4, f"len({items})")
            self.flush()
            self.elements(field, items)
            return
        size = PRIMITIVE_SIZES[kind.base]
        if kind.octets:
            data = f"bytes({items})"
        elif kind.base == "bool":
            data = f"bytes(map(bool, {items}))"
        else:
            data = f"number_bytes({self.order!r}, {FORMATS[kind.base]!r}, {items})"
        count, data = self.bind(f"len({items})"), self.bind(data)
        self.atom("I", 4, count)
        self.flush()
        if size > 4:  # the length before it ends at a multiple of four
            self.add(f"if {data} and (o - {len(HEADER)}) & {size - 1}:")
            self.add("    p.append(PAD[4])")
            self.add("    o += 4")
        self.append(data)

    def elements(self, field: Field, items: str) -> None:
        kind = field.type
        if kind.base in STRINGS:
            wide = kind.base == "wstring"
            self.add(f"o = write_texts({self.order!r}, p, o, {items}, {kind.string_bound}, {wide})")
            return
        self.add(f"for x in {items}:")
        self.add(f"    if type(x) is not {self.types.class_name(self.scope, kind.base)}:")
        self.add(f"        wrong_class(x, {kind.base!r}, {field.name!r})")
        self.add(f"    o = {self.types.writer(self.scope, kind.base)}(p, o, x)")

    def bind(self, expression: str) -> str:
        variable = self.fresh("x")
        self.add(f"{variable} = {expression}")
        return variable

    def append(self, data: str) -> None:
        self.add(f"p.append({data})")
        self.add(f"o += len({data})")


def _function(head: str, lines: list[str]) -> str:
    return f"def {head}:\n" + "".join(f"    {line}\n" for line in lines)
