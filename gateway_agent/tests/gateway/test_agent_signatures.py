"""The signature policy of a gateway: a real agent, runtime, API server and registry."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from gateway_site import Site, eventually, good

from tests.support.signing import SigningKey, make_key, push_signatures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.cluster

# Where nothing listens.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def keys(tmp_path: Path) -> list[SigningKey]:
    return [make_key(tmp_path, name) for name in ("first", "second", "stranger")]


def configure(site: Site, policy: str, *keys: SigningKey, mirror: str | None = None) -> None:
    """Restart the agent with a policy, as the role does."""
    if site.agent is not None:
        site.agent.stop()
    signatures = {"policy": policy, "keys": [str(key.public_file) for key in keys]}
    site.write_config(mirror=mirror, signatures=signatures)
    site.start_agent()
    assert site.agent is not None
    site.agent.wait_ready(lambda: site.readyz()[0] == 200)


def sign(site: Site, name: str, digest: str, *keys: SigningKey) -> None:
    push_signatures(site.registry, f"{site.name}/{name}", digest, *(key.sign(digest) for key in keys))


def test_only_what_is_signed_by_a_key_of_the_gateway_runs(site: Site, keys: list[SigningKey]) -> None:
    configure(site, "required", *keys[:2])
    signed, unsigned, foreign, other = (
        site.push(name, good(f"{name:7}")) for name in ("signed", "bare", "foreign", "other")
    )
    sign(site, "signed", signed, keys[2], keys[1])
    sign(site, "foreign", foreign, keys[2])
    push_signatures(site.registry, f"{site.name}/other", other, keys[0].sign(signed))
    for name, digest in (("signed", signed), ("bare", unsigned), ("foreign", foreign), ("other", other)):
        site.place(name, digest)
    site.wait_state("signed", "Running")
    why = {
        "bare": "it has no signature",
        "foreign": "none of its 1 signatures is by one of the 2 keys of this gateway",
        "other": "its signature by a known key is for another image (1 of 1)",
    }
    for name, text in why.items():
        state = site.wait_state(name, "Failed")
        assert state["reason"] == "ImagePullFailed"
        assert state["message"].startswith(
            f"registry.wasmbed.io/{site.name}/{name}:v1@{state['digest'][:19]}: {text}; sign it"
        )
        assert "gateway_signature_keys" in state["message"]
    assert site.metric('wasmbed_agent_signature_checks_total{result="verified"}') == 1
    # Nothing of what is refused is kept on the gateway.
    assert site.metric("wasmbed_agent_pulls_total") == 1
    sign(site, "bare", unsigned, keys[0])
    site.wait_state("bare", "Running")


def test_what_was_verified_runs_on_without_a_registry(site: Site, keys: list[SigningKey]) -> None:
    configure(site, "required", keys[0])
    digest = site.push("kept", good())
    sign(site, "kept", digest, keys[0], keys[1])
    site.place("kept", digest)
    word = site.wait_line("kept").word
    configure(site, "required", keys[0], mirror=NOWHERE)
    site.wait_state("kept", "Running")
    assert site.wait_line("kept").word == word
    assert site.runtime is not None
    site.runtime.kill()
    site.start_runtime()
    assert eventually(lambda: site.wait_line("kept").word != word, "a new instance")
    site.place("new", site.push("new", good("newcome")))
    message = site.wait_state("new", "Failed")["message"]
    assert message.startswith(f"its signature cannot be looked for: registry.wasmbed.io/{site.name}/new:v1")
    assert "127.0.0.1:1 cannot be reached (Failed to establish a new connection" in message


def test_a_key_that_is_taken_away_stops_what_it_signed(site: Site, keys: list[SigningKey]) -> None:
    configure(site, "required", keys[0], keys[1])
    rotated, left = site.push("rotated", good()), site.push("left", good("another"))
    sign(site, "rotated", rotated, keys[0], keys[1])
    sign(site, "left", left, keys[0])
    for name, digest in (("rotated", rotated), ("left", left)):
        site.place(name, digest)
        site.wait_state(name, "Running")
    word = site.wait_line("rotated").word
    configure(site, "required", keys[1])
    state = site.wait_state("left", "Failed")
    assert state["reason"] == "ImagePullFailed"
    assert "none of its 1 signatures is by one of the 1 keys" in state["message"]
    assert site.wait_line("rotated").word == word

    def silent() -> bool:
        site.new_lines()
        with contextlib.suppress(AssertionError):
            eventually(lambda: any(line.application == "default/left" for line in site.new_lines()), "a line", 1)
            return False
        return True

    assert eventually(silent, "silence of what is not trusted any more")


def test_a_warning_lets_it_run_and_says_so(site: Site, keys: list[SigningKey]) -> None:
    configure(site, "warn", keys[0])
    site.place("bare", site.push("bare", good()))
    state = site.wait_state("bare", "Running")
    assert eventually(
        lambda: site.device_state("bare").get("message", "").startswith("warning: registry.wasmbed.io/"), "the warning"
    )
    assert "it has no signature" in site.device_state("bare")["message"]
    assert "runs without a good signature" in site.log.read_text()
    assert site.metric('wasmbed_agent_signature_checks_total{result="refused"}') == 1
    configure(site, "required", keys[0])
    assert site.wait_state("bare", "Failed")["digest"] == state["digest"]
    configure(site, "off")
    site.wait_state("bare", "Running")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), ("nonsense", "it has no key; give ECDSA P-256 public keys in PEM")],
)
def test_a_key_that_cannot_be_used_ends_the_agent_with_its_name(
    new_site: Callable[..., Site], tmp_path: Path, content: str | None, says: str
) -> None:
    site = new_site()
    key = tmp_path / "bad.pub"
    if content is not None:
        key.write_text(content)
    assert site.agent is not None
    site.agent.stop()
    site.write_config(signatures={"policy": "required", "keys": [str(key)]})
    site.start_agent()
    assert eventually(lambda: f"signatures.keys: {key}" in site.log.read_text(), "the message")
    assert says in site.log.read_text()
