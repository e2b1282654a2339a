"""What a module must export to be an application of ABI 1 (docs/abi.md, "Exports")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.validate import ExportFact, Facts

# What applications exported before there was a number.
_BEFORE: Final = ("wasmbed_start", "wasmbed_tick")


def matters(name: str) -> bool:
    """Tell whether the host looks at an export of this name."""
    return name in abi.EXPORTS or name in _BEFORE or name.startswith(abi.MARKER_PREFIX)


def findings(facts: Facts, profile: Profile | None = None) -> Iterator[str]:
    """Return what is wrong with a module's exports, for one class or wherever it would run."""
    exports = {export.name: export for export in facts.exports}
    wasi = abi.WASI_START in exports and (profile is None or profile.name in abi.WASI_CLASSES)
    if not wasi:
        yield from _marker(exports)
    if not wasi and abi.INIT not in exports and abi.EVENT not in exports:
        yield _nothing_to_run(exports, profile)
    for name, wanted in abi.ENTRIES.items():
        export = exports.get(name)
        if export is None or (export.kind == "function" and export.type is None):
            continue  # the type is not known when a list was too long to read, which is a finding of its own
        if export.kind != "function" or export.type != str(wanted):
            found = export.type if export.kind == "function" else f"a {export.kind}"
            yield f"export {name} (at byte {export.offset:#x}) is {found} and must be {wanted}"
    memory = exports.get(abi.MEMORY_EXPORT)
    if memory is None or memory.kind != "memory":
        for item in facts.imports:
            function = abi.FUNCTIONS.get((item.module, item.name))
            if function is not None and function.pointers:
                yield f"{item.shown} takes pointers, so a memory must be exported as {abi.MEMORY_EXPORT!r}"
                break


def _marker(exports: Mapping[str, ExportFact]) -> Iterator[str]:
    markers = [name for name in exports if name.startswith(abi.MARKER_PREFIX)]
    if abi.MARKER in markers:
        return
    if markers:
        shown = ", ".join(_printable(name.removeprefix(abi.MARKER_PREFIX)) for name in markers[:4])
        at = exports[markers[0]].offset
        yield (
            f"export {_printable(markers[0])} (at byte {at:#x}): built for ABI {shown}, this runtime has "
            f"{abi.VERSION}; build it with this version's SDK"
        )
        return
    yield f"exports no {abi.MARKER}, which says what ABI it was built for; add WB_APPLICATION to one source file"


def _nothing_to_run(exports: Mapping[str, ExportFact], profile: Profile | None) -> str:
    for name in _BEFORE:
        if name in exports:
            return (
                f"export {name} (at byte {exports[name].offset:#x}) is of the interface before ABI 1; "
                f"use {abi.INIT} and {abi.EVENT}"
            )
    start = exports.get(abi.WASI_START)
    if start is not None and profile is not None:
        return (
            f"export {abi.WASI_START} (at byte {start.offset:#x}) is a command of WASI, which class {profile.name} "
            f"does not have; {' and '.join(abi.WASI_CLASSES)} have it"
        )
    return f"exports neither {abi.INIT} nor {abi.EVENT}, so there is nothing to run"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:32])
