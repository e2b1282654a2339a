"""Measures the firmware and writes all its figures, flat, to build/bench/firmware.json: figure -> number.

ram_linked_bytes_hifive1       .data, .bss, all stacks, guest memory and guest stack of the image that runs here
guest_memory_bytes_*           what an application gets of it, as the running device tells
handshake_bytes                of both messages of a handshake
handshake_insns_*, handshake_stack_bytes, protect_100B_insns_*   counted on the boards' machines
upload_vs_line_rate_*          a module of 40,000 bytes, brought to the running device, checked and translated, against
                               the bytes that 115,200 Bd carry meanwhile, the median of 5 while no other program of the
                               machine comes between; upload_vs_line_rate is the lesser of both boards
apply_to_running_s_hifive1     median of 10, from applying a WasmApplication with a new module to its phase Running

Prints a table and exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import board_figures
import link_figures

# Figure -> least and most.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "ram_linked_bytes_hifive1": (None, 14_336),
    "guest_memory_bytes_hifive1": (6 * 1024, None),
    "handshake_bytes": (144, 144),
    "handshake_insns_stm32": (None, 12_000_000),
    "handshake_insns_hifive1": (None, 18_000_000),
    "handshake_stack_bytes": (None, 1_600),
    "upload_vs_line_rate": (0.85, None),
}


def within(value: float, limits: tuple[float | None, float | None]) -> bool:
    """Whether a figure keeps its limits."""
    least, most = limits
    return (least is None or value >= least) and (most is None or value <= most)


def row(name: str, value: float) -> str:
    """One line of the table."""
    least, most = LIMITS.get(name, (None, None))
    words = [f"{word} {limit:,}" for word, limit in (("at least", least), ("at most", most)) if limit is not None]
    verdict = "" if within(value, (least, most)) else "   MISSED"
    return f"{name:34} {value:>12,}   {', '.join(words)}{verdict}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    output: Path = parser.parse_args().output
    found = link_figures.figures() | board_figures.figures()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    for name, value in sorted(found.items()):
        print(row(name, value))
    missed = [name for name, limits in LIMITS.items() if not within(found[name], limits)]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
