"""Runs simulated vehicles; see --help."""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from pathlib import Path

from wasmbed_sitl.vehicle import SimulatedVehicle
from wasmbed_sitl.wire import Wire

STEP_S = 0.02


def order(wire: Wire, line: str, now: float) -> None:
    """Do what a line of standard input says."""
    word, _space, rest = line.strip().partition(" ")
    vehicle = wire.vehicle
    if word == "key":
        wire.use_key(Path(rest) if rest else None)
    elif word == "reboot":
        vehicle.power_on(now)
    elif word == "fix":
        vehicle.fix = int(rest)
    elif word == "mode":
        main, sub = rest.split(".")
        vehicle.mode = (int(main), int(sub))
    elif word == "fly":
        vehicle.lift(float(rest))
    elif word == "land":
        vehicle.lift(0.0)
    elif word == "failsafe":
        vehicle.failsafe = rest == "1"
    elif word == "deaf":
        vehicle.deaf_until = now + float(rest)
    elif word == "battery":
        vehicle.battery = float(rest)
    elif word == "silent":
        vehicle.parameters.silent = rest == "1"


def main() -> None:
    parser = argparse.ArgumentParser(
        "wasmbed_sitl",
        description="Simulated autopilots that speak MAVLink 2 over UDP, each from a socket of its own. Not PX4.",
        epilog="Lines of standard input are orders: reboot; fix 0; mode 4.3; failsafe 0 (no hold when setpoints stop); "
        "deaf 3 (hears no commands for so many seconds); battery 40; "
        "key FILE (sign with another key; without FILE with none); "
        "fly 10 (be in the air at once); land (be on the ground); silent 1 (answers no parameter writes).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the gateway (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="the port of its endpoint")
    parser.add_argument("--system", type=int, default=1, help="system id of the first (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1, help="how many, with ids counting up")
    parser.add_argument("--autopilot", choices=("px4", "ardupilot"), default="px4")
    parser.add_argument("--rate", type=float, default=10.0, help="position and attitude messages a second")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster the flight goes")
    parser.add_argument("--home", type=float, nargs=3, metavar=("LAT", "LON", "ALT"), help="degrees and metres")
    parser.add_argument("--battery-minutes", type=float, default=0.0, help="flight time of a battery (0: for ever)")
    parser.add_argument("--signing-key-file", type=Path, help="sign with the key in this file, and hear nothing else")
    parser.add_argument("--no-orders", action="store_true", help="do not read standard input")
    options = parser.parse_args()
    wires = []
    for system in range(options.system, options.system + options.count):
        vehicle = SimulatedVehicle(
            system,
            options.autopilot,
            options.rate,
            home=tuple(options.home) if options.home else None,
            speed=options.speed,
            battery_minutes=options.battery_minutes,
        )
        vehicle.power_on(time.monotonic())
        wire = Wire(vehicle, (options.host, options.port))
        wire.use_key(options.signing_key_file)
        wires.append(wire)
    print("ready", flush=True)
    run(wires, orders=not options.no_orders)


def run(wires: list[Wire], *, orders: bool) -> None:
    """Fly until standard input ends, or for ever."""
    by_number = {wire.socket.fileno(): wire for wire in wires}
    standard_input = sys.stdin.fileno() if orders else -1
    readers = [*by_number, standard_input] if orders else [*by_number]
    following = time.monotonic()
    pending = b""
    while True:
        readable = select.select(readers, [], [], max(0.0, following - time.monotonic()))[0]
        now = time.monotonic()
        for ready in readable:
            if ready == standard_input:
                # Not by readline: what it buffers is nothing that select sees.
                data = os.read(standard_input, 4096)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    for wire in wires:
                        order(wire, line.decode(), now)
            else:
                by_number[ready].receive(now)
        if now >= following:
            following = max(following + STEP_S, now)
            for wire in wires:
                wire.send(wire.vehicle.step(now))


if __name__ == "__main__":
    main()
