"""A gateway with microcontrollers: the firmware of both boards in QEMU, each at a line of the agent."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from gateway_site import API, Site, eventually, wat
from wasmbed.tools import link_key, provision

from tests.support.firmware import BUILD, build
from tests.support.processes import Service, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

HEARTBEAT_S = 1.0
BAUD = 115_200
# No memory of either board is there.
NOWHERE = 0x60000000
DEBUGGER_S = 60.0
QEMU = {
    "stm32": ["qemu-system-arm", "-M", "netduinoplus2", "-icount", "shift=3,sleep=on"],
    "hifive1": ["qemu-system-riscv32", "-M", "sifive_e", "-icount", "shift=6,sleep=on"],
}
CLASSES = {"stm32": "mcu", "hifive1": "riscv"}

# Says a random word of its own every PERIOD ms, in 1 KiB of memory.
SMALL = """
(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "random" (func $random (param i32 i32) (result i32)))
  (import "wasmbed:sys" "timer_set" (func $timer_set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1024 (pagesize 1))
  (data (i32.const 0) "VERSION ")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32) (local $at i32)
    (drop (call $random (i32.const 8) (i32.const 8)))
    (local.set $at (i32.const 8))
    (loop $letters
      (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.and (i32.load8_u (local.get $at)) (i32.const 15))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $letters (i32.lt_u (local.get $at) (i32.const 16))))
    (call $timer_set (i32.const 0) (i32.const PERIOD) (i32.const PERIOD)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 16))
    (i32.const 0)))
