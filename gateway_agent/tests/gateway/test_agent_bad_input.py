"""Bad input ends in the state and reason of the design, and a neighbour does not notice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from gateway_site import Site, eventually, good, wat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster

MIB = 1 << 20
NO_DIGEST = "sha256:" + "0" * 64

ENDLESS = (
    '(module (func (export "wasmbed_abi_1")) (func (export "wasmbed_init") (result i32) (loop (br 0)) (i32.const 0)))'
)
GREEDY = """
(module (memory (export "memory") 1) (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable)) (i32.const 0)))
"""
RECURSIVE = """
(module (func $down (param i64 i64 i64 i64) (result i32)
    (i32.add (i32.const 1) (call $down (local.get 3) (local.get 2) (local.get 1) (local.get 0))))
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (call $down (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4))))
"""
UNKNOWN_IMPORT = """
(module (import "wasmbed:sys" "reboot" (func)) (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32) (i32.const 0)))
"""


@pytest.fixture(scope="module")
def site(new_site: Callable[..., Site]) -> Site:
    site = new_site(maxArtifactBytes=MIB)
    site.place("neighbour", site.push("neighbour", good()))
    site.wait_state("neighbour", "Running")
    return site


@pytest.fixture(autouse=True)
def neighbour(site: Site) -> Iterator[None]:
    """A neighbour that runs on: the same word all along, no restart, no gap of a second between its lines."""
    word = site.wait_line("neighbour").word
    since = site.device_state("neighbour")["since"]
    started = time.monotonic()
    yield
    lines = [line for line in site.new_lines() if line.application == "default/neighbour"]
    assert {line.word for line in lines} <= {word}
    assert len(lines) >= int(time.monotonic() - started), "the neighbour stopped logging"
    assert site.wait_line("neighbour").word == word
    state = site.device_state("neighbour")
    assert (state["state"], state["restarts"], state["since"]) == ("Running", 0, since)


def failed(site: Site, name: str, digest: str, **changes: Any) -> tuple[str, str]:
    site.place(name, digest, **changes)
    state = site.wait_state(name, "Failed")
    site.remove(name)
    return state["reason"], state["message"]


def test_unknown_image(site: Site) -> None:
    reason, message = failed(site, "unknown", NO_DIGEST, image="registry.wasmbed.io/no/such:v1")
    assert reason == "ImagePullFailed"
    assert "not found (via 127.0.0.1" in message


def test_wrong_digest(site: Site) -> None:
    site.push("wrong", good())
    reason, message = failed(site, "wrong", NO_DIGEST)
    assert reason == "ImagePullFailed"
    assert NO_DIGEST in message


def test_not_a_wasm_file(site: Site) -> None:
    reason, message = failed(site, "text", site.push("text", b"#!/bin/sh\necho hello\n"))
    assert reason == "InvalidModule"
    assert message


def test_an_import_that_nothing_provides_is_named(site: Site) -> None:
    reason, message = failed(site, "imports", site.push("imports", wat(UNKNOWN_IMPORT)))
    assert reason == "InvalidModule"
    assert "wasmbed:sys.reboot" in message


def test_an_import_that_is_not_granted_is_named(site: Site) -> None:
    reason, message = failed(site, "denied", site.push("denied", good()), grants=[])
    assert reason == "InvalidModule"
    assert "wasmbed:sys is not granted" in message


def test_a_module_that_never_returns(site: Site) -> None:
    limits = {"memoryBytes": MIB, "stackBytes": 65536, "cpuMillisPerCall": 50}
    reason, message = failed(site, "endless", site.push("endless", wat(ENDLESS)), limits=limits)
    assert reason == "DeviceError"
    assert "50 ms" in message


def test_a_module_that_allocates_beyond_its_limit(site: Site) -> None:
    reason, message = failed(site, "greedy", site.push("greedy", wat(GREEDY)))
    assert reason == "DeviceError"
    assert message


def test_a_module_that_recurses_without_end(site: Site) -> None:
    reason, message = failed(site, "recursive", site.push("recursive", wat(RECURSIVE)))
    assert reason == "DeviceError"
    assert "stack" in message


def test_an_artifact_over_the_limit_of_the_gateway(site: Site) -> None:
    padding = MIB + 1
    size = b""
    while padding or not size:
        size += bytes([(padding & 127) | (128 if padding > 127 else 0)])
        padding >>= 7
    module = good() + b"\0" + size + b"\1p" + b"\0" * (MIB - 1)
    reason, message = failed(site, "large", site.push("large", module))
    assert reason == "ImagePullFailed"
    assert f"has {len(module)} bytes, more than the {MIB} allowed" in message


def test_a_failing_instance_is_restarted_with_a_count(site: Site) -> None:
    trap = wat('(module (func (export "wasmbed_abi_1")) (func (export "wasmbed_init") (result i32) unreachable))')
    site.place("trap", site.push("trap", trap))
    state = eventually(lambda: (s := site.device_state("trap")).get("restarts", 0) >= 1 and s, "a restart")
    assert (state["state"], state["reason"]) == ("Failed", "DeviceError")
    site.remove("trap")


def test_a_failed_pull_is_repeated_until_it_works(site: Site) -> None:
    module = good("lateone")
    digest = site.push("late-source", module)
    site.place("late", digest)
    assert site.wait_state("late", "Failed")["reason"] == "ImagePullFailed"
    assert site.push("late", module) == digest
    site.wait_state("late", "Running")
    site.remove("late")
