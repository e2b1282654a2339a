"""Kills and outages: applications run on, and everything comes back, once."""

from __future__ import annotations

import random
import time

import pytest
from gateway_site import Site, eventually, good

pytestmark = pytest.mark.cluster

LINES = 6


@pytest.fixture
def running(site: Site) -> Site:
    """A gateway with an application that runs."""
    site.place("steady", site.push("steady", good()))
    site.wait_state("steady", "Running")
    return site


def words(site: Site, *names: str) -> list[set[str]]:
    """The words that applications say while each says several: two instances of one would both have spoken."""
    site.new_lines()
    said: dict[str, list[str]] = {f"default/{name}": [] for name in names}

    def enough() -> bool:
        for line in site.new_lines():
            said.get(line.application, []).append(line.word)
        return min(map(len, said.values())) >= LINES

    eventually(enough, f"{LINES} lines of each of {names}")
    return [set(lines) for lines in said.values()]


def silent(site: Site) -> bool:
    """Whether nothing is said for some times the interval in which the application speaks."""
    site.new_lines()
    time.sleep(1.0)
    return not site.new_lines()


def ready(site: Site) -> None:
    assert site.agent is not None
    site.agent.wait_ready(lambda: site.readyz()[0] == 200)


def test_a_killed_agent_adopts_what_runs(running: Site) -> None:
    word = running.wait_line("steady").word
    before = running.device_state("steady")
    assert running.agent is not None
    running.agent.kill()
    running.start_agent()
    ready(running)
    assert running.wait_line("steady").word == word
    assert words(running, "steady") == [{word}]
    assert running.device_state("steady") == before


def test_what_was_removed_while_the_agent_was_away_is_stopped(running: Site) -> None:
    assert running.agent is not None
    running.agent.kill()
    running.remove("steady")
    running.start_agent()
    ready(running)
    eventually(lambda: silent(running), "silence")


def test_a_killed_runtime_gets_everything_again_once(running: Site) -> None:
    word = running.wait_line("steady").word
    assert running.runtime is not None
    running.runtime.kill()
    _, report = eventually(lambda: (r := running.readyz())[0] == 503 and r, "not ready")
    assert "runtime: not ready: " in report
    running.start_runtime()
    assert eventually(lambda: (w := running.wait_line("steady").word) != word and w, "another instance")
    ready(running)
    running.wait_state("steady", "Running")
    assert [len(said) for said in words(running, "steady")] == [1]


def test_a_runtime_that_stays_away_is_shown(running: Site) -> None:
    assert running.runtime is not None
    running.runtime.stop()
    state = running.wait_state("steady", "Pending")
    assert state["message"].startswith("waiting for the runtime: ")
    running.start_runtime()
    running.wait_state("steady", "Running")


def test_both_killed_at_once_end_with_one_instance(running: Site) -> None:
    assert running.agent is not None
    assert running.runtime is not None
    running.agent.kill()
    running.runtime.kill()
    running.start_agent()
    running.start_runtime()
    ready(running)
    running.wait_line("steady")
    assert [len(said) for said in words(running, "steady")] == [1]


def test_kills_in_the_middle_of_starting_many_end_with_each_once(running: Site) -> None:
    digest = running.push("crowd", good())
    names = [f"crowd{number}" for number in range(8)]
    chance = random.Random(3)
    for name in names:
        running.place(name, digest, image=f"registry.wasmbed.io/{running.name}/crowd:v1")
    for _ in range(8):
        # The moment of the kill is what this test varies.
        time.sleep(chance.uniform(0.0, 1.5))
        victim = chance.choice((running.agent, running.runtime))
        assert victim is not None
        victim.kill()
        (running.start_agent if victim is running.agent else running.start_runtime)()
    ready(running)
    for name in names:
        running.wait_state(name, "Running")
    assert [len(said) for said in words(running, *names)] == [1] * len(names)


def test_an_outage_of_the_api_stops_nothing_and_is_caught_up(running: Site) -> None:
    word = running.wait_line("steady").word
    digest = running.push("later", good())
    running.cluster.stop_apiserver()
    try:
        _, report = eventually(lambda: (r := running.readyz())[0] == 503 and r, "not ready")
        assert "api: not ready: " in report
        assert words(running, "steady") == [{word}]
    finally:
        running.cluster.start_apiserver()
    running.place("later", digest)
    running.wait_state("later", "Running")
    ready(running)
    assert running.wait_line("steady").word == word
    assert running.device_state("steady")["restarts"] == 0


def test_a_restart_without_the_api_or_the_registry_runs_what_was_placed(running: Site) -> None:
    assert running.agent is not None
    assert running.runtime is not None
    running.cluster.stop_apiserver()
    try:
        running.agent.kill()
        running.runtime.kill()
        running.write_config(mirror="127.0.0.1:1")
        running.start_runtime()
        running.start_agent()
        word = running.wait_line("steady").word
    finally:
        running.cluster.start_apiserver()
    ready(running)
    assert words(running, "steady") == [{word}]
    assert running.wait_state("steady", "Running")["restarts"] == 0


def test_an_agent_restarted_without_the_api_adopts_and_changes_no_status(running: Site) -> None:
    word = running.wait_line("steady").word
    before = running.placement("steady")["metadata"]["resourceVersion"]
    assert running.agent is not None
    running.cluster.stop_apiserver()
    try:
        running.agent.kill()
        running.start_agent()
        report = eventually(lambda: "sync: ok" in (r := running.readyz()[1]) and r, "restored")
        assert "api: not ready" in report
        assert running.wait_line("steady").word == word
    finally:
        running.cluster.start_apiserver()
    ready(running)
    running.place("steady2", running.placement("steady")["spec"]["digest"])
    running.wait_state("steady2", "Running")
    assert running.placement("steady")["metadata"]["resourceVersion"] == before
