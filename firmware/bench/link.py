"""Measures the secure link on the boards' machines: figures for build/bench/firmware.json, which other parts add to."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[1]
AGENT = FIRMWARE.parent / "gateway_agent"
sys.path[:0] = [
    str(FIRMWARE.parent),
    str(FIRMWARE / "tests" / "link"),
    str(AGENT / "src"),
    str(AGENT / "tests" / "link"),
]
support = importlib.import_module("link_support")
line = importlib.import_module("line")
board = importlib.import_module("board")
frames = importlib.import_module("wasmbed.link.frames")
secure = importlib.import_module("wasmbed.link.secure")

BAUD = 115_200
MODULE_BYTES = 40_000
UPLOADS = 3
LEAST = {"upload_vs_line_rate": 0.85}
LIMITS = {
    "handshake_bytes": 144,
    "handshake_insns_stm32": 12_000_000,
    "handshake_insns_hifive1": 18_000_000,
    "handshake_stack_bytes": 1_600,
}


def recorded_handshake() -> tuple[bytes, bytes, int]:
    """The invitation and message 2 that the board will take, as the host's build of the same device makes it, and the
    bytes of both handshake messages."""
    device = support.Device(support.Shim())
    device.boot(0)
    device.output(4096, 1000)
    gateway = secure.SecureLink(line.ends(), 0.0)
    gateway.poll(1.0)
    invite = gateway.take()
    device.input(invite, 1000)
    message1 = device.output(4096, 1000)
    list(gateway.feed(message1, 1.0))
    message2 = gateway.take()
    sizes = [len(frame.body) for wire in (message1, message2) for frame in frames.FrameReader().feed(wire)]
    return invite, message2, sum(sizes)


async def upload_rate(folder: Path) -> float:
    """Bytes of a module that arrive, as a share of what the line carries at 115,200 Bd; the median of some uploads.

    The device is the firmware's link as a program, behind a line that takes the time of ten bits for each byte.
    """
    shares = []
    async with board.session(board.Board(folder / "line", baud=BAUD)) as at:
        await at.mcu.info()
        for _ in range(UPLOADS):
            module = b"\0" + os.urandom(MODULE_BYTES - 1)
            began = asyncio.get_running_loop().time()
            await at.mcu.load(f"sha256:{hashlib.sha256(module).hexdigest()}", module)
            shares.append(MODULE_BYTES / (asyncio.get_running_loop().time() - began) / (BAUD / 10))
    return float(sorted(shares)[UPLOADS // 2])


def figures() -> dict[str, float]:
    """All figures of the link."""
    invite, message2, handshake_bytes = recorded_handshake()
    found: dict[str, float] = {"handshake_bytes": handshake_bytes, "handshake_stack_bytes": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.bin").write_bytes(
            b"".join(len(wire).to_bytes(4, "little") + wire for wire in (invite, message2))
        )
        for machine in ("stm32", "hifive1"):
            output = support.run_on(machine, "link-bench", folder, icount=True)
            row = {key: int(value) for key, value in (text.split() for text in output.splitlines())}
            found["handshake_stack_bytes"] = max(found["handshake_stack_bytes"], row["handshake_stack"])
            found[f"handshake_insns_{machine}"] = row["handshake_insns"]
            found[f"handshake_stack_bytes_{machine}"] = row["handshake_stack"]
            found[f"protect_100B_insns_{machine}"] = row["protect_insns"]
            found[f"protect_stack_bytes_{machine}"] = row["protect_stack"]
            found[f"unprotect_100B_insns_{machine}"] = row["unprotect_insns"]
            found[f"seed_insns_{machine}"] = row["boot_insns"]
            found[f"link_state_bytes_{machine}"] = row["link_bytes"]
        found["upload_vs_line_rate"] = round(asyncio.run(upload_rate(folder)), 3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    found = figures()
    output.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(output.read_text()) if output.exists() else {}
    output.write_text(json.dumps({**before, **found}, indent=2, sort_keys=True) + "\n")
    for name, value in sorted(found.items()):
        limit = (
            f"   limit {LIMITS[name]:,}" if name in LIMITS else f"   at least {LEAST[name]}" if name in LEAST else ""
        )
        print(f"{name:34} {value:>12,}{limit}")
    missed = [name for name, limit in LIMITS.items() if found[name] > limit]
    missed += [name for name, least in LEAST.items() if found[name] < least]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
