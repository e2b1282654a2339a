"""An application that flies offboard, and the simulated vehicle (ours) as a process."""

from __future__ import annotations

import subprocess
import sys

from gateway_site import wat
from wasmbed.runtime import abi

from tests.support.processes import ROOT

NAN = float("nan")
# Acquires, sends its setpoint ten times a second, begins offboard control, or tries to, every 2 s;
# acquires again when it lost the vehicle; fails at turn TRAP.
PILOT = """
(module
  (import "wasmbed:px4" "acquire" (func $acquire (result i32)))
  (import "wasmbed:px4" "setpoint" (func $setpoint (param i32) (result i32)))
  (import "wasmbed:px4" "offboard" (func $offboard (param i32) (result i32)))
  (import "wasmbed:sys" "timer_set" (func $timer_set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "SETPOINT")
  (global $owner (mut i32) (i32.const 0))
  (global $turn (mut i32) (i32.const 0))
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (call $timer_set (i32.const 0) (i32.const 100) (i32.const 100)))
  (func (export "wasmbed_event") (param $type i32) (param i32 i32) (result i32)
    (if (i32.eq (local.get $type) (i32.const 9)) (then (global.set $owner (i32.const 0))))
    (if (i32.ne (local.get $type) (i32.const 1)) (then (return (i32.const 0))))
    (if (i32.eqz (global.get $owner))
      (then (global.set $owner (i32.eqz (call $acquire))) (return (i32.const 0))))
    (global.set $turn (i32.add (global.get $turn) (i32.const 1)))
    (drop (call $setpoint (i32.const 64)))
    (if (i32.eq (i32.rem_u (global.get $turn) (i32.const 20)) (i32.const 3))
      (then (drop (call $offboard (i32.const 1)))))
    (if (i32.eq (global.get $turn) (i32.const TRAP)) (then (unreachable)))
    (i32.const 0)))
"""


def pilot(trap_at: int = 0) -> bytes:
    setpoint = abi.SETPOINT.pack(1, 20.0, 0.0, -12.0, *(NAN,) * 5, 0.0, 0.0)
    return wat(PILOT, SETPOINT="".join(f"\\{byte:02x}" for byte in setpoint), TRAP=str(trap_at))


class Vehicle:
    """The simulated vehicle as a process, or several of them."""

    def __init__(self, port: int, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wasmbed_sitl", "--port", str(port), "--speed", "10", *options],
            cwd=ROOT / "roles/lab_vehicle/files",
            stdin=subprocess.PIPE,
            text=True,
        )

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
