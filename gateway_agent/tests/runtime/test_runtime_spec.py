"""The official tests of proposals: what a class does not have is refused by its name, and nothing else is."""

from __future__ import annotations

import pytest
from wasmbed.runtime import features, validate, wasm
from wasmbed.runtime.features import Feature
from wasmbed.runtime.profiles import CLASSES
from wasmtime import Config, Engine, Module, WasmtimeError
from wasmtime import _ffi as ffi

from tests.support.official_tests import bad_modules, modules, proposals

# What wasmtime can switch off, with what stands upon it.
SWITCHES = {
    Feature.SIMD: ("simd", "relaxed_simd"),
    Feature.RELAXED_SIMD: ("relaxed_simd",),
    Feature.TAIL_CALLS: ("tail_call",),
    Feature.THREADS: ("threads",),
    Feature.MULTI_MEMORY: ("multi_memory",),
    Feature.MEMORY64: ("memory64",),
    Feature.EXCEPTIONS: ("exceptions",),
    Feature.GC: ("gc",),
    Feature.FUNCTION_REFERENCES: ("function_references", "gc"),
    Feature.REFERENCE_TYPES: ("reference_types", "function_references", "gc", "exceptions"),
    Feature.WIDE_ARITHMETIC: ("wide_arithmetic",),
}
SINGLE = {switches[0]: feature for feature, switches in SWITCHES.items()}
# Folder of the proposal, its feature, and at least how many modules of its tests use it.
FOLDERS = {
    "simd": (Feature.SIMD, 100),
    "relaxed-simd": (Feature.RELAXED_SIMD, 7),
    "tail-call": (Feature.TAIL_CALLS, 2),
    "threads": (Feature.THREADS, 5),
    "multi-memory": (Feature.MULTI_MEMORY, 50),
    "memory64": (Feature.MEMORY64, 50),
    "exceptions": (Feature.EXCEPTIONS, 5),
    "gc": (Feature.GC, 50),
    "function-references": (Feature.FUNCTION_REFERENCES, 20),
    "reference-types": (Feature.REFERENCE_TYPES, 50),
    "wide-arithmetic": (Feature.WIDE_ARITHMETIC, 1),
    "extended-const": (Feature.EXTENDED_CONST, 5),
    "custom-descriptors": (Feature.CUSTOM_DESCRIPTORS, 20),
}


def engine_with(*, off: tuple[str, ...] = ()) -> Engine:
    """Everything wasmtime has but what is off."""
    config = Config()
    config.wasm_component_model = False
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    config.wasm_custom_page_sizes = True
    config.shared_memory = True
    for switch in SINGLE:
        setattr(config, f"wasm_{switch}", switch not in off)
    return Engine(config)


def takes(engine: Engine, module: bytes) -> bool:
    try:
        Module.validate(engine, module)
    except WasmtimeError:
        return False
    return True


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_forbidden_feature_is_refused_by_its_name(folder: str) -> None:
    feature, least = FOLDERS[folder]
    with_all, without = engine_with(), engine_with(off=SWITCHES.get(feature, ()))
    count = 0
    for where, module in modules(proposals() / folder):
        if feature in SWITCHES:
            uses_it = takes(with_all, module) and not takes(without, module)
        else:
            uses_it = feature in {use.feature for use in wasm.read(module).uses}
        if not uses_it:
            continue
        count += 1
        facts = validate.facts_of(module)
        for profile in CLASSES.values():
            if feature in features.forbidden(profile):
                found = validate.start_findings(facts, profile, ())
                assert any(f"class {profile.name} has no {feature}, used " in text for text in found), (where, found)
    assert count >= least


@pytest.mark.parametrize("feature", SWITCHES)
def test_the_features_found_are_those_that_wasmtime_asks_for(feature: Feature) -> None:
    """For every module of every proposal that wasmtime knows."""
    with_all, without = engine_with(), engine_with(off=SWITCHES[feature])
    named = {SINGLE[switch] for switch in SWITCHES[feature]}
    count = 0
    for folder in FOLDERS:
        for where, module in modules(proposals() / folder):
            if takes(with_all, module):
                found = {use.feature for use in wasm.read(module).uses}
                assert bool(found & named) != takes(without, module), f"{where}: {found}"
                count += 1
    assert count > 1000


@pytest.mark.parametrize("folder", ["wasm-v1", "wasm-v2", "wasm-v3", "proposals"])
def test_what_the_official_tests_call_bad_is_refused_for_every_class(folder: str) -> None:
    """Unless wasmtime takes it: what an older proposal calls invalid may be valid since."""
    with_all, count = engine_with(), 0
    for where, module in bad_modules(proposals().parent / folder):
        if takes(with_all, module):
            continue
        count += 1
        try:
            facts = validate.facts_of(module)
        except wasm.ModuleError:
            continue
        # Not by what its exports lack.
        assert facts.faults or facts.refusals.keys() == CLASSES.keys(), where
    assert count >= 50
