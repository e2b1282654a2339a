"""The plan: single decisions, and that any sequence of events ends with what is wanted, each instance once."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from wasmbed.api import ApplicationRef, Metadata, Placement, PlacementDevice, PlacementLimits
from wasmbed.gateway.flight_model import Gate
from wasmbed.gateway.model import (
    Failure,
    Observed,
    Progress,
    Refusal,
    Stage,
    Wanted,
    merge_instances,
    placement_instances,
    retry_delay_s,
)
from wasmbed.gateway.plan import Plan, World, make_plan
from wasmbed.runtime import StartRequest

DIGESTS = ["sha256:" + letter * 64 for letter in "abc"]


def want(name: str, digest: str = DIGESTS[0], value: str = "") -> Wanted:
    request = StartRequest(name, digest, "ns/app", "ns/dev", "gateway", env={"value": value})
    return Wanted("r.io/app:v1", request, request.key())


def observe(wanted: Wanted, state: str = "Running") -> Observed:
    return Observed(wanted.request.digest, wanted.key, state)


def world(**changes: object) -> World:
    empty = World({}, {}, frozenset(), {}, {}, {}, 64, True, 100.0)
    return replace(empty, **changes)  # type: ignore[arg-type]


DONE = {digest: Progress(Stage.DONE) for digest in DIGESTS}


def test_a_new_instance_is_pulled_loaded_started() -> None:
    wanted = {"i": want("i")}
    plan = make_plan(world(wanted=wanted))
    assert (plan.pulls, plan.loads, plan.starts) == ({DIGESTS[0]}, set(), {})
    plan = make_plan(world(wanted=wanted, artifacts=DONE))
    assert (plan.pulls, plan.loads, plan.starts) == (set(), {DIGESTS[0]}, {})
    plan = make_plan(world(wanted=wanted, artifacts=DONE, modules=DONE))
    assert plan.starts == {"i": wanted["i"].request}
    assert plan.shown["i"].state == "Starting"


def test_an_equal_instance_is_adopted_without_its_artifact() -> None:
    wanted = {"i": want("i")}
    plan = make_plan(world(wanted=wanted, running={"i": observe(wanted["i"])}))
    assert (plan.pulls, plan.loads, plan.starts, plan.stops) == (set(), set(), {}, set())
    assert plan.shown["i"].state == "Running"


def test_the_old_version_runs_until_the_new_one_is_loaded() -> None:
    old, new = want("i", DIGESTS[0]), want("i", DIGESTS[1])
    running = {"i": observe(old)}
    plan = make_plan(world(wanted={"i": new}, running=running, artifacts=DONE))
    assert (plan.loads, plan.starts, plan.stops) == ({DIGESTS[1]}, {}, set())
    plan = make_plan(world(wanted={"i": new}, running=running, artifacts=DONE, modules=DONE))
    assert plan.starts == {"i": new.request}


def test_an_update_that_was_taken_back_is_shown_and_not_tried_until_something_else_is_wanted() -> None:
    old, new = want("i", DIGESTS[0]), want("i", DIGESTS[1])
    message = "update failed: wasmbed_init: returned 7; sha256:aaaaaaaaaaaa runs again"
    running = {"i": replace(observe(old), previous=new.key, message=message)}
    plan = make_plan(world(wanted={"i": new}, running=running, artifacts=DONE, modules=DONE))
    assert (plan.starts, plan.stops, plan.wake_at) == ({}, set(), math.inf)
    shown = plan.shown["i"]
    assert (shown.state, shown.reason, shown.message, shown.digest) == ("Failed", "DeviceError", message, DIGESTS[1])
    better = want("i", DIGESTS[2])
    plan = make_plan(world(wanted={"i": better}, running=running, artifacts=DONE, modules=DONE))
    assert plan.starts == {"i": better.request}
    plan = make_plan(world(wanted={"i": old}, running=running, artifacts=DONE, modules=DONE))
    assert (plan.starts, plan.shown["i"].state) == ({}, "Running")


def untrusted(retry_at: float = 130.0) -> Progress:
    return Progress(failure=Failure("ImagePullFailed", "it has no signature", retry_at, untrusted=True))


def test_with_a_signature_policy_what_runs_is_verified_too() -> None:
    wanted = {"i": want("i")}
    running = {"i": observe(wanted["i"])}
    plan = make_plan(world(wanted=wanted, running=running, verify=True))
    assert (plan.pulls, plan.stops) == ({DIGESTS[0]}, set())
    assert plan.shown["i"].state == "Running"
    plan = make_plan(world(wanted=wanted, running=running, verify=True, artifacts=DONE))
    assert (plan.pulls, plan.stops, plan.wake_at) == (set(), set(), math.inf)


def test_what_is_known_to_be_untrusted_is_stopped_and_asked_for_again() -> None:
    wanted = {"i": want("i")}
    changes = {"wanted": wanted, "running": {"i": observe(wanted["i"])}, "verify": True}
    plan = make_plan(world(**changes, artifacts={DIGESTS[0]: untrusted()}))
    assert (plan.stops, plan.starts, plan.pulls, plan.wake_at) == ({"i"}, {}, set(), 130.0)
    assert (plan.shown["i"].state, plan.shown["i"].reason) == ("Failed", "ImagePullFailed")
    assert plan.shown["i"].message == "it has no signature"
    plan = make_plan(world(**{**changes, "busy": {"i"}}, artifacts={DIGESTS[0]: untrusted()}))
    assert plan.stops == set()
    plan = make_plan(world(**{**changes, "running": {}}, artifacts={DIGESTS[0]: untrusted(90.0)}))
    assert (plan.pulls, plan.starts) == ({DIGESTS[0]}, {})


def test_what_is_not_trusted_any_more_is_stopped_after_the_flight() -> None:
    wanted = {"i": want("i")}
    flying = world(
        wanted=wanted,
        running={"i": observe(wanted["i"])},
        verify=True,
        artifacts={DIGESTS[0]: untrusted()},
        gates={"ns/dev": Gate(flying="is in the air")},
    )
    plan = make_plan(flying)
    assert plan.stops == set()
    assert plan.shown["i"].state == "Running"
    assert plan.shown["i"].message == "to be stopped after the flight: it has no signature"
    assert make_plan(replace(flying, gates={})).stops == {"i"}
    allowed = {"i": replace(wanted["i"], allow_in_flight=True)}
    assert make_plan(replace(flying, wanted=allowed)).stops == {"i"}


def test_a_registry_that_cannot_be_asked_stops_nothing() -> None:
    wanted = {"i": want("i")}
    unknown = Progress(failure=Failure("ImagePullFailed", "the registry is away", 130.0))
    plan = make_plan(
        world(wanted=wanted, running={"i": observe(wanted["i"])}, verify=True, artifacts={DIGESTS[0]: unknown})
    )
    assert (plan.stops, plan.wake_at, plan.shown["i"].state) == (set(), 130.0, "Running")


def test_a_warning_about_the_signature_is_shown_with_what_runs() -> None:
    wanted = {"i": want("i")}
    warned = {DIGESTS[0]: Progress(Stage.DONE, warning="warning: it has no signature")}
    plan = make_plan(world(wanted=wanted, running={"i": observe(wanted["i"])}, verify=True, artifacts=warned))
    assert (plan.shown["i"].state, plan.shown["i"].message) == ("Running", "warning: it has no signature")


def test_an_old_version_runs_on_beside_an_untrusted_new_one() -> None:
    old, new = want("i", DIGESTS[0]), want("i", DIGESTS[1])
    plan = make_plan(
        world(wanted={"i": new}, running={"i": observe(old)}, verify=True, artifacts={DIGESTS[1]: untrusted()})
    )
    assert plan.stops == set()
    assert plan.shown["i"].message.endswith("runs on")


def test_an_instance_with_a_call_under_way_is_left_alone() -> None:
    wanted = {"i": want("i")}
    plan = make_plan(world(wanted=wanted, artifacts=DONE, modules=DONE, busy={"i"}))
    assert plan.starts == {}
    plan = make_plan(world(running={"i": observe(wanted["i"])}, busy={"i"}))
    assert plan.stops == set()


def test_nothing_starts_or_changes_on_a_device_in_flight_until_it_has_landed() -> None:
    new, old = want("i", DIGESTS[1]), want("i", DIGESTS[0])
    flying = world(wanted={"i": new}, modules=DONE, gates={"ns/dev": Gate(flying="is in the air")})
    assert make_plan(flying).pulls == {DIGESTS[1]}, "the module is made ready meanwhile"
    flying = replace(flying, artifacts=DONE)
    plan = make_plan(flying)
    assert (plan.starts, plan.stops) == ({}, set())
    shown = plan.shown["i"]
    assert (shown.state, shown.reason, shown.message) == ("Pending", "InFlight", "waiting: ns/dev is in the air")
    plan = make_plan(replace(flying, running={"i": observe(old)}))
    assert (plan.starts, plan.stops) == ({}, set())
    assert plan.shown["i"].message == f"waiting: ns/dev is in the air; {DIGESTS[0][:19]} runs on"
    running = make_plan(replace(flying, running={"i": observe(new)}))
    assert (running.starts, running.stops, running.shown["i"].state) == ({}, set(), "Running")
    allowed = replace(flying, wanted={"i": replace(new, allow_in_flight=True)})
    assert set(make_plan(allowed).starts) == {"i"}
    assert set(make_plan(replace(flying, gates={})).starts) == {"i"}, "after landing"
    assert make_plan(replace(flying, wanted={}, running={"i": observe(old)})).stops == {"i"}, "a removal is carried out"


def test_nothing_runs_on_a_suspended_device_whatever_else_holds() -> None:
    wanted = {"i": replace(want("i"), allow_in_flight=True)}
    gates = {"ns/dev": Gate(suspended=True, flying="is in the air")}
    ready = world(wanted=wanted, artifacts=DONE, modules=DONE, gates=gates)
    for running in ({}, {"i": observe(wanted["i"])}):
        plan = make_plan(replace(ready, running=running))
        assert (plan.starts, plan.stops) == ({}, set(running))
        assert (plan.shown["i"].state, plan.shown["i"].reason) == ("Suspended", "Suspended")
    busy = make_plan(replace(ready, running={"i": observe(wanted["i"])}, busy={"i"}))
    assert busy.stops == set()


def test_nothing_is_stopped_before_all_placements_are_known() -> None:
    running = {"i": observe(want("i"))}
    assert make_plan(world(running=running, complete=False)).stops == set()
    assert make_plan(world(running=running)).stops == {"i"}


def test_a_failure_is_shown_until_the_next_try_succeeds_and_wakes_the_plan() -> None:
    wanted = {"i": want("i")}
    failure = Failure("ImagePullFailed", "not found", 105.0)
    plan = make_plan(world(wanted=wanted, artifacts={DIGESTS[0]: Progress(Stage.MISSING, failure)}))
    assert (plan.pulls, plan.wake_at, plan.shown["i"].reason) == (set(), 105.0, "ImagePullFailed")
    plan = make_plan(world(wanted=wanted, artifacts={DIGESTS[0]: Progress(Stage.MISSING, failure)}, now=105.0))
    assert (plan.pulls, plan.shown["i"].state) == ({DIGESTS[0]}, "Failed")
    plan = make_plan(world(wanted=wanted, artifacts={DIGESTS[0]: Progress(Stage.BUSY, failure)}, now=105.0))
    assert (plan.pulls, plan.shown["i"].state) == (set(), "Failed")


def test_a_refusal_counts_only_for_the_content_that_was_refused() -> None:
    refused, edited = want("i", value="1"), want("i", value="2")
    refusals = {"i": Refusal(refused.key, Failure("InvalidModule", "no grant", math.inf))}
    plan = make_plan(world(wanted={"i": refused}, artifacts=DONE, modules=DONE, refusals=refusals))
    assert (plan.starts, plan.wake_at, plan.shown["i"].reason) == ({}, math.inf, "InvalidModule")
    plan = make_plan(world(wanted={"i": edited}, artifacts=DONE, modules=DONE, refusals=refusals))
    assert plan.starts == {"i": edited.request}


def test_what_was_refused_is_told_beside_what_runs_on() -> None:
    old, new, edited = want("i"), want("i", DIGESTS[1]), want("i", value="2")
    for wanted, ends in ((new, f"; {DIGESTS[0][:19]} runs on"), (edited, "; it runs on as it was")):
        refusals = {"i": Refusal(wanted.key, Failure("InvalidModule", "m" * 256, math.inf))}
        plan = make_plan(
            world(wanted={"i": wanted}, running={"i": observe(old)}, artifacts=DONE, modules=DONE, refusals=refusals)
        )
        assert (plan.starts, plan.stops) == ({}, set())
        assert (plan.shown["i"].state, plan.shown["i"].digest) == ("Failed", wanted.request.digest)
        assert plan.shown["i"].message.endswith(ends)
        assert len(plan.shown["i"].message.encode()) <= 256


def test_a_withdrawn_grant_ends_the_instance_at_once() -> None:
    old, new = want("i"), want("i", DIGESTS[1])
    running = {"i": replace(observe(old), grants=frozenset({"wasmbed:sys"}))}
    plan = make_plan(world(wanted={"i": new}, running=running))
    assert (plan.stops, plan.starts) == ({"i"}, {})
    plan = make_plan(world(wanted={"i": new}, running=running, artifacts=DONE, modules=DONE))
    assert (plan.stops, plan.starts) == ({"i"}, {}), "not stopped and started by two calls"
    plan = make_plan(world(wanted={"i": new}, running=running, artifacts=DONE, modules=DONE, busy={"i"}))
    assert (plan.stops, plan.starts) == (set(), {})


def test_those_that_run_keep_their_place_when_modules_are_limited() -> None:
    wanted = {name: want(name) for name in "abc"}
    running = {"c": observe(wanted["c"])}
    plan = make_plan(world(wanted=wanted, running=running, artifacts=DONE, modules=DONE, max_modules=2))
    assert set(plan.starts) == {"a"}
    assert (plan.shown["b"].reason, plan.shown["b"].message) == ("DeviceError", "gateway limit of 2 modules")
    running = {name: observe(wanted[name]) for name in "abc"}
    assert make_plan(world(wanted=wanted, running=running, max_modules=2)).stops == {"c"}


def placement(
    name: str, *devices: PlacementDevice, digest: str = DIGESTS[0], grants: tuple[str, ...] = ()
) -> Placement:
    return Placement(
        metadata=Metadata(name=name, namespace="wasmbed-gw-g", uid=f"uid-{name}", generation=1),
        gateway="g",
        application=ApplicationRef("ns", "app", "app-uid", 1),
        image="r.io/app:v1",
        digest=digest,
        devices=devices,
        limits=PlacementLimits(65536, 1024, 10),
        grants=grants,
    )


def test_an_instance_that_two_placements_name_is_wanted_once() -> None:
    gateway, board = PlacementDevice("d", "ns", "u", "gateway"), PlacementDevice("m", "ns", "u", "mcu")
    first, second = placement("p0", gateway, board), placement("p1", gateway, digest=DIGESTS[1])
    merged = merge_instances({"p1": placement_instances(second), "p0": placement_instances(first)})
    assert {name: wanted.request.digest for name, wanted in merged.items()} == {
        "app-uid/ns/d": DIGESTS[0],
        "app-uid/ns/m": DIGESTS[0],
    }


def test_a_grant_goes_as_far_as_the_device() -> None:
    grants = ("wasmbed:sys", "wasmbed:px4", "wasmbed:sensor", "wasmbed:ros2")
    devices = [
        PlacementDevice(name, "ns", "u", "gateway", capabilities)
        for name, capabilities in (("a", ()), ("b", ("px4",)), ("c", ("camera",)), ("d", ("px4", "sensor-radar")))
    ]
    instances = placement_instances(placement("p", *devices, grants=grants))
    beyond = {name: set(instances[f"app-uid/ns/{name}"].request.grants) - {grants[0], grants[3]} for name in "abcd"}
    assert beyond == {
        "a": set(),
        "b": {"wasmbed:px4"},
        "c": {"wasmbed:sensor"},
        "d": {"wasmbed:px4", "wasmbed:sensor"},
    }
    assert all({grants[0], grants[3]} <= set(item.request.grants) for item in instances.values())


def test_retries_double_up_to_their_limit_and_are_spread() -> None:
    for count, expected in [(1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (1000, 60.0)]:
        assert expected * 0.8 <= retry_delay_s(count) <= expected * 1.2


class Convergence(RuleBasedStateMachine):
    """A runtime that starts, refuses, forgets and dies, and users who change their minds, in any order.

    Calls are carried out one at a time, at times the rules choose; a plan is made after every event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[str, Wanted] = {}
        self.limit = 3
        self.now = 0.0
        self.connected = True
        # The runtime's own truth, and what the agent believes.
        self.actual: dict[str, str] = {}
        self.believed: dict[str, Observed] = {}
        self.artifacts: dict[str, Progress] = {}
        self.modules: dict[str, Progress] = {}
        self.refusals: dict[str, Refusal] = {}
        self.calls: dict[str, StartRequest | None] = {}
        self.work: list[tuple[str, str]] = []

    def plan(self) -> Plan:
        return make_plan(
            World(
                wanted=self.wanted,
                running=self.believed,
                busy=self.calls.keys(),
                artifacts=self.artifacts,
                modules=self.modules,
                refusals=self.refusals,
                max_modules=self.limit,
                complete=True,
                now=self.now,
            )
        )

    def act(self) -> None:
        plan = self.plan()
        for digest in plan.pulls:
            self.artifacts[digest] = replace(self.artifacts.get(digest, Progress()), stage=Stage.BUSY)
            self.work.append(("pull", digest))
        if not self.connected:
            return
        for digest in plan.loads:
            self.modules[digest] = replace(self.modules.get(digest, Progress()), stage=Stage.BUSY)
            self.work.append(("load", digest))
        for name in plan.stops:
            assert name not in self.calls
            self.calls[name] = None
        for name, request in plan.starts.items():
            assert name not in self.calls, "two calls for one instance"
            assert name not in plan.stops
            self.calls[name] = request

    @rule(names=st.sets(st.sampled_from("abcd"), min_size=1), digest=st.sampled_from(DIGESTS))
    def place(self, names: set[str], digest: str) -> None:
        self.wanted.update({name: want(name, digest) for name in names})
        self.act()

    @rule(value=st.sampled_from("12"))
    def edit_all(self, value: str) -> None:
        self.wanted = {name: want(name, item.request.digest, value) for name, item in self.wanted.items()}
        self.act()

    @rule(name=st.sampled_from("abcd"))
    def remove(self, name: str) -> None:
        self.wanted.pop(name, None)
        self.refusals.pop(name, None)
        self.act()

    @rule(limit=st.integers(1, 4))
    def change_limit(self, limit: int) -> None:
        self.limit = limit
        self.act()

    @rule(works=st.booleans())
    def finish_work(self, works: bool) -> None:
        if self.work:
            kind, digest = self.work.pop(0)
            progress = Progress(Stage.DONE) if works else Progress(failure=Failure("F", "m", self.now + 5))
            if kind == "pull":
                self.artifacts[digest] = progress
            elif self.modules.get(digest, Progress()).stage is Stage.BUSY:
                self.modules[digest] = progress
            self.act()

    @rule(works=st.booleans())
    def finish_call(self, works: bool) -> None:
        if self.calls and self.connected:
            name, request = self.calls.popitem()
            if name in self.actual:
                del self.actual[name]
                del self.believed[name]
            if request is not None:
                assert name not in self.actual, "started beside another one"
                if works:
                    self.actual[name] = request.key()
                    self.believed[name] = Observed(request.digest, request.key(), "Running")
                else:
                    self.refusals[name] = Refusal(request.key(), Failure("DeviceError", "m", self.now + 5))
            self.act()

    @rule()
    def runtime_dies(self) -> None:
        self.connected = False
        self.actual, self.believed, self.modules, self.calls = {}, {}, {}, {}
        self.work = [item for item in self.work if item[0] == "pull"]
        self.act()

    @rule()
    def runtime_or_agent_connects(self) -> None:
        self.connected = True
        self.calls = {}
        self.work = [item for item in self.work if item[0] == "pull"]
        self.modules, self.refusals = {}, {}
        digests = {item.key: item.request.digest for item in self.wanted.values()}
        self.believed = {n: Observed(digests.get(key, DIGESTS[0]), key, "Running") for n, key in self.actual.items()}
        self.act()

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.act()

    @rule()
    def all_works_for_a_while(self) -> None:
        if not self.connected:
            self.runtime_or_agent_connects()
        for _ in range(12):
            self.time_passes(6)
            self.finish_work(works=True)
            self.finish_call(works=True)

    @invariant()
    def every_wanted_instance_is_shown(self) -> None:
        assert self.plan().shown.keys() == self.wanted.keys()

    def teardown(self) -> None:
        """Let everything work from here: it settles, with exactly what is wanted."""
        self.runtime_or_agent_connects()
        for _ in range(200):
            self.time_passes(6)
            self.finish_work(works=True)
            self.finish_call(works=True)
        assert not self.calls
        assert not self.work
        assert len(self.actual) == min(len(self.wanted), self.limit)
        assert all(self.wanted[name].key == key for name, key in self.actual.items())
        plan = self.plan()
        assert (plan.pulls, plan.loads, plan.stops, plan.starts) == (set(), set(), set(), {})
        running = {name for name, shown in plan.shown.items() if shown.state == "Running"}
        assert running == self.actual.keys()


Convergence.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestConvergence = Convergence.TestCase
