"""Emulated microcontrollers: they run, each is shut in with its own flash, and a hostile one does not get out."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_site import ansible, check_mode_changes, playbook, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab_site import Site

SERIAL, SERIAL_PORT = "wasmbed-serial.service", 9083
HOSTILE, HOSTILE_PORT = "molecule-hostile", 5599
DEVICES = "/var/lib/wasmbed-qemu"


@pytest.fixture(scope="module")
def sim(site: Site) -> str:
    return site.group("qemu_hosts")[0]


@pytest.fixture(scope="module")
def devices(site: Site, sim: str) -> list[dict]:
    return site.variable("qemu_host_devices", sim)


def unit(device: str) -> str:
    return f"wasmbed-qemu@{device}.service"


def uptime(site: Site, gateway: str, device: str) -> float | None:
    """Seconds since the board itself started, as it told its gateway; None when it is not connected."""
    port = site.variable("gateway_http_port", gateway, 9080)
    found = site.metrics(gateway, port).get(f'wasmbed_agent_line_uptime_seconds{{device="default/{device}"}}')
    connected = site.get("edgedevice", device).get("status", {}).get("phase") == "Connected"
    return found if connected and found else None


def test_every_device_runs_and_is_at_its_line(site: Site, sim: str, devices: list[dict]) -> None:
    for device in devices:
        assert site.host(sim).service(unit(device["name"])).is_running
        assert site.host(sim).service(unit(device["name"])).is_enabled
        key = f'wasmbed_serial_machine_up{{device="{device["name"]}"}}'
        wait(f"{device['name']} is at its line", lambda key=key: site.metrics(sim, SERIAL_PORT).get(key) == 1.0)


def test_every_device_is_registered_with_its_own_key(site: Site, devices: list[dict]) -> None:
    specs = [site.get("edgedevice", device["name"])["spec"] for device in devices]
    assert [spec["deviceClass"] for spec in specs] == [
        {"stm32": "mcu", "hifive1": "riscv"}[device["board"]] for device in devices
    ]
    assert len({spec["publicKey"] for spec in specs}) == len(devices)


def test_a_machine_sees_its_own_flash_and_nothing_else(site: Site, sim: str, devices: list[dict]) -> None:
    name = unit(devices[0]["name"])
    pid = site.main_pid(sim, name)
    assert set(site.run(sim, f"ls -A /proc/{pid}/root").split()) == {"flash.bin"}
    process = site.process(sim, name)
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    assert process["Uid"].split()[0] not in ("0", site.run(sim, "id -u wasmbed-serial").strip())
    # The right to change its root, and no other.
    assert int(process["CapEff"], 16) == 1 << 18
    interfaces = site.run(sim, f"cat /proc/{pid}/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_units_are_shut_off(site: Site, sim: str, devices: list[dict]) -> None:
    assert site.exposure(sim, unit(devices[0]["name"])) <= 2.0
    assert site.exposure(sim, SERIAL) <= 2.0


def test_keys_are_read_by_root_and_the_machine_alone(site: Site, sim: str, devices: list[dict]) -> None:
    flash = f"{DEVICES}/{devices[0]['name']}/flash.bin"
    assert site.modes(sim, flash) == {flash: "660 root:wasmbed-serial"}
    assert site.modes(sim, f"{DEVICES}/{devices[0]['name']}")[f"{DEVICES}/{devices[0]['name']}"].startswith("750 root:")


def test_the_reset_button_works_and_others_go_on(site: Site, sim: str, gateway: str, devices: list[dict]) -> None:
    names = [device["name"] for device in devices[:2]]
    first, second = map(unit, names)
    before = site.main_pid(sim, first), site.main_pid(sim, second)
    ran = [
        wait(f"{name} tells how long it runs", lambda name=name: uptime(site, gateway, name), 120.0) for name in names
    ]
    pressed = time.monotonic()
    result = ansible(sim, "wasmbed.edge.qemu_device", devices=[{"name": names[0]}], state="reset")
    assert "CHANGED" in result.stdout, result.stdout + result.stderr

    def anew() -> bool:
        runs = uptime(site, gateway, names[0])
        # It told how long it runs after it was reset, or it would say at least what it said before.
        return runs is not None and runs < ran[0] and runs <= time.monotonic() - pressed + 1.0

    wait("the board has started anew and is connected", anew, 120.0)
    wait("the other one runs on", lambda: (uptime(site, gateway, names[1]) or 0.0) > ran[1], 120.0)
    # A reset is the machine's, not the process's.
    assert (site.main_pid(sim, first), site.main_pid(sim, second)) == before


def test_a_machine_is_started_anew_by_its_name_alone(site: Site, sim: str, devices: list[dict]) -> None:
    names = [device["name"] for device in devices]
    before = {name: site.main_pid(sim, unit(name)) for name in names}
    dry = ansible(sim, "wasmbed.edge.qemu_device", "--check", devices=[{"name": names[0]}], state="restarted")
    assert "CHANGED" in dry.stdout, dry.stdout + dry.stderr
    assert site.main_pid(sim, unit(names[0])) == before[names[0]]
    result = ansible(sim, "wasmbed.edge.qemu_device", devices=[{"name": names[0]}], state="restarted")
    assert "CHANGED" in result.stdout, result.stdout + result.stderr
    after = {name: site.main_pid(sim, unit(name)) for name in names}
    assert [name for name in names if after[name] != before[name]] == names[:1]
    again = ansible(sim, "wasmbed.edge.qemu_device", devices=[{"name": names[0]}])
    assert "SUCCESS" in again.stdout, again.stdout + again.stderr
    nobody = ansible(sim, "wasmbed.edge.qemu_device", devices=[{"name": "molecule-nobody"}])
    assert nobody.returncode != 0
    assert "device molecule-nobody: give board, firmware, gateway, gateway_key, port" in nobody.stdout


def test_a_killed_machine_comes_back_with_its_flash(site: Site, sim: str, devices: list[dict]) -> None:
    name = devices[-1]["name"]
    key = site.get("edgedevice", name)["spec"]["publicKey"]
    site.kill(sim, unit(name))
    assert check_mode_changes("qemu_host") == {}
    assert site.get("edgedevice", name)["spec"]["publicKey"] == key


def connected(address: str) -> socket.socket | None:
    try:
        return socket.create_connection((address, HOSTILE_PORT), timeout=5)
    except OSError:
        return None


@pytest.fixture
def hostile(site: Site, sim: str, tmp_path: Path) -> Iterator[str]:
    """A guest of our own as one more device."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed; scripts/install-firmware-tools does it")
    here, image = Path(__file__).parent, tmp_path / "flash.bin"
    flags = ["-mcpu=cortex-m4", "-mthumb", "-nostdlib", "-Os", "-fno-builtin", "-T", here / "hostile.ld"]
    subprocess.run(["arm-none-eabi-gcc", *flags, "-o", image, here / "hostile.c"], check=True, timeout=60)
    model = site.variable("qemu_host_devices", sim)[0]["name"]
    folder, settings = f"{DEVICES}/{HOSTILE}", {"name": HOSTILE, "serial": {"address": "0.0.0.0", "port": HOSTILE_PORT}}
    for command in (
        f"mkdir -p -m 0750 {folder}",
        f"echo {base64.b64encode(image.read_bytes()).decode()} | base64 --decode >{folder}/flash.bin",
        f"chgrp -R wasmbed-serial {folder} && chmod 0660 {folder}/flash.bin",
        f"sed 's/{model}/{HOSTILE}/g' /etc/wasmbed/qemu/{model}.env >/etc/wasmbed/qemu/{HOSTILE}.env",
        f"echo '{json.dumps(settings)}' >/etc/wasmbed/qemu/{HOSTILE}.yaml",
        f"systemctl reload {SERIAL}",
    ):
        site.run(sim, command)
    yield HOSTILE
    site.run(sim, f"systemctl stop {unit(HOSTILE)}; rm -rf {folder} /etc/wasmbed/qemu/{HOSTILE}.*")
    site.run(sim, f"systemctl reload {SERIAL}")


