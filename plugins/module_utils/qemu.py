# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Emulated microcontrollers of a host: a folder, a flash file, a unit and a serial line for each."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import shutil

from ansible_collections.wasmbed.edge.plugins.module_utils.services import (
    Attributes,
    Host,
    ServicesError,
    Unit,
    read_text,
)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GROUP = "wasmbed-serial"
# What wasmbed-serial takes; with a file that has more it goes on with what it had, and does not start again.
RANGES = {
    "port": (1, 65535),
    "baud": (300, 4_000_000),
    "drop_per_million": (0, 1_000_000),
    "corrupt_per_million": (0, 1_000_000),
    "silence_reset_s": (5, 86_400),
    "sensor_rate": (0.001, 1),
}
ZERO_IS_NEVER = ("silence_reset_s", "sensor_rate")
SOCKETS = ("serial.sock", "sensors.sock", "monitor.sock", "control.sock")
# The machine, and the time of one instruction as a power of two of nanoseconds: 168 MHz and 16 MHz in round figures.
BOARDS = {
    "stm32": ("qemu-system-arm", "netduinoplus2", 3),
    "hifive1": ("qemu-system-riscv32", "sifive_e", 6),
}
# The guest's semihosting calls reach the host: no new processes or rights, and a root folder with its own flash only.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where a host keeps its devices: their folders, their settings, their sockets, and the services' programs."""

    devices: str = "/var/lib/wasmbed-qemu"
    settings: str = "/etc/wasmbed/qemu"
    run: str = "/run/wasmbed-qemu"
    programs: str = "/opt/wasmbed/venv/bin"

    def folder(self, name: str) -> str:
        return os.path.join(self.devices, name)

    def flash(self, name: str) -> str:
        return os.path.join(self.devices, name, "flash.bin")


def unit(name: str) -> str:
    return f"wasmbed-qemu@{name}.service"


def check_names(names: list[str]) -> None:
    """Raise ServicesError for names that cannot be units or folders, and for those that are there twice."""
    seen = set()
    for name in names:
        if not NAME.fullmatch(name):
            raise ServicesError(f"device {name!r}: a name has up to 63 letters a-z, digits and '-'; rename it")
        if name in seen:
            raise ServicesError(f"device {name} is listed twice; remove one")
        seen.add(name)


def check(devices: list[dict], others: dict[tuple[str, int], str]) -> None:
    """Raise ServicesError for values out of range, and for ports that are there twice or are another device's."""
    taken = dict(others)
    for device in devices:
        name = device["name"]
        for key, (least, most) in RANGES.items():
            never = key in ZERO_IS_NEVER
            if not least <= device[key] <= most and not (never and device[key] == 0):
                allowed = f"{'0 or ' * never}{least} to {most}"
                raise ServicesError(f"device {name}: {key} must be {allowed}, not {device[key]}")
        if device["drop_per_million"] + device["corrupt_per_million"] > 1_000_000:
            raise ServicesError(f"device {name}: drop_per_million and corrupt_per_million are more than all bytes")
        endpoint = (device["address"], device["port"])
        if taken.setdefault(endpoint, name) != name:
            raise ServicesError(f"device {name}: port {device['port']} is {taken[endpoint]}'s; give it another")


def command(device: dict, paths: Paths) -> list[str]:
    """Return the command that runs a device's machine; it works in the device's folder."""
    program, machine, shift = BOARDS[device["board"]]
    serial, sensors, monitor, control = (os.path.join(paths.run, device["name"], name) for name in SOCKETS)
    return [
        program,
        *("-machine", machine, "-nodefaults", "-display", "none", "-monitor", "none"),
        *("-icount", f"shift={shift},sleep=on"),
        # The flash file is an ELF file too, so that the machine finds its own start in it.
        *("-kernel", "flash.bin"),
        *("-chardev", f"socket,id=line,path={serial},server=on,wait=off", "-serial", "chardev:line"),
        # The second port brings the samples of simulated sensors.
        *("-chardev", f"socket,id=sensors,path={sensors},server=on,wait=off", "-serial", "chardev:sensors"),
        *("-qmp", f"unix:{monitor},server=on,wait=off", "-qmp", f"unix:{control},server=on,wait=off"),
        *("-semihosting-config", "enable=on,target=native,arg=flash.bin"),
        *("-sandbox", SANDBOX, "-chroot", paths.folder(device["name"])),
    ]


