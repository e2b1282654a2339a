# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Emulated devices of a host, without root, without systemd, and without QEMU."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import qemu, services

DEVICE = {
    "name": "mcu-1",
    "board": "stm32",
    "firmware": "/images/stm32.flash",
    "gateway": "gw1",
    "gateway_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    "address": "10.79.0.41",
    "port": 5501,
    "baud": 115200,
    "drop_per_million": 0,
    "corrupt_per_million": 0,
    "silence_reset_s": 120,
    "sensor_rate": 0.1,
}


class Tools:
    """Answers for systemctl and wasmbed, which need a host of their own; keeps what was called."""

    def __init__(self, *, changed=True, active="inactive", enabled="disabled"):
        self.changed, self.active, self.enabled = changed, active, enabled
        self.calls = []

    def __call__(self, command, data=None):
        if command[:2] == ["systemctl", "show"]:
            names = [name for name in command if name.endswith(".service")]
            blocks = [f"Id={n}\nActiveState={self.active}\nUnitFileState={self.enabled}" for n in names]
            return 0, "\n\n".join(blocks), ""
        self.calls.append(" ".join(pathlib.Path(word).name for word in command))
        if command[0].endswith("/wasmbed"):
            assert data == DEVICE["gateway_key"]
            answer = {"changed": self.changed, "public_key": "KEY", "firmware": "sha256:0"}
            if "--check" not in command:
                flash = command[command.index("--flash") + 1]
                pathlib.Path(flash).write_bytes(b"flash")
                self.changed = False
            return 0, json.dumps(answer), ""
        return 0, "", ""


@pytest.fixture
def paths(tmp_path, monkeypatch):
    # The owners are those of a real host.
    monkeypatch.setattr(services.Attributes, "differ", lambda _self, _path: False)
    monkeypatch.setattr(services.Attributes, "apply", lambda _self, _path: None)
    (tmp_path / "settings").mkdir()
    return qemu.Paths(*(str(tmp_path / part) for part in ("devices", "settings", "run", "bin")))


def work(tools, paths, check_mode=False):
    host = services.Host(tools, check_mode)
    return host, qemu.Devices(host, tools, check_mode, paths)


def test_the_machine_has_no_network_and_no_way_out():
    words = qemu.command(DEVICE, qemu.Paths())
    assert (
        words[words.index("-sandbox") + 1] == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )
    assert words[words.index("-chroot") + 1] == "/var/lib/wasmbed-qemu/mcu-1"
    assert "-nodefaults" in words
    assert not [word for word in words if word.startswith(("-net", "-nic", "-drive", "-virtfs"))]
    # The environment file's value is split at spaces by systemd.
    assert all(" " not in word for word in words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../etc"}, "rename it"),
        ({"name": ""}, "rename it"),
        ({"name": "mcu-1"}, "listed twice"),
        ({"name": "mcu-2"}, "port 5501 is mcu-1's"),
        ({"name": "mcu-2", "port": 5509}, "port 5509 is mcu-9's"),
    ],
)
def test_devices_that_cannot_be_are_named(change, message):
    def check(*devices):
        qemu.check_names([device["name"] for device in devices])
        qemu.check(devices, {(DEVICE["address"], 5509): "mcu-9"})

    with pytest.raises(services.ServicesError, match=message):
        check(DEVICE, {**DEVICE, **change})


def test_a_new_device_is_made_and_started_and_a_second_run_changes_nothing(paths):
    tools = Tools()
    host, devices = work(tools, paths)
    row = devices.present(DEVICE)
    devices.run(["mcu-1"], "started")
    assert row == {"name": "mcu-1", "board": "stm32", "port": 5501, "public_key": "KEY", "firmware": "sha256:0"}
    assert "flash of mcu-1" in host.changes
    assert host.changes[-2:] == ["enable mcu-1", "start mcu-1"]
    assert qemu.listed(paths) == ["mcu-1"]
    assert json.loads(pathlib.Path(paths.settings, "mcu-1.yaml").read_text())["serial"]["port"] == 5501

    tools.active, tools.enabled = "active", "enabled"
    host, devices = work(tools, paths)
    devices.present(DEVICE)
    devices.reload_lines()
    devices.run(["mcu-1"], "started")
    assert host.changes == []


def test_another_line_speed_does_not_restart_the_machine_but_another_firmware_does(paths):
    tools = Tools()
    work(tools, paths)[1].present(DEVICE)
    tools.active, tools.enabled, tools.calls = "active", "enabled", []
    host, devices = work(tools, paths)
    devices.present({**DEVICE, "baud": 9600})
    devices.reload_lines()
    devices.run(["mcu-1"], "started")
    assert [call for call in tools.calls if call.startswith("systemctl")] == [
        "systemctl is-active --quiet wasmbed-serial.service",
        "systemctl reload wasmbed-serial.service",
    ]

    tools.changed = True
    host, devices = work(tools, paths)
    devices.present(DEVICE | {"baud": 9600})
    devices.run(["mcu-1"], "started")
    assert host.changes == ["flash of mcu-1", "restart mcu-1"]


def test_check_mode_tells_all_and_does_nothing(paths):
    tools = Tools()
    host, devices = work(tools, paths, check_mode=True)
    row = devices.present(DEVICE)
    devices.reload_lines()
    devices.run(["mcu-1"], "started")
    assert {"flash of mcu-1", "enable mcu-1", "start mcu-1"} <= set(host.changes)
    assert row["public_key"] == ""
    assert tools.calls == []
    assert not list(pathlib.Path(paths.settings).iterdir())
    assert not pathlib.Path(paths.devices).exists()


def test_reset_presses_the_button_of_what_runs_and_starts_what_does_not(paths):
    tools = Tools(active="active")
    host, devices = work(tools, paths)
    devices.run(["mcu-1", "mcu-2"], "reset")
    assert host.changes == ["reset mcu-1", "reset mcu-2"]
    assert tools.calls == ["wasmbed-serial --reset mcu-1", "wasmbed-serial --reset mcu-2"]
    tools.active = "inactive"
    host, devices = work(tools, paths)
    devices.run(["mcu-1"], "reset")
    assert host.changes == ["start mcu-1"]


def test_an_absent_device_leaves_nothing(paths):
    tools = Tools()
    work(tools, paths)[1].present(DEVICE)
    host, devices = work(tools, paths)
    devices.absent("mcu-1")
    assert host.changes == ["remove mcu-1"]
    assert not [*pathlib.Path(paths.settings).iterdir(), *pathlib.Path(paths.devices).iterdir()]
    host, devices = work(tools, paths)
    devices.absent("mcu-1")
    assert host.changes == []