def test_a_hostile_guest_does_not_get_out(site: Site, sim: str, hostile: str) -> None:
    address = site.variable("ansible_host", sim)
    line = wait("the line is served", lambda: connected(address))
    with line:
        line.settimeout(60)
        began = site.run(sim, "date +%s.%N").strip()
        site.run(sim, f"systemctl start {unit(hostile)}")
        said = b""
        while said.count(b".") < 2:
            more = line.recv(64)
            assert more, f"the line was closed after {said!r}"
            said += more
    # Its own flash and nothing else: no file of the host, no other device, no new file, no socket.
    assert said.split(b".")[1] == b"Fpuonr"
    # The command kills the machine instead of running: 31 is SIGSYS, of seccomp.
    journal = f"journalctl --no-pager --output=cat --since=@{began} --unit={unit(hostile)}"
    wait("the machine was killed for its system call", lambda: "status=31/SYS" in site.run(sim, journal))
    assert site.host(sim).run("ls /tmp/out").rc != 0


def test_a_line_loses_what_the_inventory_says_and_the_machine_goes_on(
    site: Site, sim: str, gateway: str, devices: list[dict]
) -> None:
    name, before = devices[0]["name"], site.main_pid(sim, unit(devices[0]["name"]))
    key = f'wasmbed_serial_fault_bytes_total{{device="{name}",kind="dropped"}}'
    lossy = [{**devices[0], "drop_per_million": 5_000}, *devices[1:]]
    try:
        result = playbook("molecule/qemu_host/converge.yml", "-e", json.dumps({"qemu_host_devices": lossy}))
        assert result.returncode == 0, result.stdout[-4000:]
        wait("bytes are lost", lambda: site.metrics(sim, SERIAL_PORT).get(key, 0) > 0, 120.0)
        lost = site.metrics(sim, SERIAL_PORT)[key]
        # One byte of two hundred is lost, and the device still comes through to its gateway.
        wait("the device tells its gateway something", lambda: uptime(site, gateway, name), 180.0)
        wait("more bytes are lost", lambda: site.metrics(sim, SERIAL_PORT)[key] > lost, 120.0)
        assert site.main_pid(sim, unit(name)) == before
    finally:
        result = playbook("molecule/qemu_host/converge.yml")
    assert result.returncode == 0, result.stdout[-4000:]
    wait("the device is connected by a line without loss", lambda: uptime(site, gateway, name), 120.0)
    lost = site.metrics(sim, SERIAL_PORT).get(key, 0)
    told = uptime(site, gateway, name) or 0.0
    wait("the device tells more", lambda: (uptime(site, gateway, name) or 0.0) > told, 120.0)
    assert site.metrics(sim, SERIAL_PORT).get(key, 0) == lost


def test_a_device_without_a_gateway_key_is_named(site: Site, sim: str, devices: list[dict]) -> None:
    wrong = [{**devices[0], "gateway": "molecule-nowhere"}]
    result = playbook("molecule/qemu_host/converge.yml", "-e", json.dumps({"qemu_host_devices": wrong}))
    assert result.returncode != 0
    assert "no public link key of molecule-nowhere" in " ".join(result.stdout.split())


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("qemu_host") == {}
