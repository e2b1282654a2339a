"""Many emulated boards at one gateway: none is lost, each one's messages come back all the time, and what each costs.

WASMBED_FLEET_BOARDS and WASMBED_FLEET_SECONDS make it longer; `make soak` runs 100 boards for 600 s.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gateway_site import eventually
from line_site import CLASSES, small

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from line_site import LineSite

BOARDS = int(os.environ.get("WASMBED_FLEET_BOARDS", "6"))
SECONDS = float(os.environ.get("WASMBED_FLEET_SECONDS", "20"))
# How often each board's application says its word, and how long the slowest may be silent on a busy machine.
PERIOD_MS = 1000
SILENT_S = 30.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
REPORT = ROOT / "build/bench/fleet.json"

pytestmark = pytest.mark.timeout(SECONDS + 60 * BOARDS)


def usage(pids: list[int]) -> tuple[float, float]:
    """Resident MiB and CPU seconds of processes, summed."""
    resident = cpu = 0.0
    for pid in pids:
        resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) * TICK_S
    return resident, cpu


def test_no_board_of_a_fleet_is_lost(line_site: LineSite, monkeypatch: pytest.MonkeyPatch) -> None:
    # The interval that devices have on a site; three missed ones are a lost device.
    monkeypatch.setattr("line_site.HEARTBEAT_S", 30.0 if SECONDS > 100 else 2.0)
    boards = [line_site.board(("stm32", "hifive1")[i % 2], f"dev-{i}") for i in range(BOARDS)]
    line_site.ready_s = 60.0 + 3 * BOARDS
    line_site.begin()
    began = time.monotonic()

    def links() -> list[str]:
        return [str(line_site.link(board.name).get("state")) for board in boards]

    eventually(lambda: links() == ["Connected"] * BOARDS, "all Connected", 30 + 10 * BOARDS)
    connected_s = time.monotonic() - began
    digest = line_site.push("small", small(period_ms=PERIOD_MS))
    devices = [
        {"name": b.name, "namespace": "default", "uid": f"uid-{b.name}", "class": CLASSES[b.board], "capabilities": []}
        for b in boards
    ]
    limits = {"memoryBytes": 65536, "stackBytes": 8192, "cpuMillisPerCall": 100}
    line_site.place("small", digest, devices=devices, limits=limits)

    def states() -> list[str]:
        found = line_site.placement("small").get("status", {}).get("devices", [])
        return [device["state"] for device in found]

    eventually(lambda: states() == ["Running"] * BOARDS, "all Running", 60 + 20 * BOARDS)
    running_s = time.monotonic() - began - connected_s
    words: dict[str, set[str]] = {f"default/{board.name}": set() for board in boards}
    heard: dict[str, float] = {}
    lines: Counter[str] = Counter()

    def listen() -> bool:
        for line in line_site.new_lines():
            words[line.device].add(line.word)
            heard[line.device] = time.monotonic()
            lines[line.device] += 1
        return len(heard) == BOARDS

    eventually(listen, "a message of every board", 60 + BOARDS)
    assert line_site.agent is not None
    machines, agent = [board.pid for board in boards], [line_site.agent.pid]
    (_, machines_cpu), (agent_before_mib, agent_cpu) = usage(machines), usage(agent)
    sessions = line_site.metric("wasmbed_agent_link_sessions_total")
    listen()
    lines.clear()
    watched = time.monotonic()
    while time.monotonic() < watched + SECONDS:
        # Not a synchronisation: this is for how long the fleet is watched.
        time.sleep(min(5.0, SECONDS / 4))
        assert links() == ["Connected"] * BOARDS
        assert states() == ["Running"] * BOARDS
        listen()
        assert [name for name, at in heard.items() if time.monotonic() - at > SILENT_S] == []
    span = time.monotonic() - watched
    (machines_mib, machines_after), (agent_mib, agent_after) = usage(machines), usage(agent)
    assert line_site.metric("wasmbed_agent_link_refusals_total") == 0
    assert line_site.metric("wasmbed_agent_link_sessions_total") == sessions, "a board was lost and came back"
    assert line_site.metric("wasmbed_agent_line_crashed") == 0
    # One word a board: no application was started anew.
    assert {len(said) for said in words.values()} == {1}
    figures = {
        "boards": BOARDS,
        "seconds": round(span, 1),
        "all_connected_s": round(connected_s, 1),
        "all_running_s": round(running_s, 1),
        "messages_per_s": round(lines.total() / span, 1),
        "messages_of_expected_slowest_board": round(min(lines.values()) / (span * 1000 / PERIOD_MS), 3),
        "qemu_rss_mib_per_device": round(machines_mib / BOARDS, 1),
        "qemu_cpu_percent_per_device": round(100 * (machines_after - machines_cpu) / span / BOARDS, 2),
        "agent_rss_mib": round(agent_mib, 1),
        "agent_rss_growth_mib": round(agent_mib - agent_before_mib, 1),
        "agent_cpu_percent_per_device": round(100 * (agent_after - agent_cpu) / span / BOARDS, 3),
    }
    print(json.dumps(figures))
    if "WASMBED_FLEET_BOARDS" in os.environ:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(figures, indent=2) + "\n")