"""


def small(version: str = "version", period_ms: int = 200) -> bytes:
    """The small module, saying `version` (7 letters)."""
    assert len(version) == 7
    return wat(SMALL, VERSION=version, PERIOD=str(period_ms))


class Board:
    """One board with its flash, in QEMU when it is on."""

    def __init__(self, site: LineSite, board: str, name: str) -> None:
        self.site, self.board, self.name = site, board, name
        self.port = 0
        self.socket = site.folder / "run" / name / "serial.sock"
        self.socket.parent.mkdir(parents=True)
        self.flash = site.folder / f"{name}.flash"
        self._process: subprocess.Popen[bytes] | None = None
        template = (BUILD / board / "app.flash").read_bytes()
        key = provision.read_key(site.public_key_file)
        wanted = provision.Wanted(f"default/{name}", CLASSES[board], site.name, key, template)
        self.public_key = str(provision.provision(self.flash, wanted)["public_key"])

    @property
    def address(self) -> str:
        """Of the line: as fast as QEMU is, or paced by wasmbed-serial."""
        return f"tcp:127.0.0.1:{self.port}" if self.port else f"unix:{self.socket}"

    def crash(self) -> None:
        """Send the core where there is no memory, by QEMU's debugger port (GDB's remote protocol)."""
        pc = {"stm32": "f", "hifive1": "20"}[self.board]
        with socket.socket(socket.AF_UNIX) as debugger:
            debugger.settimeout(DEBUGGER_S)
            debugger.connect(str(self.site.folder / f"{self.name}.gdb"))
            # Registers can be written once the description of the core was read.
            for text in ("qXfer:features:read:target.xml:0,fff", f"P{pc}={NOWHERE.to_bytes(4, 'little').hex()}", "D"):
                debugger.sendall(f"+${text}#{sum(text.encode()) % 256:02x}".encode())
                answer = b""
                # A note that the machine stopped may come before.
                while not (found := re.search(rb"\$([^T#][^#]*)?#", answer)):
                    more = debugger.recv(4096)
                    assert more, f"QEMU ended at {text}"
                    answer += more
                assert text[0] == "q" or found[1] == b"OK", f"QEMU refused {text}: {answer!r}"

    @property
    def pid(self) -> int:
        """Of the machine that is on."""
        assert self._process is not None
        return self._process.pid

    def on(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *QEMU[self.board], "-display", "none", "-monitor", "none", "-kernel", self.flash.name, "-serial",
                f"unix:{self.socket.relative_to(self.site.folder)},server=on,wait=off", "-semihosting-config",
                f"enable=on,target=native,arg={self.flash.name}", "-gdb", f"unix:{self.name}.gdb,server=on,wait=off",
            ],
            cwd=self.site.folder, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class LineSite(Site):
    """A gateway whose lines lead to boards."""

    def __init__(self, cluster: Cluster, registry: Registry, cache: Path, name: str) -> None:
        if any(shutil.which(tool) is None for tool in ("arm-none-eabi-gcc", "qemu-system-arm")):
            pytest.skip("the firmware's tools are not installed; scripts/install-firmware-tools does it")
        build("boards")
        super().__init__(cluster, registry, cache, name)
        self.key_file = self.folder / "link.key"
        self.public_key_file = self.folder / "link.key.pub"
        link_key.ensure(self.key_file)
        self.boards: list[Board] = []
        self._serial: Service | None = None

    def board(self, board: str, name: str) -> Board:
        """A provisioned board that is on, at a line of its own."""
        found = Board(self, board, name)
        self.boards.append(found)
        found.on()
        return found

    def pace(self) -> Service:
        """Have wasmbed-serial serve the boards' lines at 115,200 Bd, as on a host of emulated devices."""
        settings = self.folder / "serial.d"
        settings.mkdir()
        http_port, *ports = free_ports(1 + len(self.boards))
        for board, port in zip(self.boards, ports, strict=True):
            board.port = port
            device = {"name": board.name, "serial": {"port": port, "baud": BAUD}, "silence_reset_s": 0}
            (settings / f"{board.name}.yaml").write_text(json.dumps(device))
        config = self.folder / "serial.yaml"
        document = {
            "devices_directory": str(settings),
            "run_directory": str(self.folder / "run"),
            "http": {"address": "127.0.0.1", "port": http_port},
        }
        config.write_text(json.dumps(document))
        command = [sys.executable, "-m", "wasmbed.qemu.main", "--config", str(config)]
        self._serial = Service("wasmbed-serial", command, self.folder / "serial.log")
        return self._serial

    def begin(self, *, known: bool = True) -> None:
        """Write the configuration with all lines, the slice with all boards, and start the gateway."""
        self.settings["lines"] = {
            "key_file": str(self.key_file),
            "addresses": [board.address for board in self.boards],
            "heartbeat_s": HEARTBEAT_S,
        }
        self.write_config()
        if known:
            self.slice({board.name: board.public_key for board in self.boards})
        self.start()

    def slice(self, keys: dict[str, str], **changes: Any) -> None:
        """Apply the slice: names and public keys."""
        classes = {board.name: CLASSES[board.board] for board in self.boards}
        devices = [
            {"name": name, "namespace": "default", "uid": f"uid-{name}", "class": classes[name], "publicKey": key}
            for name, key in keys.items()
        ]
        spec = {"gateway": self.name, "devices": [{**device, **changes} for device in devices]}
        self.apply("DeviceSlice", "deviceslices", "devices-0", spec, self.namespace)

    def place_on(
        self, application: str, digest: str, board: Board, *, capability: str = "", uid: str = "", **changes: Any
    ) -> None:
        """Apply the Placement of an application on a board; `changes` replace fields of its spec."""
        device = {
            "name": board.name, "namespace": "default", "uid": uid or f"uid-{board.name}",
            "class": CLASSES[board.board], "capabilities": [capability] if capability else [],
        }  # fmt: skip
        limits = {"memoryBytes": 65536, "stackBytes": 8192, "cpuMillisPerCall": 100}
        self.place(application, digest, devices=[device], limits=limits, **changes)

    def link(self, name: str) -> dict[str, Any]:
        """What the slice's status says of a device."""
        status = self.get(f"{API}/namespaces/{self.namespace}/deviceslices/devices-0").get("status", {})
        return next((dict(item) for item in status.get("devices", []) if item["name"] == name), {})

    def wait_link(self, name: str, state: str) -> dict[str, Any]:
        """Wait for a state of a device's link."""
        return dict(eventually(lambda: found if (found := self.link(name)).get("state") == state else None, state, 60))

    def refusals(self, reason: str) -> float:
        """How often a session was refused for a reason."""
        return self.metric(f'wasmbed_agent_link_refusals_total{{reason="{reason}"}}')

    def close(self) -> None:
        for board in self.boards:
            board.off()
        if self._serial is not None:
            self._serial.stop()
        super().close()
