"""What of WebAssembly a module uses beyond version 1.0, by the names of the proposals, and which class has it.

What every class has (sign extension, saturating conversions, multi-value, bulk memory, custom page sizes) is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wasmbed.runtime.profiles import Profile


class Feature(StrEnum):
    """A proposal, or a part of versions 2.0 and 3.0 that grew out of one."""

    SIMD = "SIMD"
    RELAXED_SIMD = "relaxed SIMD"
    TAIL_CALLS = "tail calls"
    REFERENCE_TYPES = "reference types"
    EXTENDED_CONST = "extended constant expressions"
    THREADS = "threads"
    MULTI_MEMORY = "multi-memory"
    MEMORY64 = "memory64"
    EXCEPTIONS = "exceptions"
    LEGACY_EXCEPTIONS = "legacy exceptions"
    FUNCTION_REFERENCES = "function references"
    GC = "GC"
    WIDE_ARITHMETIC = "wide arithmetic"
    CUSTOM_DESCRIPTORS = "custom descriptors"
    SHARED_EVERYTHING = "shared-everything threads"
    STACK_SWITCHING = "stack switching"
    MEMORY_CONTROL = "memory control"


# Names of the switches in a profile's `forbidden`, which are those of wasmtime's configuration.
_SWITCHES: Final = {
    "simd": Feature.SIMD,
    "relaxed_simd": Feature.RELAXED_SIMD,
    "tail_call": Feature.TAIL_CALLS,
    "reference_types": Feature.REFERENCE_TYPES,
    "threads": Feature.THREADS,
    "multi_memory": Feature.MULTI_MEMORY,
    "memory64": Feature.MEMORY64,
    "exceptions": Feature.EXCEPTIONS,
    "function_references": Feature.FUNCTION_REFERENCES,
    "gc": Feature.GC,
    "wide_arithmetic": Feature.WIDE_ARITHMETIC,
}
# wasmtime has no switch for these: nobody gets them.
_UNKNOWN_TO_WASMTIME: Final = frozenset(
    {
        Feature.LEGACY_EXCEPTIONS,
        Feature.CUSTOM_DESCRIPTORS,
        Feature.SHARED_EVERYTHING,
        Feature.STACK_SWITCHING,
        Feature.MEMORY_CONTROL,
    }
)


@dataclass(frozen=True)
class Use:
    """The first place of a feature: byte of the file and index of the function, None outside of one."""

    feature: str
    offset: int
    function: int | None = None


class Uses:
    """The first use of each feature while a module is read."""

    def __init__(self) -> None:
        self.first: dict[Feature, Use] = {}

    def note(self, feature: Feature, offset: int, function: int | None = None) -> None:
        if feature not in self.first:
            self.first[feature] = Use(feature, offset, function)


def forbidden(profile: Profile) -> frozenset[Feature]:
    """What a class does not have."""
    # wasmtime always takes extended constant expressions; the microcontrollers' interpreter knows none.
    small = {Feature.EXTENDED_CONST} if "simd" in profile.forbidden else set()
    return frozenset(_SWITCHES[name] for name in profile.forbidden) | _UNKNOWN_TO_WASMTIME | small
