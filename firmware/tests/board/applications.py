"""Small applications for the tests of the boards, as text."""

from __future__ import annotations

IMPORTS = {
    "log": '(import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))',
    "timer": '(import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))',
    "event_read": '(import "wasmbed:sys" "event_read" (func $event_read (param i32 i32 i32) (result i32)))',
    "env": '(import "wasmbed:sys" "env" (func $env (param i32 i32 i32 i32) (result i32)))',
    "device": '(import "wasmbed:sys" "device_name" (func $device (param i32 i32) (result i32)))',
    "random": '(import "wasmbed:sys" "random" (func $random (param i32 i32) (result i32)))',
    "state_put": '(import "wasmbed:sys" "state_put" (func $state_put (param i32 i32) (result i32)))',
    "state_get": '(import "wasmbed:sys" "state_get" (func $state_get (param i32 i32) (result i32)))',
    "acquire": '(import "wasmbed:px4" "acquire" (func $acquire (result i32)))',
    "command": '(import "wasmbed:px4" "command" (func $command (param i32) (result i32)))',
    "setpoint": '(import "wasmbed:px4" "setpoint" (func $setpoint (param i32) (result i32)))',
    "px4_read": '(import "wasmbed:px4" "read" (func $px4_read (param i32 i32 i32) (result i32)))',
    "open": '(import "wasmbed:ros2" "open" (func $open (param i32 i32) (result i32)))',
    "publish": '(import "wasmbed:ros2" "publish" (func $publish (param i32 i32 i32) (result i32)))',
    "sensor_read": '(import "wasmbed:sensor" "read" (func $sensor_read (param i32 i32 i32) (result i32)))',
    "sensor_subscribe": '(import "wasmbed:sensor" "subscribe" (func $sensor_subscribe (param i32 i32) (result i32)))',
    "seal": '(import "wasmbed:secure" "seal" (func $seal (param i32 i32 i32 i32) (result i32)))',
    "unseal": '(import "wasmbed:secure" "unseal" (func $unseal (param i32 i32 i32 i32) (result i32)))',
    "send": '(import "wasmbed:secure" "send" (func $send (param i32 i32) (result i32)))',
}
# $say logs the text at an address; $number logs "name" and a signed number as decimal digits.
SAY = """
  (func $say (param i32 i32) (call $log (i32.const 2) (local.get 0) (local.get 1)))
  (func $number (param $value i32) (local $at i32) (local $rest i32)
    (local.set $at (i32.const 500))
    (local.set $rest (select (i32.sub (i32.const 0) (local.get $value)) (local.get $value)
                             (i32.lt_s (local.get $value) (i32.const 0))))
    (loop
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $rest) (i32.const 10))))
      (br_if 0 (local.tee $rest (i32.div_u (local.get $rest) (i32.const 10)))))
    (if (i32.lt_s (local.get $value) (i32.const 0)) (then
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.const 45))))
    (call $say (local.get $at) (i32.sub (i32.const 500) (local.get $at))))
"""


def application(
    uses: str, *, init: str = "", event: str = "", data: str = "", more: str = "", memory: int = 1024
) -> str:
    """A module with these imports; texts are at 0 and up, numbers are written below 500. Bodies leave no values."""
    imports = "\n".join(IMPORTS[name] for name in ["log", *uses.split()])
    return f"""(module {imports}
  (memory (export "memory") {memory} (pagesize 1)) {data} {SAY}
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32) {init} (i32.const 0))
  (func (export "wasmbed_event") (param $type i32) (param $source i32) (param $length i32) (result i32)
    {event} (i32.const 0)) {more})"""


HELLO = application(
    "timer",
    data='(data (i32.const 0) "hello") (data (i32.const 8) "tick")',
    init="(call $say (i32.const 0) (i32.const 5)) (drop (call $timer (i32.const 3) (i32.const 50) (i32.const 100)))",
    event="(call $say (i32.const 8) (i32.const 4))",
)
# The same, told apart by its text.
HELLO_TWO = HELLO.replace("hello", "HELLO").replace("tick", "TICK")
# Fails at its third event.
TRAPS = application(
    "timer",
    data='(data (i32.const 0) "began")',
    init="(call $say (i32.const 0) (i32.const 5)) (drop (call $timer (i32.const 0) (i32.const 20) (i32.const 20)))",
    event="""(global.set $count (i32.add (global.get $count) (i32.const 1)))
             (if (i32.eq (global.get $count) (i32.const 3)) (then unreachable))""",
    more="(global $count (mut i32) (i32.const 0))",
)
BAD_INIT = application("", init="unreachable")
ENDLESS = application("", init="(loop (br 0))")
# Counts timer events; hands its count over.
COUNTER = application(
    "timer state_put state_get",
    init="""(drop (call $state_get (i32.const 600) (i32.const 4)))
            (call $number (i32.load (i32.const 600)))
            (drop (call $timer (i32.const 0) (i32.const 30) (i32.const 30)))""",
    event="""(i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 1)))
             (if (i32.eq (i32.load (i32.const 600)) (i32.const 1)) (then (call $say (i32.const 710) (i32.const 5))))""",
    more="""(func (export "wasmbed_save") (result i32) (call $state_put (i32.const 600) (i32.const 4)))
            (func (export "wasmbed_stop") (call $say (i32.const 700) (i32.const 4)))""",
    data='(data (i32.const 700) "over") (data (i32.const 710) "count")',
)
