"""The microcontrollers' interpreter takes every official module that the checker accepts for its class."""

from __future__ import annotations

import pytest
from wasmbed.runtime import features, validate, wasm
from wasmbed.runtime.profiles import CLASSES
from wasmbed.tools import interpreter

from tests.support.official_tests import modules, proposals

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folder", ["wasm-v1", "wasm-v2", "proposals"])
def test_what_a_microcontroller_is_said_to_take_it_takes(folder: str) -> None:
    forbidden = features.forbidden(CLASSES["mcu"])
    taken = 0
    for where, module in modules(proposals().parent / folder):
        try:
            facts = validate.facts_of(module)
        except wasm.ModuleError:
            continue
        if "mcu" in facts.refusals or any(use.feature in forbidden for use in facts.uses):
            continue
        try:
            interpreter.info(module)
        except interpreter.InterpreterError as error:
            pytest.fail(f"{where}: {error}")
        taken += 1
    assert taken >= 200
