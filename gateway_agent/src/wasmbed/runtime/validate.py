"""What is wrong with a module for one application on one device class: all findings at once, each with its place.

The compile child reads the untrusted bytes and writes down Facts; everything here works on those alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wasmbed.runtime import abi, wasm
from wasmbed.runtime.profiles import CLASSES, Profile
from wasmbed.runtime.wire import shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MAX_FINDINGS: Final = 50
MAX_FINDING_BYTES: Final = 512
_SHOWN_NAME: Final = 64


@dataclass(frozen=True)
class ImportFact:
    module: str
    name: str
    kind: str
    type: str | None
    offset: int

    @property
    def shown(self) -> str:
        name = f"{self.module[:_SHOWN_NAME]}.{self.name[:_SHOWN_NAME]}"
        return f"import {''.join(c if c.isprintable() else '?' for c in name)} (at byte {self.offset:#x})"


@dataclass(frozen=True)
class ExportFact:
    name: str
    kind: str
    type: str | None
    offset: int


@dataclass(frozen=True)
class Facts:
    """What is known of a module, of its exports only those that the host uses.

    features has wasmtime's refusal by class, for the classes that refuse it.
    """

    size: int
    imports: tuple[ImportFact, ...]
    exports: tuple[ExportFact, ...]
    memory_bytes: int
    memory_offset: int
    table_elements: int
    start_offset: int | None
    over_limit: tuple[str, ...]
    features: Mapping[str, str]

    @classmethod
    def of(cls, contents: wasm.Contents, features: Mapping[str, str]) -> Facts:
        """Take what matters from a module's contents."""
        return cls(
            size=contents.size,
            imports=tuple(
                ImportFact(i.module, i.name, i.kind, None if i.type is None else str(i.type), i.offset)
                for i in contents.imports
            ),
            exports=tuple(
                ExportFact(e.name, e.kind, None if e.type is None else str(e.type), e.offset)
                for e in contents.exports
                if e.name in abi.EXPORTS
            ),
            memory_bytes=max((memory.minimum_bytes for memory in contents.memories), default=0),
            memory_offset=contents.memories[0].offset if contents.memories else 0,
            table_elements=sum(table.minimum for table in contents.tables),
            start_offset=contents.start_offset,
            over_limit=tuple(contents.over_limit),
            features=dict(features),
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Facts:
        """Read what `dataclasses.asdict` made; raises TypeError or KeyError for anything else."""
        fields = dict(value)
        fields["imports"] = tuple(ImportFact(**row) for row in fields["imports"])
        fields["exports"] = tuple(ExportFact(**row) for row in fields["exports"])
        fields["over_limit"] = tuple(fields["over_limit"])
        return cls(**fields)


def module_findings(facts: Facts) -> list[str]:
    """Return what is wrong with a module wherever it would run."""
    return _bounded([*_structure(facts), *_imports(facts), *_exports(facts), *_no_class(facts)])


def start_findings(facts: Facts, profile: Profile, grants: Collection[str]) -> list[str]:
    """Return what is wrong with a module for one application: its class, its limits and its grants."""
    return _bounded(
        [
            *_structure(facts),
            *_imports(facts, grants),
            *_exports(facts),
            *_class(facts, profile),
            *_memory(facts, profile),
        ]
    )


def _bounded(findings: list[str]) -> list[str]:
    # A type can have as many parameters as fit the file, and a finding is logged and sent.
    findings = [shorten(finding, MAX_FINDING_BYTES) for finding in findings]
    if len(findings) <= MAX_FINDINGS:
        return findings
    return [*findings[: MAX_FINDINGS - 1], f"and {len(findings) - MAX_FINDINGS + 1} more"]


def _structure(facts: Facts) -> Iterator[str]:
    yield from facts.over_limit
    if facts.start_offset is not None:
        yield (
            f"a start section (at byte {facts.start_offset:#x}) is not allowed, it would run while the module is made; "
            f"use {abi.START}"
        )
    if facts.table_elements > wasm.MAX_TABLE_ELEMENTS:
        yield f"tables of {facts.table_elements} elements; the limit is {wasm.MAX_TABLE_ELEMENTS}"


def _imports(facts: Facts, grants: Collection[str] | None = None) -> Iterator[str]:
    for item in facts.imports:
        function = abi.FUNCTIONS.get((item.module, item.name))
        if item.kind != "function":
            yield f"{item.shown}: a {item.kind} cannot be imported, only functions of the host can"
        elif item.module not in abi.GRANTS:
            yield f"{item.shown}: there is no such import module; there are {', '.join(sorted(abi.GRANTS))}"
        elif grants is not None and item.module not in grants:
            yield f"{item.shown}: {item.module} is not granted; it is by {abi.GRANTS[item.module]}"
        elif function is None:
            yield f"{item.shown}: this runtime has no such function"
        elif item.type != str(function.type):
            yield f"{item.shown}: its type is {item.type} and must be {function.type}"


def _exports(facts: Facts) -> Iterator[str]:
    exports = {export.name: export for export in facts.exports}
    if abi.START not in exports and abi.TICK not in exports:
        yield f"exports neither {abi.START} nor {abi.TICK}, so there is nothing to run"
    for name in (abi.START, abi.TICK):
        export = exports.get(name)
        if export is None or (export.kind == "function" and export.type is None and facts.over_limit):
            continue  # the type of a function is not known when its list was too long to read
        if export.kind != "function" or export.type != str(abi.ENTRY_TYPE):
            found = export.type or f"a {export.kind}"
            yield f"export {name} (at byte {export.offset:#x}) is {found} and must be {abi.ENTRY_TYPE}"
    memory = exports.get(abi.MEMORY_EXPORT)
    if memory is None or memory.kind != "memory":
        for item in facts.imports:
            function = abi.FUNCTIONS.get((item.module, item.name))
            if function is not None and function.pointers:
                yield f"{item.shown} takes pointers, so a memory must be exported as {abi.MEMORY_EXPORT!r}"
                break


def _no_class(facts: Facts) -> Iterator[str]:
    if facts.features.keys() >= CLASSES.keys():
        yield next(iter(facts.features.values()))


def _class(facts: Facts, profile: Profile) -> Iterator[str]:
    if profile.name in facts.features:
        yield f"class {profile.name}: {facts.features[profile.name]}"


def _memory(facts: Facts, profile: Profile) -> Iterator[str]:
    if facts.memory_bytes > profile.memory_bytes:
        yield (
            f"memory (at byte {facts.memory_offset:#x}) begins with {facts.memory_bytes} bytes; the limit is "
            f"{profile.memory_bytes} (spec.resources.limits.memory, class {profile.name})"
        )
