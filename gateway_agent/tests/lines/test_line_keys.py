"""Keys of lines are rotated: both boards' own firmware in QEMU, a real agent that is started with its new settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from gateway_site import eventually
from line_site import small
from wasmbed.tools import link_key

if TYPE_CHECKING:
    from pathlib import Path

    from line_site import LineSite

pytestmark = pytest.mark.timeout(400)
TOLD_S = 60.0


def restart(site: LineSite, **changes: Any) -> None:
    """Change the section `lines` of the agent's settings and start it anew."""
    assert site.agent is not None
    site.agent.stop()
    site.settings["lines"].update(changes)
    site.write_config()
    site.start_agent()
    site.agent.wait_ready(lambda: site.readyz()[0] == 200)


def previous(site: LineSite, until: str) -> dict[str, str]:
    """The settings of a rotation that is under way."""
    return {"previous_key_file": str(previous_file(site)), "previous_key_until": until}


def previous_file(site: LineSite) -> Path:
    return site.key_file.with_name(site.key_file.name + ".previous")


def at(**offset: float) -> str:
    """A time from now."""
    return (datetime.now(UTC) + timedelta(**offset)).strftime("%Y-%m-%dT%H:%M:%SZ")


def knows(site: LineSite, name: str, key: str) -> bool:
    """Whether a device knows the gateway by its `current` or `previous` key."""
    return site.metric(f'wasmbed_agent_line_gateway_key{{device="default/{name}",key="{key}"}}') == 1


def next_key(site: LineSite) -> str:
    """The key that dev-1 made to replace its own, if it did."""
    text = requests.get(f"http://127.0.0.1:{site.http_port}/metrics", timeout=2).text
    found = re.search(r'wasmbed_agent_line_next_key\{device="default/dev-1",key="([^"]+)"\}', text)
    return found[1] if found else ""


@pytest.mark.parametrize("board", ["stm32", "hifive1"])
def test_the_gateways_key_is_rotated_and_a_device_that_was_off_is_told_when_it_is_back(
    line_site: LineSite, board: str
) -> None:
    running, away = line_site.board(board, "dev-1"), line_site.board(board, "dev-2")
    line_site.begin()
    for name in ("dev-1", "dev-2"):
        line_site.wait_link(name, "Connected")
        eventually(lambda name=name: knows(line_site, name, "current"), "known", TOLD_S)
    line_site.place_on("small", line_site.push("small", small()), running)
    line_site.wait_state("small", "Running")
    word = line_site.wait_line("small").word
    away.off()
    line_site.wait_link("dev-2", "Disconnected")

    assert link_key.rotate(line_site.key_file, timedelta(days=1))
    restart(line_site, **previous(line_site, at(days=1)))
    eventually(lambda: knows(line_site, "dev-1", "current"), "dev-1 was told", TOLD_S)
    assert knows(line_site, "dev-2", "unknown")
    away.on()
    line_site.wait_link("dev-2", "Connected")
    eventually(lambda: knows(line_site, "dev-2", "current"), "dev-2 was told", TOLD_S)

    assert link_key.end(line_site.key_file)
    restart(line_site, previous_key_file=None, previous_key_until="")
    for name in ("dev-1", "dev-2"):
        line_site.wait_link(name, "Connected")
        eventually(lambda name=name: knows(line_site, name, "current"), "known", TOLD_S)
    # Nothing was started anew for any of it.
    assert line_site.wait_line("small").word == word
    assert line_site.metric("wasmbed_agent_link_refusals_total") == 0


def test_a_device_that_missed_the_rotation_is_refused_and_named_with_the_remedy(line_site: LineSite) -> None:
    device = line_site.board("hifive1", "dev-1")
    assert link_key.rotate(line_site.key_file, timedelta(days=1))
    until = at(seconds=-1)
    line_site.begin()
    restart(line_site, **previous(line_site, until))
    eventually(lambda: line_site.refusals("OldKey"), "a refusal", TOLD_S)
    text = line_site.log.read_text()
    assert f"EdgeDevice default/dev-1 knows the gateway by its previous key, whose time ended at {until}" in text
    assert line_site.link("dev-1").get("state") != "Connected"
    # The remedy: a later end.
    restart(line_site, **previous(line_site, at(days=1)))
    line_site.wait_link("dev-1", "Connected")
    eventually(lambda: knows(line_site, "dev-1", "current"), "it was told", TOLD_S)
    assert device.pid


@pytest.mark.parametrize("board", ["stm32", "hifive1"])
def test_a_device_makes_its_next_key_and_is_known_by_it(line_site: LineSite, board: str) -> None:
    device = line_site.board(board, "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    restart(line_site, replace_device_keys=[device.public_key])

    def made() -> str:
        return next_key(line_site)

    key = eventually(made, "its next key", TOLD_S)
    assert key != device.public_key
    # The key before is good until the slice has the new one, also over a loss of power.
    device.off()
    line_site.wait_link("dev-1", "Disconnected")
    device.on()
    line_site.wait_link("dev-1", "Connected")
    assert made() == key
    line_site.slice({"dev-1": key})
    eventually(lambda: not made(), "it is known by its next key", TOLD_S)
    line_site.wait_link("dev-1", "Connected")
    device.off()
    line_site.wait_link("dev-1", "Disconnected")
    device.on()
    line_site.wait_link("dev-1", "Connected")
    # And by that alone.
    line_site.slice({"dev-1": device.public_key})
    line_site.wait_link("dev-1", "Disconnected")
    restart(line_site, replace_device_keys=[])
    eventually(lambda: line_site.refusals("WrongKey"), "a refusal", TOLD_S)
    assert line_site.link("dev-1").get("state") != "Connected"


@pytest.mark.parametrize(
    ("seen", "goes_on"), [("only the new one", True), ("slice first", True), ("work first", False)]
)
def test_a_new_edge_device_starts_anew_only_what_the_device_was_told_to_stop(
    line_site: LineSite, seen: str, goes_on: bool
) -> None:
    """An EdgeDevice is deleted and made again with the next key: what the agent sees of that in between decides.

    A session ends with its slice entry, and then nothing is stopped. Contents do not tell the two EdgeDevices apart.
    """
    device = line_site.board("hifive1", "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    digest = line_site.push("small", small())
    line_site.place_on("small", digest, device)
    line_site.wait_state("small", "Running")
    word = line_site.wait_line("small").word
    restart(line_site, replace_device_keys=[device.public_key])
    key = eventually(lambda: next_key(line_site), "its next key", TOLD_S)
    assert line_site.wait_line("small").word == word

    if seen == "slice first":
        line_site.slice({})
        eventually(lambda: line_site.refusals("Revoked") == 1, "the end of the session", TOLD_S)
    if seen != "only the new one":
        line_site.remove("small")
        eventually(lambda: line_site.metric("wasmbed_agent_placements") == 0, "no Placement", TOLD_S)
    line_site.place_on("small", digest, device, uid="uid-new")
    eventually(lambda: line_site.metric("wasmbed_agent_placements") == 1, "the Placement", TOLD_S)
    line_site.slice({"dev-1": key}, uid="uid-new")
    eventually(lambda: not next_key(line_site), "it is known by its next key", TOLD_S)
    line_site.wait_link("dev-1", "Connected")
    line_site.wait_state("small", "Running")
    assert (line_site.wait_line("small").word == word) is goes_on
