"""Configuration of wasmtime: one for compiling, one for each instance, and one to check against each class."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Final

from wasmtime import Config, Engine, Module, WasmtimeError
from wasmtime import _ffi as ffi

from wasmbed.runtime.profiles import CLASSES, MIB

if TYPE_CHECKING:
    from wasmbed.runtime.profiles import Profile

WASMTIME_VERSION: Final = metadata.version("wasmtime")
# Raise it whenever Facts or the configuration below changes, so that no cached file of before is used.
_REVISION: Final = 4


def _config(profile: Profile) -> Config:
    config = Config()
    # Off first: its asynchronous part insists on proposals that small classes do not have, by aborting the process.
    config.wasm_component_model = False
    ffi.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    config.wasm_custom_page_sizes = True
    for proposal in profile.forbidden:
        setattr(config, f"wasm_{proposal}", False)
    config.shared_memory = False
    return config


def cache_key() -> str:
    """Return a name for what compiled code depends on beside its module."""
    facts = f"{_REVISION} {WASMTIME_VERSION} {platform.machine()}"
    return f"wasmtime-{WASMTIME_VERSION}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def compiling_engine() -> Engine:
    """Return an engine that compiles for every class, on one thread so that the child's memory limit is meaningful."""
    config = _config(CLASSES["gateway"])
    config.epoch_interruption = True
    config.parallel_compilation = False
    return Engine(config)


def running_engine(stack_bytes: int) -> Engine:
    """Return an engine for one instance, whose WebAssembly stack is at most stack_bytes.

    It runs only on threads whose own stack is stack_bytes and a margin: see instance.THREAD_MARGIN_BYTES.
    """
    config = _config(CLASSES["gateway"])
    config.epoch_interruption = True
    # wasmtime aborts when a stack limit is above this size, which it would only use for asynchronous calls.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), stack_bytes + MIB)
    config.max_wasm_stack = stack_bytes
    return Engine(config)


def feature_refusals(module: bytes) -> dict[str, str]:
    """Validate a module for each class; return wasmtime's message for those that do not take it."""
    refusals: dict[str, str] = {}
    by_features: dict[tuple[str, ...], str] = {}
    for name, profile in CLASSES.items():
        if profile.forbidden not in by_features:
            try:
                Module.validate(Engine(_config(profile)), module)
                by_features[profile.forbidden] = ""
            except WasmtimeError as error:
                by_features[profile.forbidden] = " ".join(str(error).split())[:200]
        if by_features[profile.forbidden]:
            refusals[name] = by_features[profile.forbidden]
    return refusals
