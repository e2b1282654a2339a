"""Fuel, time limit, resuming."""

from __future__ import annotations

import pytest
from wbi_support import OK, OUT_OF_FUEL, TIMED_OUT, Interpreter

LOOP = """(module
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (memory 1)
  (func (export "forever") (param i32) (loop (br 0)))
  (func (export "table") (param i32) (loop (br_table 0 (local.get 0))))
  (func (export "sum") (param i32) (result i32) (local i32)
    (loop
      (local.set 1 (i32.add (local.get 1) (local.get 0)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "hosted") (param i32) (result i32)
    (loop
      (local.set 0 (call $add (local.get 0) (i32.const 1)))
      (br_if 0 (i32.ne (local.get 0) (i32.const 100000))))
    (local.get 0))
  (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 7) (local.get 0)))
)"""


@pytest.mark.parametrize("name", ["forever", "table"])
def test_endless_loop_stops_when_fuel_is_used_up(interp: Interpreter, name: str) -> None:
    """A loop of nothing but its branch was free, as only what lies before a branch was charged."""
    interp.run(LOOP)
    assert interp.call(name, 0, fuel=10_000) == OUT_OF_FUEL
    assert interp.lib.shim_fuel() == 0


def test_overshoot_is_at_most_one_straight_run(interp: Interpreter) -> None:
    interp.run(LOOP)
    longest_run = 120  # bytes of translated code of the largest function here
    for fuel in range(1, 4000, 37):
        assert interp.call("forever", 0, fuel=fuel) == OUT_OF_FUEL
        assert interp.lib.shim_debt() <= longest_run


@pytest.mark.parametrize("piece", [1, 7, 100, 2048, 5000])
def test_resuming_gives_the_result_of_one_run(interp: Interpreter, piece: int) -> None:
    interp.run(LOOP)
    expected = interp.value("fib", 12)
    status = interp.call("fib", 12, fuel=piece)
    while status == OUT_OF_FUEL:
        status = interp.resume(piece)
    assert (status, interp.result("fib")) == (OK, expected)


def test_fuel_is_charged_exactly_however_it_is_given(interp: Interpreter) -> None:
    interp.run(LOOP)
    assert interp.call("sum", 500, fuel=1_000_000) == OK
    used = 1_000_000 - interp.lib.shim_fuel()
    total = 300
    status = interp.call("sum", 500, fuel=300)
    while status == OUT_OF_FUEL:
        total += 300
        status = interp.resume(300)
    assert status == OK
    assert total - interp.lib.shim_fuel() == used


def test_work_costs_in_proportion(interp: Interpreter) -> None:
    interp.run(LOOP)
    costs = []
    for count in (100, 200, 400):
        assert interp.call("sum", count) == OK
        costs.append(1_000_000 - interp.lib.shim_fuel())
    assert costs[2] - costs[1] == 2 * (costs[1] - costs[0])


def test_bulk_operations_cost_in_proportion(interp: Interpreter) -> None:
    interp.run(LOOP)
    assert interp.call("fill", 1000) == OK
    small = 1_000_000 - interp.lib.shim_fuel()
    assert interp.call("fill", 50_000) == OK
    assert 1_000_000 - interp.lib.shim_fuel() - small == 49_000


def test_bulk_operation_without_fuel_does_nothing_and_resumes(interp: Interpreter) -> None:
    interp.run(LOOP)
    assert interp.call("fill", 50_000, fuel=10_000) == OUT_OF_FUEL
    assert interp.memory()[:50_000] == bytes(50_000)
    assert interp.resume(100_000) == OK
    assert interp.memory()[:50_000] == b"\7" * 50_000


def test_zeroed_fuel_is_a_time_out_and_not_exhaustion(interp: Interpreter) -> None:
    interp.run(LOOP)
    interp.lib.shim_expire_on_call(50)
    assert interp.call("hosted", 0, fuel=0xFFFFFFFF) == TIMED_OUT
    late = interp.lib.shim_host_calls() - 50
    assert late * 20 <= 2048 + 64, "noticed within a piece of fuel"
    interp.lib.shim_expire_on_call(0)
    assert interp.resume(0xFFFFFFFF) == OK
    assert interp.result("hosted") == 100_000
