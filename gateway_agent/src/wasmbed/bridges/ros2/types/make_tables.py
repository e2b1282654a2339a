"""Makes a shipped table of definitions: `python -m wasmbed.bridges.ros2.types.make_tables OUTPUT RELEASE=FOLDER...`.

A folder is an interface package or holds several. Of several folders of a release the first that has a definition
counts. Definitions are parsed and written again without comments; equal ones of several releases are written once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wasmbed.bridges.ros2.types.model import Action, Constant, Definition, Field, FieldType, Message, Scalar, Service
from wasmbed.bridges.ros2.types.parser import parse
from wasmbed.bridges.ros2.types.store import read_packages


def render(definition: Definition) -> str:
    """The definition in the syntax of .msg files, a member a line, constants first."""
    parts: tuple[Message, ...]
    if isinstance(definition, Message):
        parts = (definition,)
    elif isinstance(definition, Service):
        parts = (definition.request, definition.response)
    else:
        assert isinstance(definition, Action)  # noqa: S101 - what else a definition is
        parts = (definition.goal, definition.result, definition.feedback)
    return "---\n".join("".join(line + "\n" for line in _lines(part)) for part in parts)


def _lines(message: Message) -> list[str]:
    package = message.name.split("/", 1)[0]
    return [_constant(item) for item in message.constants] + [_field(package, item) for item in message.fields]


def _constant(constant: Constant) -> str:
    return f"{constant.type} {constant.name}={_literal(constant.value)}"


def _field(package: str, field: Field) -> str:
    kind = field.type
    base = kind.base.replace("/msg/", "/").removeprefix(f"{package}/")
    text = f"{FieldType(base, kind.string_bound, kind.kind, kind.size)} {field.name}"
    if field.default is None:
        return text
    if isinstance(field.default, tuple):
        return f"{text} [{', '.join(_literal(item) for item in field.default)}]"
    return f"{text} {_literal(field.default)}"


def _literal(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def make(releases: list[tuple[str, Path]]) -> str:
    """The table of all releases."""
    texts: dict[tuple[str, str], str] = {}
    order = list(dict.fromkeys(release for release, _ in releases))
    for release, folder in releases:
        for name, text in read_packages(folder).items():
            texts.setdefault((name, release), render(parse(name, text)))
    blocks: dict[tuple[str, str], list[str]] = {}
    for name, release in sorted(texts, key=lambda key: (key[0], order.index(key[1]))):
        blocks.setdefault((name, texts[name, release]), []).append(release)
    return f"# {' '.join(order)}\n" + "".join(
        f"= {name} {' '.join(names)}\n{text}" for (name, text), names in blocks.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("release", nargs="+", help="RELEASE=FOLDER")
    arguments = parser.parse_args()
    pairs = [item.partition("=") for item in arguments.release]
    arguments.output.write_text(make([(release, Path(folder)) for release, _, folder in pairs]), encoding="utf-8")


if __name__ == "__main__":
    main()
