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

from ansible_collections.wasmbed.edge.plugins.module_utils.services import Attributes, Host, ServicesError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GROUP = "wasmbed-serial"
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


def check(devices: list[dict]) -> None:
    """Raise ServicesError for names that cannot be units, for names and for ports that are there twice."""
    names, endpoints = set(), {}
    for device in devices:
        name = device["name"]
        if not NAME.fullmatch(name):
            raise ServicesError(f"device {name!r}: a name has up to 63 letters a-z, digits and '-'; rename it")
        if name in names:
            raise ServicesError(f"device {name} is listed twice; remove one")
        names.add(name)
        endpoint = (device["address"], device["port"])
        if endpoints.setdefault(endpoint, name) != name:
            raise ServicesError(f"device {name}: port {device['port']} is {endpoints[endpoint]}'s; give it another")


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


class Devices:
    """Brings devices to their state. What was done is in C(host.changes)."""

    def __init__(self, host: Host, run, check_mode: bool, paths: Paths = Paths()) -> None:
        self._host = host
        self._run = run
        self._check_mode = check_mode
        self._paths = paths
        self._changed: set[str] = set()

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
        if self._check_mode:
            return
        self._host.command("systemctl", "disable", "--now", "--quiet", unit(name))
        for path in files:
            if os.path.lexists(path):
                os.unlink(path)
        shutil.rmtree(folder, ignore_errors=True)

    def _provision(self, device: dict) -> dict:
        """Make or update a device's flash, its machine stopped if there is something to write."""
        if self._check_mode and not os.path.exists(self._paths.flash(device["name"])):
            self._host.changes.append(f"flash of {device['name']}")
            return {"public_key": "", "firmware": ""}
        answer = self._wasmbed(device, "--check")
        if answer["changed"]:
            self._host.changes.append(f"flash of {device['name']}")
            if not self._check_mode:
                # The machine reads the file once and writes what it changes: not under its feet.
                self._run(["systemctl", "stop", unit(device["name"])])
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
        """Start, stop, restart or reset machines; a started one whose flash or settings changed is restarted."""
        if not names:
            return
        if self._changed and not self._check_mode:
            self._host.command("systemctl", "daemon-reload")
        states = self._host.show([unit(name) for name in names])
        todo: dict[str, list[str]] = {}
        for name in names:
            shown = states.get(unit(name))
            enabled, active = bool(shown and shown.enabled), bool(shown and shown.active)
            if state == "stopped":
                actions = ["disable"] * enabled + ["stop"] * active
            elif state == "reset":
                actions = ["reset"] if active else ["start"]
            else:
                actions = ["enable"] * (not enabled)
                actions += ["start"] if not active else ["restart"] * (state == "restarted" or name in self._changed)
            for action in actions:
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
