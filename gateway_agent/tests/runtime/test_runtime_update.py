"""Hot updates: the new version starts before the old one ends, state goes over, and a bad one is taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from runtime_support import Agent, application, digest_of, timer
from wasmbed.runtime import Delivery, Limits, LogEvent, StartRequest, StateEvent, abi

if TYPE_CHECKING:
    from wasmbed.runtime import Event

USES = ("sys.log", "sys.timer_set", "sys.state_put", "sys.state_get")
# Counts in a byte at 64; logs "<letter><count>" at start, when its timer is due and at its end.
SAY = """(i32.store8 (i32.const 1) (i32.add (i32.const 48) (i32.load8_u (i32.const 64))))
  (call $sys.log (i32.const 2) (i32.const 0) (i32.const 2))"""
COUNT = "(i32.store8 (i32.const 64) (i32.add (i32.const 1) (i32.load8_u (i32.const 64))))"


def version(letter: str, *, init: str = "", event: str = "", save: str | None = None, stop: str | None = None) -> bytes:
    """A version of a counting application; it takes over the count."""
    save = "(call $sys.state_put (i32.const 64) (i32.const 1))" if save is None else save
    stop = "(i32.store8 (i32.const 1) (i32.const 33)) (call $sys.log (i32.const 2) (i32.const 0) (i32.const 2))"
    return application(
        f"""(data (i32.const 0) "{letter}?")
        (func (export "wasmbed_save") (result i32) {save})
        (func (export "wasmbed_stop") {stop})""",
        uses=USES,
        init=f"(drop (call $sys.state_get (i32.const 64) (i32.const 1))) {SAY} {timer(20)} {init}",
        event=event or COUNT,
    )


def lines(agent: Agent) -> list[str]:
    return [event.text for event in agent.events if isinstance(event, LogEvent)]


async def update(agent: Agent, request: StartRequest, module: bytes) -> StartRequest:
    await agent.client.load(digest_of(module), module)
    new = replace(request, digest=digest_of(module))
    await agent.client.start(new)
    return new


async def test_the_new_version_starts_with_the_state_of_the_old_one_which_ends_after_it(agent: Agent) -> None:
    request = await agent.run("app", version("a", event=f"{COUNT} {SAY}"))
    await agent.log("app", "a2")
    new = await update(agent, request, version("b"))
    await agent.log("app", "a!")
    texts = lines(agent)
    begun = next(text for text in texts if text.startswith("b"))
    assert ord(begun[1]) >= ord("2")
    assert texts.index(begun) < texts.index("a!")
    (row,) = await agent.client.list()
    assert (row.key, row.digest, row.state, row.previous, row.restarts) == (new.key(), new.digest, "Running", "", 0)
    assert [e.state for e in agent.events if isinstance(e, StateEvent) and e.state != "Starting"] == ["Running"] * 2


BAD = {
    "init fails": ({"init": "(return (i32.const 7))"}, "wasmbed_init: returned 7"),
    "init traps": ({"init": "unreachable"}, "wasmbed_init: unreachable executed"),
    "init never ends": ({"init": "(loop (br 0))"}, "wasmbed_init used its 200 ms of CPU time"),
    "an event traps": ({"event": "unreachable"}, "wasmbed_event: unreachable executed"),
    "an event fails": ({"event": "(return (i32.const -3))"}, "wasmbed_event: returned -3"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_version_that_fails_at_once_is_taken_back(agent: Agent, what: str) -> None:
    change, says = BAD[what]
    request = await agent.run("app", version("a", event=f"{COUNT} {SAY}"))
    await agent.log("app", "a2")
    bad = await update(agent, request, version("b", **change))
    event = await agent.wait_for(
        lambda e: isinstance(e, StateEvent) and e.rolled_back == bad.key(),
    )
    assert isinstance(event, StateEvent)
    assert event.message.startswith("update failed: ")
    assert event.message.endswith(f"; {request.digest[:19]} runs again")
    assert says.replace(" used its 200 ms", "") in event.message or "200 ms" in event.message
    seen = len(agent.events)
    async with asyncio.timeout(60):
        while (row := (await agent.client.list())[0]).state != "Running":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while not any(_is_count(event) for event in agent.events[seen:]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (row.key, row.digest, row.previous) == (request.key(), request.digest, bad.key())
    assert row.state == "Running"
    # It went on counting: with its memory when the new one never ran, else with the state that was saved.
    counts = [ord(text[1]) - 48 for text in lines(agent) if text[0] == "a" and text[1] != "!"]
    assert counts[-1] > 2
    assert 0 not in counts[1:]


def _is_count(event: Event) -> bool:
    return isinstance(event, LogEvent) and event.text[0] == "a" and event.text[1] != "!"


async def test_a_version_without_a_state_to_hand_over_begins_anew(agent: Agent) -> None:
    request = await agent.run("app", version("a", event=f"{COUNT} {SAY}", save="(i32.const -1)"))
    await agent.log("app", "a2")
    await update(agent, request, version("b"))
    await agent.log("app", "b0")


async def test_a_trap_while_saving_costs_the_state_alone(agent: Agent) -> None:
    request = await agent.run("app", version("a", event=f"{COUNT} {SAY}", save="unreachable"))
    await agent.log("app", "a2")
    new = await update(agent, request, version("b"))
    await agent.log("app", "b0")
    async with asyncio.timeout(60):
        while (await agent.client.list())[0].key != new.key():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    assert "a!" not in lines(agent)


async def test_a_failed_instance_is_updated_in_its_pause(agent: Agent) -> None:
    request = await agent.run("app", application(init="unreachable"))
    await agent.state("app", "Failed")
    await update(agent, request, version("b"))
    await agent.log("app", "b0")
    await agent.state("app", "Running")


async def test_an_instance_in_an_endless_call_is_updated(agent: Agent) -> None:
    busy = application(uses=("sys.log", "sys.timer_set"), init=timer(10), event="(loop (br 0))")
    request = await agent.run("app", busy, limits=Limits())
    await agent.state("app", "Running")
    await update(agent, request, version("b"))
    await agent.log("app", "b0")


async def test_one_update_after_another_ends_with_the_last(agent: Agent) -> None:
    request = await agent.run("app", version("a"))
    for letter in "bcdef":
        request = await update(agent, request, version(letter))
    await agent.log("app", "f")
    await agent.log("app", "e!")
    assert (await agent.client.list())[0].key == request.key()


async def test_settings_alone_are_an_update_too(agent: Agent) -> None:
    request = await agent.run("app", version("a"))
    await agent.log("app", "a0")
    await agent.client.start(replace(request, env={"WORD": "other"}))
    await agent.log("app", "a!")


async def test_stop_calls_the_application_once_and_gives_it_a_second(agent: Agent) -> None:
    await agent.run("app", version("a"))
    await agent.state("app", "Running")
    await agent.client.stop("app")
    await agent.log("app", "a!")
    endless = application('(func (export "wasmbed_stop") (loop (br 0)))', init="(nop)")
    await agent.run("endless", endless)
    await agent.state("endless", "Running")
    await agent.client.stop("endless")
    assert await agent.client.list() == []


async def test_an_event_for_the_old_version_does_not_reach_a_name_that_is_gone(agent: Agent) -> None:
    await agent.run("app", version("a"))
    await agent.client.stop("app")
    agent.client.deliver(
        [Delivery("app", abi.EventType.LINK, 1), Delivery("nobody", abi.EventType.RESULT, 5, bytes(4))]
    )
    assert await agent.client.list() == []
