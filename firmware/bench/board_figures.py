"""Figures of the boards' own firmware in QEMU, with everything real around it and their lines paced at 115,200 Bd.

A control plane, a registry, a controller and an agent as processes; each line is served by wasmbed-serial, which lets a
byte take the time of ten bits as QEMU does not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
for folder in ("", "firmware/tools", "gateway_agent/src", "gateway_agent/tests/gateway", "gateway_agent/tests/lines"):
    sys.path.insert(0, str(ROOT / folder))
sizes = importlib.import_module("sizes")
site_module = importlib.import_module("gateway_site")
line_site = importlib.import_module("line_site")
cluster_module = importlib.import_module("tests.support.cluster")
processes = importlib.import_module("tests.support.processes")
registry_module = importlib.import_module("tests.support.registry")
line = importlib.import_module("wasmbed.link.line")
mcu_module = importlib.import_module("wasmbed.link.mcu")
noise = importlib.import_module("wasmbed.link.noise")
secure = importlib.import_module("wasmbed.link.secure")
link_key = importlib.import_module("wasmbed.tools.link_key")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BOARDS = ("stm32", "hifive1")
BYTES_PER_S = 11_520  # 115,200 Bd, ten bits a byte
MODULE_BYTES = 40_000
UPLOADS = 5
ROUNDS = 10
DEADLINE_S = 120.0
USER = "wasmbed:controller"
# A section of no meaning to the device, which takes and keeps it all the same.
EMPTY = b"\0asm\x01\0\0\0"


def ram() -> dict[str, float]:
    """RAM of the smaller board's whole firmware as it is linked: there is no heap, so nothing comes to it later."""
    elf = sizes.sizes((line_site.BUILD / "hifive1" / "app.elf").read_bytes())
    return {
        "ram_linked_bytes_hifive1": elf.ram,
        "ram_data_bss_bytes_hifive1": elf.data,
        "ram_stacks_bytes_hifive1": elf.stacks,
    }


def leb(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def padded(module: bytes, size: int) -> bytes:
    """The module with a custom section of random bytes that nobody can compress or skip, of about `size` bytes."""
    content = b"\x01p" + os.urandom(size - len(module) - 6)
    return module + b"\0" + leb(len(content)) + content


@contextlib.asynccontextmanager
async def session(site: Any, board: Any) -> AsyncIterator[Any]:
    """The gateway's end of a line, in this process."""
    private = link_key.read(site.key_file).private_bytes_raw()
    key = base64.b64decode(board.public_key)
    ends = secure.Ends(f"default/{board.name}".encode(), site.name.encode(), (private,), (key,))
    up = asyncio.Event()
    mcu = mcu_module.McuSession(
        line.Endpoint.parse(board.address), lambda: (ends,), on_link=lambda state: up.set() if state.up else None
    )
    task = asyncio.ensure_future(mcu.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await up.wait()
        yield mcu
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def upload(site: Any, board: Any) -> dict[str, float]:
    """Bytes of a module that are on the device, checked and translated, as a share of what the line carries."""
    shares = []
    async with session(site, board) as mcu:
        info = await mcu.info()
        for _ in range(UPLOADS):
            module = padded(line_site.small(), MODULE_BYTES)
            began = time.monotonic()
            await mcu.load(f"sha256:{hashlib.sha256(module).hexdigest()}", module)
            shares.append(len(module) / (time.monotonic() - began) / BYTES_PER_S)
    return {
        f"upload_vs_line_rate_{board.board}": round(statistics.median(shares), 3),
        f"guest_memory_bytes_{board.board}": info.memory_bytes,
        f"guest_stack_bytes_{board.board}": info.stack_bytes,
    }


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Go before the other programs of this machine, whose work is not the firmware's, as far as this user may.

    Programs that are started meanwhile do so too, for good.
    """
    normal = os.sched_param(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, normal)


@contextlib.contextmanager
def controller(site: Any) -> Iterator[None]:
    """The controller as a process with its own rights."""
    site.cluster.kubectl("apply", "-f", str(ROOT / "roles/controller/files/rbac.yaml"))
    (port,) = processes.free_ports(1)
    document = {
        "kubeconfig": str(site.cluster.user(USER)),
        "http": {"address": "127.0.0.1", "port": port},
        "registry": {
            "mirrors": {"registry.wasmbed.io": site.registry.address},
            "ca_file": str(site.registry.ca_file),
            "credentials_file": str(site.registry.credentials_file),
        },
        "leader_election": {"namespace": "wasmbed-system", "name": "wasmbed-controller"},
    }
    config = site.folder / "controller.yaml"
    config.write_text(site_module.yaml.safe_dump(document))
    command = [sys.executable, "-m", "wasmbed.controller.main", "--config", str(config)]
    service = processes.Service("wasmbed-controller", command, site.folder / "controller.log")
    try:
        yield
    finally:
        service.stop()


def apply_to_running(site: Any, board: Any) -> list[float]:
    """Seconds from applying a WasmApplication with a module the device never saw to its phase Running."""
    path = f"{site_module.API}/namespaces/default"
    network = {"gatewayEndpoint": f"{site.name}.wasmbed.local:8080"}
    device = {"deviceType": "bench", "deviceClass": line_site.CLASSES[board.board], "publicKey": board.public_key}
    site.apply("EdgeDevice", "edgedevices", board.name, device | {"network": network}, "default")

    def phase(plural: str, name: str) -> str:
        found = site.get(f"{path}/{plural}/{name}")
        status = found.get("status", {})
        current = status.get("observedGeneration", 0) == found.get("metadata", {}).get("generation")
        return str(status.get("phase", "")) if found and current else ""

    site_module.eventually(
        lambda: site.get(f"{path}/edgedevices/{board.name}").get("status", {}).get("phase") == "Connected",
        "Connected",
        DEADLINE_S,
    )
    took = []
    for number in range(ROUNDS):
        site.push("bench", line_site.small(f"round-{number % 10}"))
        spec = {
            "wasmImage": f"registry.wasmbed.io/{site.name}/bench:v1",
            "targetDevices": [{"deviceType": "bench"}],
        }
        began = time.monotonic()
        site.apply("WasmApplication", "wasmapplications", "bench", spec, "default")
        site_module.eventually(lambda: phase("wasmapplications", "bench") == "Running", "Running", DEADLINE_S)
        took.append(time.monotonic() - began)
        site.wait_line("bench", f"round-{number % 10}")
        site.cluster.kubectl("delete", "wasmapplication", "bench", "--wait=true", "--timeout=60s")
    return took


def figures() -> dict[str, float]:
    """All figures of the boards' firmware."""
    with (
        tempfile.TemporaryDirectory(prefix="wbc-") as cache,
        cluster_module.running_cluster() as cluster,
        registry_module.running_registry() as registry,
    ):
        site = line_site.LineSite(cluster, registry, Path(cache), "bench")
        try:
            found = ram()
            with undisturbed():
                boards = [site.board(board, board) for board in BOARDS]
                serial = site.pace()
                # It was started by a thread of its own.
                os.sched_setscheduler(serial.pid, os.sched_getscheduler(0), os.sched_getparam(0))
                for board in boards:
                    found |= asyncio.run(upload(site, board))
            found["upload_vs_line_rate"] = min(found[f"upload_vs_line_rate_{board}"] for board in BOARDS)
            site.begin(known=False)
            with controller(site):
                took = apply_to_running(site, boards[BOARDS.index("hifive1")])
            found["apply_to_running_s_hifive1"] = round(statistics.median(took), 2)
            found["apply_to_running_max_s_hifive1"] = round(max(took), 2)
            return found
        finally:
            site.close()