def environment(device: dict, paths: Paths) -> str:
    """Return the unit's environment file."""
    return "# Written by the module wasmbed.edge.qemu_device.\nQEMU=" + " ".join(command(device, paths)) + "\n"


def settings(device: dict) -> str:
    """Return the device's file for wasmbed-serial, which is YAML as JSON is."""
    value = {
        "name": device["name"],
        "serial": {"address": device["address"], "port": device["port"], "baud": device["baud"]},
        "faults": {key: device[key] for key in ("drop_per_million", "corrupt_per_million")},
        "silence_reset_s": device["silence_reset_s"],
        "sensor_rate": device["sensor_rate"],
    }
    return json.dumps(value, indent=2) + "\n"


def listed(paths: Paths) -> list[str]:
    """Return the names of the devices that a host has."""
    files = glob.glob(os.path.join(paths.settings, "*.env"))
    return sorted(os.path.basename(path).removesuffix(".env") for path in files)


def endpoints(names: list[str], paths: Paths) -> dict[tuple[str, int], str]:
    """Return the address and port of devices that a host has, each with its device's name."""
    found = {}
    for name in names:
        try:
            serial = json.loads(read_text(os.path.join(paths.settings, f"{name}.yaml")) or "{}")["serial"]
            found[serial["address"], serial["port"]] = name
        except (ValueError, KeyError, TypeError):
            # Written by hand; wasmbed-serial judges it.
            continue
    return found


