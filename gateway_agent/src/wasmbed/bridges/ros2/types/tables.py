"""The interface definitions that are shipped: one text table per family, each definition with its releases.

A table is a sequence of blocks: a line `= package/kind/Name RELEASE...` and the definition in the syntax of .msg files.
`make_tables` makes them from folders of definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTIONS: Final = ("humble", "iron", "jazzy", "kilted")
PX4_RELEASES: Final = ("1.14", "1.15", "1.16", "1.17", "1.18")


@dataclass(frozen=True)
class Table:
    """Definitions of one release: name to text."""

    release: str
    definitions: Mapping[str, str]


@cache
def _blocks(file: str) -> tuple[tuple[str, frozenset[str], str], ...]:
    text = (resources.files(__package__) / "data" / file).read_text(encoding="utf-8")
    blocks = []
    for block in text.split("\n= ")[1:]:
        head, _, body = block.partition("\n")
        name, *releases = head.split(" ")
        blocks.append((name, frozenset(releases), body))
    return tuple(blocks)


def _table(file: str, release: str) -> Table:
    return Table(release, {name: body for name, releases, body in _blocks(file) if release in releases})


@cache
def standard(distribution: str) -> Table:
    """The standard interfaces of a distribution; raises ConfigurationError when it is not one of DISTRIBUTIONS."""
    if distribution not in DISTRIBUTIONS:
        raise ConfigurationError(f"distribution: {distribution!r} is none of {', '.join(DISTRIBUTIONS)}")
    return _table("standard.txt", distribution)


@cache
def px4(release: str) -> Table:
    """px4_msgs of a PX4 release; raises ConfigurationError when it is not one of PX4_RELEASES."""
    if release not in PX4_RELEASES:
        raise ConfigurationError(f"px4Release: {release!r} is none of {', '.join(PX4_RELEASES)}")
    return _table("px4_msgs.txt", release)
