"""Figures of the secure link: instructions and stack on the boards' machines, bytes of a handshake."""

from __future__ import annotations

import importlib
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
frames = importlib.import_module("wasmbed.link.frames")
secure = importlib.import_module("wasmbed.link.secure")


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
    return found