class Devices:
    """Brings devices to their state. What was done is in C(host.changes)."""

    def __init__(self, host: Host, run, check_mode: bool, paths: Paths = Paths()) -> None:
        self._host = host
        self._run = run
        self._check_mode = check_mode
        self._paths = paths
        self._changed: set[str] = set()
        self._stopped: set[str] = set()

    def present(self, device: dict) -> dict:
        """Make a device's folder, flash and settings; return its row of the result."""
        name, paths = device["name"], self._paths
        before = len(self._host.changes)
        self._host.directories([(paths.folder(name), Attributes(0o750, "root", GROUP))])
        row = {"name": name, "board": device["board"], "port": device["port"], **self._provision(device)}
        self._host.file(
            os.path.join(paths.settings, f"{name}.env"),
            Attributes(0o644, "root", "root"),
            environment(device, paths),
            secret=False,
        )
        if len(self._host.changes) > before:
            self._changed.add(name)
        self._host.file(
            os.path.join(paths.settings, f"{name}.yaml"),
            Attributes(0o644, "root", "root"),
            settings(device),
            secret=False,
        )
        return row

    def absent(self, name: str) -> None:
        """Stop a device and remove all of it, its key included."""
        files = [os.path.join(self._paths.settings, f"{name}{suffix}") for suffix in (".env", ".yaml")]
        folder = self._paths.folder(name)
        if not any(map(os.path.lexists, [*files, folder])):
            return
        self._host.changes.append(f"remove {name}")
        for path in files:
            if (text := read_text(path)) is not None:
                self._host.before[path], self._host.after[path] = text, ""
        if self._check_mode:
            return
        self._host.command("systemctl", "disable", "--now", "--quiet", unit(name))
        for path in files:
            if os.path.lexists(path):
                os.unlink(path)
        # Its key is in there: what cannot be removed is an error.
        if os.path.lexists(folder):
            shutil.rmtree(folder)

    def _provision(self, device: dict) -> dict:
        """Make or update a device's flash, its machine stopped if there is something to write."""
        if self._check_mode and not os.path.exists(self._paths.flash(device["name"])):
            self._host.changes.append(f"flash of {device['name']}")
            return {"public_key": "", "firmware": ""}
        answer = self._wasmbed(device, "--check")
        if answer["changed"]:
            name = unit(device["name"])
            self._host.changes.append(f"flash of {device['name']}")
            if (shown := self._host.show([name]).get(name)) and not shown.down:
                self._stopped.add(device["name"])
            if not self._check_mode:
                # The machine reads the file once and writes what it changes: not under its feet.
                if device["name"] in self._stopped:
                    self._host.command("systemctl", "stop", "--quiet", name)
                answer = self._wasmbed(device)
        flash = self._paths.flash(device["name"])
        attributes = Attributes(0o660, "root", GROUP)
        if os.path.exists(flash) and attributes.differ(flash):
            self._host.changes.append(f"attributes of {flash}")
            if not self._check_mode:
                attributes.apply(flash)
        return {"public_key": answer["public_key"] or "", "firmware": answer["firmware"]}

    def _wasmbed(self, device: dict, *options: str) -> dict:
        out = self._host.command(
            self._program("wasmbed"),
            "provision",
            *("--template", device["firmware"], "--flash", self._paths.flash(device["name"])),
            *("--name", device["name"], "--class", {"stm32": "mcu", "hifive1": "riscv"}[device["board"]]),
            *("--gateway", device["gateway"], "--gateway-key", "-"),
            *options,
            data=device["gateway_key"],
        )
        try:
            answer = json.loads(out)
            return {key: answer[key] for key in ("changed", "public_key", "firmware")}
        except (ValueError, KeyError, TypeError) as error:
            raise ServicesError(f"wasmbed provision of {device['name']}: unexpected answer {out[:200]!r}") from error

    def _program(self, name: str) -> str:
        return os.path.join(self._paths.programs, name)

    def reload_lines(self) -> None:
        """Have wasmbed-serial read the devices' files again, when something changed and it runs."""
        if self._host.changes and not self._check_mode:
            code, _out, _err = self._run(["systemctl", "is-active", "--quiet", "wasmbed-serial.service"])
            if code == 0:
                self._host.command("systemctl", "reload", "wasmbed-serial.service")

    def run(self, names: list[str], state: str) -> None:
        """Start, stop, restart or reset machines; a started one whose flash or settings changed is restarted.

        With C(present) those alone that were stopped for their flash are started again.
        """
        if state == "present":
            names = [name for name in names if name in self._stopped]
        if not names:
            return
        if self._changed and not self._check_mode:
            self._host.command("systemctl", "daemon-reload")
        states = self._host.show([unit(name) for name in names])
        todo: dict[str, list[str]] = {}
        for name in names:
            for action in self._actions(name, state, states.get(unit(name))):
                todo.setdefault(action, []).append(name)
        for action, chosen in todo.items():
            self._host.changes.extend(f"{action} {name}" for name in chosen)
            if self._check_mode:
                continue
            if action == "reset":
                for name in chosen:
                    self._host.command(self._program("wasmbed-serial"), "--reset", name)
            else:
                # One call for all: each costs as much as starting a machine.
                self._host.command("systemctl", action, "--quiet", *map(unit, chosen))

    def _actions(self, name: str, state: str, shown: Unit | None) -> list[str]:
        """Return what brings a unit to its state."""
        enabled, active = bool(shown and shown.enabled), bool(shown and shown.active) or name in self._stopped
        if state == "stopped":
            # One that fails again and again waits for its next start most of the time.
            return ["disable"] * enabled + ["stop"] * bool(shown and not shown.down)
        if state == "reset":
            return ["reset"] if active else ["start"]
        if state == "present":
            return ["restart"]
        again = state == "restarted" or name in self._changed
        return ["enable"] * (not enabled) + (["restart"] * again if active else ["start"])
