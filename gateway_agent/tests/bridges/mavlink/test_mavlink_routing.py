"""The router's rules from the MAVLink routing guide, without sockets."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.filters import Gate, Rules
from wasmbed.bridges.mavlink.frames import Frame, FrameParser, make_frame
from wasmbed.bridges.mavlink.routing import LOOP_WINDOW_S, MERGE_WINDOW_S, SILENT_S, PortPolicy, Router

DIALECT = default_dialect()


def frame(name: str = "HEARTBEAT", system: int = 1, component: int = 1, sequence: int = 0, **values: Any) -> Frame:
    raw = make_frame(DIALECT[name], values, system=system, component=component, sequence=sequence)
    (found,) = FrameParser().feed(raw)
    return found


def router(count: int, **policy: Any) -> tuple[Router, list[int]]:
    made = Router()
    return made, [made.add(PortPolicy(f"p{number}", **policy)) for number in range(count)]


def redundant(**policy: Any) -> tuple[Router, int, int, int]:
    """A router, two redundant ports, and one of a ground station."""
    made = Router()
    a, b = (made.add(PortPolicy(name, redundancy="radio", **policy)) for name in "ab")
    return made, a, b, made.add(PortPolicy("ground"))


def order(sequence: int = 0, target: int = 1, component: int = 1) -> Frame:
    values = {"target_system": target, "target_component": component, "command": 2000}
    return frame("COMMAND_LONG", system=255, sequence=sequence, **values)


def test_a_broadcast_goes_to_every_other_port() -> None:
    made, (a, b, c) = router(3)
    assert made.route(a, frame(), 0.0) == (b, c)


def test_an_addressed_frame_goes_only_where_its_target_was_heard() -> None:
    made, (a, b, c) = router(3)
    made.route(a, frame(system=1), 0.0)
    made.route(b, frame(system=2), 0.0)
    assert made.route(c, frame("COMMAND_LONG", system=255, target_system=2, target_component=1), 0.0) == (b,)
    assert made.route(c, frame("COMMAND_LONG", system=255, sequence=1, target_system=3), 0.0) == ()
    assert made.counts.unroutable == 1


def test_a_component_has_its_own_route_and_falls_back_to_its_system() -> None:
    made, (a, b, c) = router(3)
    made.route(a, frame(system=1, component=1), 0.0)
    made.route(b, frame(system=1, component=100), 0.0)
    sent = [
        made.route(c, frame("COMMAND_LONG", system=255, sequence=n, target_system=1, target_component=n), 0.0)
        for n in (1, 100, 50)
    ]
    assert sent == [(a,), (b,), (a, b)]


def test_nothing_goes_back_to_where_it_came_from() -> None:
    made, (a, b) = router(2)
    made.route(a, frame(system=1), 0.0)
    assert made.route(a, frame("COMMAND_LONG", system=2, target_system=1), 0.0) == ()
    assert made.route(b, frame("COMMAND_LONG", system=3, target_system=1), 0.0) == (a,)


def test_isolated_peers_do_not_hear_each_others_broadcasts_but_can_be_addressed() -> None:
    made = Router()
    a, b = (made.add(PortPolicy("vehicles", isolation="vehicles")) for _ in range(2))
    ground = made.add(PortPolicy("ground"))
    assert made.route(a, frame(system=1), 0.0) == (ground,)
    assert made.route(b, frame(system=2), 0.0) == (ground,)
    assert made.route(a, frame("COMMAND_LONG", system=1, target_system=2), 0.0) == (b,)
    assert made.route(ground, frame(system=255), 0.0) == (a, b)


def test_an_unknown_message_is_a_broadcast() -> None:
    made, (a, b) = router(2)
    raw = bytes([0xFD, 3, 0, 0, 5, 1, 1, 0xEE, 0xFF, 0x0F, 1, 2, 3, 0x12, 0x34])
    (unknown,) = FrameParser().feed(raw)
    assert unknown.definition is None
    assert unknown.raw == raw
    assert made.route(a, unknown, 0.0) == (b,)


def test_a_frame_that_comes_round_ends() -> None:
    made, (a, b, c) = router(3)
    first = frame()
    assert made.route(a, first, 0.0) == (b, c)
    assert made.route(b, first, 1.0) == ()
    assert made.route(c, first, 2.9) == ()
    assert made.counts.loops == 2
    assert made.route(a, frame(sequence=0), 3.1) == (b, c)


@given(st.integers(2, 4), st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_frame_circulates_in_any_net_of_routers(count: int, seed: int, extra: int) -> None:
    """Routers in a net with cycles and double links: each frame crosses each link once in a direction at most."""
    rng = random.Random(seed)
    routers = [Router() for _ in range(count)]
    links: list[dict[tuple[int, int], tuple[int, int]]] = [{}]
    wires = links[0]
    pairs = [(n, (n + 1) % count) for n in range(count)]
    pairs += [tuple(rng.sample(range(count), 2)) for _ in range(extra)]  # type: ignore[misc]
    for left, right in pairs:
        if left == right:
            continue
        a, b = routers[left].add(PortPolicy("x")), routers[right].add(PortPolicy("x"))
        wires[left, a], wires[right, b] = (right, b), (left, a)
    entry = routers[0].add(PortPolicy("vehicle"))
    sent = 0
    for sequence in range(20):
        queue = [(0, entry, frame(sequence=sequence))]
        while queue:
            at, port, item = queue.pop(rng.randrange(len(queue)))
            for number in routers[at].route(port, item, 0.01 * sequence):
                if (at, number) in wires:
                    queue.append((*wires[at, number], item))
                    sent += 1
        assert sent <= (sequence + 1) * len(wires)


def test_redundant_links_pass_each_content_once() -> None:
    made, a, b, _ = redundant()
    passed = 0
    for number in range(100):
        item = {"time_boot_ms": number // 2}
        copies = [
            (a, frame("ATTITUDE", sequence=number, **item)),
            (b, frame("ATTITUDE", sequence=200 - number, **item)),
        ]
        for port, copy in copies if number % 3 else copies[::-1]:
            passed += len(made.route(port, copy, number * 0.01))
    assert passed == 100
    assert made.counts.duplicates == 100


def test_redundancy_loses_nothing_that_one_link_carries() -> None:
    made = Router()
    ports = [made.add(PortPolicy(name, redundancy="radio")) for name in "ab"]
    made.add(PortPolicy("ground"))
    passed = []
    for number in range(100):
        for port in ports:
            if (number + port) % 2:
                item = frame("ATTITUDE", sequence=number, time_boot_ms=number)
                passed += [number] * len(made.route(port, item, number * 0.01))
    assert passed == list(range(100))


def test_a_link_that_lost_copies_owes_nothing_when_it_is_the_only_one_left() -> None:
    """Heartbeats of a flight are all the same: what radio B lost was held back from it when A was gone."""
    made, a, b, ground = redundant()
    for second in range(100):
        assert made.route(a, frame(sequence=second), second) == (ground,)
        if second % 2:
            assert made.route(b, frame(sequence=second + 100), second + 0.05) == ()
    passed = [second for second in range(100, 110) if made.route(b, frame(sequence=second), second + 0.05)]
    assert passed == list(range(100, 110))


@given(st.integers(0, 2**32), st.floats(0.0, 0.5), st.floats(0.0, 0.9))
@settings(max_examples=60, deadline=None)
def test_equal_contents_pass_once_each_when_no_link_is_late(seed: int, loss: float, lag_s: float) -> None:
    """One link or the other may lose a heartbeat: what is brought at all passes once."""
    rng = random.Random(seed)
    made, a, b, _ = redundant()
    arrivals, brought = [], 0
    for second in range(60):
        there = [port for port in (a, b) if rng.random() >= loss]
        brought += bool(there)
        arrivals += [(second * (1 + MERGE_WINDOW_S) + lag_s * (port == b), port, second) for port in there]
    passed = 0
    for at, port, number in sorted(arrivals):
        passed += len(made.route(port, frame(sequence=number + 100 * port), at))
    assert passed == brought


def test_an_addressed_frame_leaves_redundant_ports_by_the_one_that_leads_to_its_target() -> None:
    made, a, b, ground = redundant()
    for number in range(200):
        now = number * 0.1
        # Telemetry comes by both, at last by B; a transfer must not change the link.
        made.route(a, frame("ATTITUDE", sequence=number, time_boot_ms=number), now)
        made.route(b, frame("ATTITUDE", sequence=number + 9, time_boot_ms=number), now + 0.01)
        assert made.route(ground, order(number), now + 0.02) == (a,)
    assert made.route(ground, order(200, component=0), 20.0) == (a,)
    # A component that was not heard is looked for where its system leads.
    assert made.route(ground, order(201, component=50), 20.0) == (a,)


def test_a_redundant_port_that_brings_nothing_is_left_for_the_one_that_does() -> None:
    made, a, b, ground = redundant()
    for port in (a, b):
        made.route(port, frame(sequence=port), 0.0)
    for number in range(1, 50):
        now = number * 0.1
        made.route(b, frame("ATTITUDE", sequence=number, time_boot_ms=number), now)
        assert made.route(ground, order(number), now) == ((a,) if now <= SILENT_S else (b,))
    # It is not gone back to when it is there again.
    made.route(a, frame("ATTITUDE", sequence=9, time_boot_ms=50), 5.0)
    assert made.route(ground, order(50), 5.0) == (b,)


def test_a_target_that_no_redundant_port_brought_lately_is_looked_for_by_all() -> None:
    made, a, b, ground = redundant(peer_timeout_s=30.0)
    for port in (a, b):
        made.route(port, frame(sequence=port), 0.0)
    assert made.route(ground, order(0), 30.0) == (a,)
    assert made.route(ground, order(1), 30.5) == (a, b)
    made.route(b, frame(sequence=2), 31.0)
    assert made.route(ground, order(2), 31.0) == (b,)


def test_a_redundant_port_that_is_closed_leads_nowhere() -> None:
    made, a, b, ground = redundant()
    for port in (a, b):
        made.route(port, frame(sequence=port), 0.0)
    made.remove(a)
    assert made.route(ground, order(0), 0.1) == (b,)
    assert made.add(PortPolicy("new", redundancy="radio")) == a
    # Its successor has to show itself first.
    for port in (b, a):
        made.route(port, frame(sequence=10 + port), 0.2)
    assert made.route(ground, order(1), 0.2) == (b,)
    assert set(made.ports_of(1)) == {a, b}


def test_each_vehicle_and_component_has_its_own_way_through_a_group() -> None:
    made, a, b, ground = redundant()
    ways = {(1, 1): (a, b), (2, 1): (b, a), (1, 100): (b, a)}
    for number, ((system, component), ports) in enumerate(ways.items()):
        for port in ports:
            made.route(port, frame(system=system, component=component, sequence=number), 0.0)
    sent = [made.route(ground, order(n, *target), 0.1) for n, target in enumerate(ways)]
    assert sent == [(a,), (b,), (b,)]
    # What is to be done by all vehicles goes where each of them is.
    assert made.route(ground, order(3, target=0, component=0), 0.1) == (a, b)


def test_an_order_to_all_vehicles_leaves_a_group_once_and_what_orders_nothing_by_all() -> None:
    made, a, b, ground = redundant()
    assert made.route(ground, order(0, target=0), 0.0) == (a, b)
    for port in (a, b):
        made.route(port, frame(sequence=port), 0.0)
    # What a radio says of itself is no way to a vehicle.
    made.route(b, frame("RADIO_STATUS", system=51, component=68), 0.1)
    assert made.route(ground, order(1, target=0), 0.1) == (a,)
    assert made.route(ground, frame(system=255), 0.2) == (a, b)
    assert made.route(ground, frame("GPS_RTCM_DATA", system=255, sequence=2), 0.2) == (a, b)


def test_what_is_not_redundant_is_not_chosen_from() -> None:
    made, a, b, ground = redundant()
    plain = [made.add(PortPolicy(f"plain-{n}")) for n in range(2)]
    for port in (a, b, *plain):
        made.route(port, frame(sequence=port), 0.0)
    assert made.route(ground, order(), 0.1) == (a, *plain)
    assert made.route(plain[0], order(1), 0.1) == (a, plain[1])


def test_a_reboot_clears_the_routes_of_its_system() -> None:
    made, (a, b, c) = router(3)
    made.route(a, frame("SYSTEM_TIME", time_boot_ms=500_000), 0.0)
    made.route(b, frame(system=1, component=100), 0.0)
    assert made.ports_of(1) == (a, b)
    made.route(c, frame("SYSTEM_TIME", sequence=1, time_boot_ms=499_000), 0.0)
    assert made.counts.reboots == 0
    made.route(c, frame("SYSTEM_TIME", sequence=2, time_boot_ms=900), 0.0)
    assert made.ports_of(1) == (c,)
    assert made.counts.reboots == 1


def test_a_removed_port_takes_its_routes_along() -> None:
    made, (a, b) = router(2)
    made.route(a, frame(system=1), 0.0)
    made.remove(a)
    assert made.systems == ()
    assert made.route(b, frame("COMMAND_LONG", system=255, target_system=1), 0.0) == ()
    assert made.add(PortPolicy("new")) == a
    assert made.ports_of(1) == ()


def test_a_link_that_duplicates_can_be_told_to_drop_repeats() -> None:
    made, (a, b) = router(2, drop_repeats=True)
    item = frame("COMMAND_LONG", command=400)
    assert made.route(a, item, 0.0) == (b,)
    assert made.route(a, item, 0.5) == ()
    assert made.route(a, item, LOOP_WINDOW_S) == ()


@given(st.integers(0, 2**32), st.floats(0.0, 0.5), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_dropping_repeats_drops_no_frame_whose_number_began_again(seed: int, loss: float, late: int) -> None:
    """A sender of 400 equal frames a second, over a link that loses, doubles and reorders."""
    rng = random.Random(seed)
    made, (a, _) = router(2, drop_repeats=True)
    arrivals = []
    sent = [number for number in range(700) if rng.random() >= loss]
    for number in sent:
        arrivals += [(number + rng.uniform(0, late), number) for _ in range(rng.choice((1, 1, 2)))]
    passed = [n for at, n in sorted(arrivals) if made.route(a, frame(sequence=n & 0xFF), at / 400)]
    assert sorted(passed) == sent


def test_filters_work_in_both_directions() -> None:
    made = Router()
    a = made.add(PortPolicy("a", incoming=Rules(block_messages=("ATTITUDE",))))
    b = made.add(PortPolicy("b", outgoing=Rules(allow_systems=(1,), block_components=(100,))))
    assert made.route(a, frame("ATTITUDE"), 0.0) == ()
    assert made.route(a, frame(system=1), 0.0) == (b,)
    assert made.route(a, frame(system=2), 0.0) == ()
    assert made.route(a, frame(system=1, component=100), 0.0) == ()


@pytest.mark.parametrize(("source_hz", "limit_hz", "expected"), [(50, 10, 10), (12, 10, 10), (5, 10, 5), (1000, 1, 1)])
def test_a_message_rate_is_kept_for_each_sender(source_hz: int, limit_hz: int, expected: int) -> None:
    gate = Gate(Rules(rates_hz={"ATTITUDE": float(limit_hz)}))
    passed = {1: 0, 2: 0}
    for number in range(source_hz * 10):
        for system in (1, 2):
            passed[system] += gate.passes(frame("ATTITUDE", system=system), number / source_hz)
            assert gate.passes(frame("HEARTBEAT", system=system), number / source_hz)
    for count in passed.values():
        assert abs(count - expected * 10) <= 1


def test_bytes_and_frames_per_second_are_limited() -> None:
    item = frame("ATTITUDE", time_boot_ms=2**31, yawspeed=1.0)
    for rules, least, most in ((Rules(frames_per_s=100), 1000, 1100), (Rules(bytes_per_s=4000), 1000, 1100)):
        gate = Gate(rules)
        passed = sum(gate.passes(item, number / 1000) for number in range(10_000))
        assert least - 20 <= passed <= most, rules
        assert gate.limited == 10_000 - passed


def test_a_filter_on_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="ATITUDE"):
        Rules(block_messages=("ATITUDE",))
    with pytest.raises(ValueError, match="rates_hz"):
        Rules(rates_hz={"ATTITUDE": 0.0})
