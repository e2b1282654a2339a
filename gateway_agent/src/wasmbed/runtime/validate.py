"""What is wrong with a module for one application on one device class: all findings at once, each with its place.

The compile child reads the untrusted bytes and writes down Facts; everything here works on those alone.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wasmbed.runtime import abi, engine, exports, features, wasm
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
class UseFact:
    """The first place of a feature; function_name is empty when the module does not tell it."""

    feature: str
    offset: int
    function: int | None
    function_name: str

    @property
    def shown(self) -> str:
        if self.function is None:
            return f"at byte {self.offset:#x}"
        name = f" ({self.function_name})" if self.function_name else ""
        return f"at byte {self.offset:#x} in function {self.function}{name}"


@dataclass(frozen=True)
class Facts:
    """What is known of a module, of its exports only those that the host uses.

    faults has what is wrong with it wherever it would run, refusals wasmtime's words by class, for the classes whose
    configuration refuses it.
    """

    size: int
    imports: tuple[ImportFact, ...]
    exports: tuple[ExportFact, ...]
    memory_bytes: int
    memory_offset: int
    data_bytes: int
    faults: tuple[str, ...]
    uses: tuple[UseFact, ...]
    refusals: Mapping[str, str]

    @classmethod
    def of(cls, contents: wasm.Contents, refusals: Mapping[str, str], names: Mapping[int, str]) -> Facts:
        """Take what matters from a module's contents; names are those of functions, by index."""
        return cls(
            size=contents.size,
            imports=tuple(
                ImportFact(i.module, i.name, i.kind, None if i.type is None else str(i.type), i.offset)
                for i in contents.imports
            ),
            exports=tuple(
                ExportFact(e.name[:_SHOWN_NAME], e.kind, None if e.type is None else str(e.type), e.offset)
                for e in contents.exports
                if exports.matters(e.name)
            ),
            memory_bytes=max((memory.minimum_bytes for memory in contents.memories), default=0),
            memory_offset=contents.memories[0].offset if contents.memories else 0,
            data_bytes=contents.data_bytes,
            faults=tuple(_bounded(list(_structure(contents)))),
            uses=tuple(
                UseFact(use.feature, use.offset, use.function, names.get(use.function, ""))
                if use.function is not None
                else UseFact(use.feature, use.offset, None, "")
                for use in contents.uses
            ),
            refusals={name: _placed(text, contents, names) for name, text in refusals.items()},
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Facts:
        """Read what `dataclasses.asdict` made; raises TypeError or KeyError for anything else."""
        fields = dict(value)
        fields["imports"] = tuple(ImportFact(**row) for row in fields["imports"])
        fields["exports"] = tuple(ExportFact(**row) for row in fields["exports"])
        fields["uses"] = tuple(UseFact(**row) for row in fields["uses"])
        fields["faults"] = tuple(fields["faults"])
        return cls(**fields)


def facts_of(module: bytes) -> Facts:
    """Read an untrusted module; raises wasm.ModuleError. To be called in a process with limits.

    What wasmtime says of a module that is too much is not asked: that could take long.
    """
    contents = wasm.read(module)
    refusals = {} if contents.over_limit else engine.feature_refusals(module)
    functions = {use.function for use in contents.uses if use.function is not None}
    functions.update(index for text in refusals.values() if (index := _function_of(text, contents)) is not None)
    return Facts.of(contents, refusals, wasm.function_names(module, contents, functions))


_OFFSET: Final = re.compile(r"(?:\(at offset |at offset |offset )(0x[0-9a-f]+|\d+)\)?")


def _function_of(text: str, contents: wasm.Contents) -> int | None:
    """Return the index of the function that wasmtime's message is about, when it has an offset inside of one."""
    found = _OFFSET.search(text)
    if found is None or not contents.functions:
        return None
    offset = int(found[1], 0)
    if not contents.functions[0] <= offset < contents.code_end:
        return None
    return contents.first_function + bisect.bisect_right(contents.functions, offset) - 1


def _placed(text: str, contents: wasm.Contents, names: Mapping[int, str]) -> str:
    index = _function_of(text, contents)
    if index is None:
        return text
    return f"{text} in function {index}{f' ({names[index]})' if index in names else ''}"


def module_findings(facts: Facts) -> list[str]:
    """Return what is wrong with a module wherever it would run."""
    return _bounded([*facts.faults, *_imports(facts), *exports.findings(facts), *_no_class(facts)])


def start_findings(facts: Facts, profile: Profile, grants: Collection[str]) -> list[str]:
    """Return what is wrong with a module for one application: its class, its limits and its grants."""
    return _bounded(
        [
            *facts.faults,
            *_imports(facts, grants, profile),
            *exports.findings(facts, profile),
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


def _structure(contents: wasm.Contents) -> Iterator[str]:
    yield from contents.over_limit
    if contents.start_offset is not None:
        yield (
            f"a start section (at byte {contents.start_offset:#x}) is not allowed, it would run while the module is "
            f"made; use {abi.INIT}"
        )
    elements = sum(table.minimum for table in contents.tables)
    if elements > wasm.MAX_TABLE_ELEMENTS:
        yield (
            f"tables of {elements} elements (at byte {contents.tables[0].offset:#x}); "
            f"the limit is {wasm.MAX_TABLE_ELEMENTS}"
        )
    for segment in contents.segments:
        if (fault := _segment(segment, contents)) is not None:
            yield fault


def _segment(segment: wasm.Segment, contents: wasm.Contents) -> str | None:
    """Tell when an active segment would trap while the module is made; that of an import is refused with the import."""
    targets = contents.memories if segment.kind == "data" else contents.tables
    if segment.begin is None or segment.target >= len(targets):
        return None
    what, unit = ("memory", "byte") if segment.kind == "data" else ("table", "element")
    room = targets[segment.target].minimum_bytes
    end = segment.begin + segment.length
    if end <= room:
        return None
    return (
        f"{segment.kind} segment {segment.number} (at byte {segment.offset:#x}) ends at {unit} {end} of a {what} that "
        f"begins with {room} {unit}s"
    )


def _imports(facts: Facts, grants: Collection[str] | None = None, profile: Profile | None = None) -> Iterator[str]:
    for item in facts.imports:
        function = abi.FUNCTIONS.get((item.module, item.name))
        if item.kind != "function":
            yield f"{item.shown}: a {item.kind} cannot be imported, only functions of the host can"
        elif item.module == abi.WASI and profile is not None and profile.name not in abi.WASI_CLASSES:
            yield f"{item.shown}: class {profile.name} has no WASI; {' and '.join(abi.WASI_CLASSES)} have it"
        elif item.module not in abi.GRANTS and item.module != abi.WASI:
            yield f"{item.shown}: there is no such import module; there are {', '.join(sorted(abi.GRANTS))}"
        elif grants is not None and item.module not in grants and item.module != abi.WASI:
            yield f"{item.shown}: {item.module} is not granted; it is by {abi.GRANTS[item.module]}"
        elif function is None:
            yield f"{item.shown}: this runtime has no such function"
        elif item.type != str(function.type):
            yield f"{item.shown}: its type is {item.type} and must be {function.type}"


def _no_class(facts: Facts) -> Iterator[str]:
    """Tell what no class has; a module that only some classes take is loaded for those."""
    nobody = frozenset.intersection(*(features.forbidden(profile) for profile in CLASSES.values()))
    named = [use for use in facts.uses if use.feature in nobody]
    for use in named:
        yield f"no class has {use.feature}, used {use.shown}"
    if not named and facts.refusals.keys() >= CLASSES.keys():
        yield max(facts.refusals.values(), key=len)


def _class(facts: Facts, profile: Profile) -> Iterator[str]:
    forbidden = features.forbidden(profile)
    named = [use for use in facts.uses if use.feature in forbidden]
    for use in named:
        yield f"class {profile.name} has no {use.feature}, used {use.shown}"
    if not named and profile.name in facts.refusals:
        yield f"class {profile.name}: {facts.refusals[profile.name]}"


def _memory(facts: Facts, profile: Profile) -> Iterator[str]:
    if facts.memory_bytes > profile.memory_bytes:
        yield (
            f"memory (at byte {facts.memory_offset:#x}) begins with {facts.memory_bytes} bytes; the limit is "
            f"{profile.memory_bytes} (spec.resources.limits.memory, class {profile.name})"
        )
