"""Makes a shipped table of definitions: `python -m wasmbed.bridges.ros2.types.make_tables OUTPUT RELEASE=FOLDER...`.

A folder is an interface package or holds several. Of several folders of a release the first that has a definition
counts. Definitions are parsed and written again without comments; equal ones of several releases are written once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wasmbed.bridges.ros2.types.parser import parse
from wasmbed.bridges.ros2.types.render import render
from wasmbed.bridges.ros2.types.store import read_packages


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
