"""The module qemu_device with all of its states: real files, real flashes by `wasmbed provision`.

systemctl is one of our own, whose units are in a file; with systemd and QEMU it runs in the scenario qemu_host.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.wasmbed.edge.plugins.module_utils import qemu, services
from ansible_collections.wasmbed.edge.plugins.modules import qemu_device
from wasmbed.qemu.config import load_devices
from wasmbed.tools import flash_file

if TYPE_CHECKING:
    from collections.abc import Callable

STATES = ("present", "started", "stopped", "restarted", "reset", "absent")
KEY = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
OTHER_KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="

# What systemctl(1) says of these commands, for units of which none fails.
SYSTEMCTL = """#!{python} -S
import json, pathlib, sys
file = pathlib.Path({units!r})
units = json.loads(file.read_text())
verb, *words = sys.argv[1:]
names = [word for word in words if word.endswith(".service")]
for name in names:
    unit = units.setdefault(name, {{"active": "inactive", "enabled": "disabled"}})
    if verb == "show":
        print(f"Id={{name}}\\nActiveState={{unit['active']}}\\nUnitFileState={{unit['enabled']}}\\n")
    if verb == "is-active":
        sys.exit(0 if unit["active"] == "active" else 3)
    if verb in ("start", "restart"):
        unit["active"] = "active"
    if verb == "stop" or "--now" in words:
        unit["active"] = "inactive"
    if verb in ("enable", "disable"):
        unit["enabled"] = verb + "d"
if verb not in ("show", "is-active"):
    units["calls"].append(" ".join([verb, *names]))
file.write_text(json.dumps(units))
"""
# The command alone: all that `wasmbed` has takes its time to load.
PROVISION = """#!{python}
import argparse, sys
from wasmbed.tools import provision
parser = argparse.ArgumentParser()
provision.add_parser(parser.add_subparsers())
arguments = parser.parse_args()
sys.exit(arguments.action(arguments))
"""
SERIAL = """#!{python} -S
import json, pathlib, sys
file = pathlib.Path({units!r})
units = json.loads(file.read_text())
units["calls"].append(" ".join(sys.argv[1:]))
file.write_text(json.dumps(units))
"""


class Host:
    """A host of emulated devices in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.paths = qemu.Paths(*(str(folder / part) for part in ("devices", "settings", "run", "bin")))
        for part in ("devices", "settings", "bin"):
            (folder / part).mkdir()
        self._units = folder / "units.json"
        self._units.write_text(json.dumps({"calls": []}))
        for name, text in (("systemctl", SYSTEMCTL), ("wasmbed-serial", SERIAL), ("wasmbed", PROVISION)):
            program = folder / "bin" / name
            program.write_text(text.format(python=sys.executable, units=str(self._units)))
            program.chmod(0o755)
        self.firmware = folder / "stm32.flash"
        self.release(b"one")

    def release(self, version: bytes) -> None:
        """Have another firmware image."""
        self.firmware.write_bytes(b"loader".ljust(flash_file.SLOT0, b"\xff") + b"firmware " + version)

    def device(self, name: str = "mcu-1", port: int = 5501, **changes: Any) -> dict[str, Any]:
        return {
            "name": name,
            "board": "stm32",
            "firmware": str(self.firmware),
            "gateway": "gw1",
            "gateway_key": KEY,
            "port": port,
            **changes,
        }

    def run(self, *devices: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        """Run the module; what it returns."""
        arguments = {"devices": list(devices), "_ansible_check_mode": check, "_ansible_diff": True, **options}
        arguments["_ansible_remote_tmp"] = str(self.folder)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            qemu_device.main()
        return dict(json.loads(self._capsys.readouterr().out))

    def unit(self, name: str = "mcu-1", **changes: str) -> tuple[str, str]:
        """Whether a device's machine runs and is enabled; `changes` are made before."""
        units = json.loads(self._units.read_text())
        unit = units.setdefault(qemu.unit(name), {"active": "inactive", "enabled": "disabled"})
        unit.update(changes)
        self._units.write_text(json.dumps(units))
        return unit["active"], unit["enabled"]

    def calls(self) -> list[str]:
        """What was asked of systemctl and wasmbed-serial since it was asked last, but for questions."""
        units = json.loads(self._units.read_text())
        calls, units["calls"] = units["calls"], []
        self._units.write_text(json.dumps(units))
        return [str(call) for call in calls]

    def files(self) -> dict[str, bytes]:
        """All files of devices with their content."""
        folders = (Path(self.paths.devices), Path(self.paths.settings))
        return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}

    def flash(self, name: str = "mcu-1") -> flash_file.Flash:
        return flash_file.Flash.decode(Path(self.paths.flash(name)).read_bytes())


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path, capsys)
    monkeypatch.setattr(qemu_device, "Paths", lambda: found.paths)
    # The group of the serial lines' service is of a real host.
    monkeypatch.setattr(services.Attributes, "ids", lambda _self: (os.getuid(), os.getgid()))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return found


# What a host is like before: no device, one that is off, one that runs.
BEFORE: dict[str, Callable[[Host], object]] = {
    "none": lambda host: None,
    "off": lambda host: host.run(host.device(), state="present"),
    "on": lambda host: host.run(host.device(), state="started"),
}
OFF, ON = ("inactive", "disabled"), ("active", "enabled")


@pytest.mark.parametrize(
    ("before", "state", "changes", "after"),
    [
        ("none", "present", ["flash of mcu-1"], OFF),
        ("none", "started", ["flash of mcu-1", "enable mcu-1", "start mcu-1"], ON),
        ("none", "restarted", ["flash of mcu-1", "enable mcu-1", "start mcu-1"], ON),
        ("none", "absent", [], OFF),
        ("off", "present", [], OFF),
        ("off", "started", ["enable mcu-1", "start mcu-1"], ON),
        ("off", "stopped", [], OFF),
        ("off", "restarted", ["enable mcu-1", "start mcu-1"], ON),
        ("off", "reset", ["start mcu-1"], ("active", "disabled")),
        ("off", "absent", ["remove mcu-1"], OFF),
        ("on", "present", [], ON),
        ("on", "started", [], ON),
        ("on", "stopped", ["disable mcu-1", "stop mcu-1"], OFF),
        ("on", "restarted", ["restart mcu-1"], ON),
        ("on", "reset", ["reset mcu-1"], ON),
        ("on", "absent", ["remove mcu-1"], OFF),
    ],
)
def test_each_state_is_reached_as_check_mode_said_and_a_second_run_changes_nothing(
    host: Host, before: str, state: str, changes: list[str], after: tuple[str, str]
) -> None:
    BEFORE[before](host)
    was, files, _ = host.unit(), host.files(), host.calls()
    checked = host.run(host.device(), state=state, check=True)
    assert (host.unit(), host.files(), host.calls()) == (was, files, [])

    done = host.run(host.device(), state=state)
    assert done["changes"] == checked["changes"]
    assert done["diff"] == checked["diff"]
    # Of the files that a new device gets the change says their names alone.
    assert [change for change in done["changes"] if "/" not in change] == changes
    assert done["changed"] is bool(changes)
    assert host.unit() == after
    if state == "absent":
        assert host.files() == {}
    if state not in ("reset", "restarted"):
        again = host.run(host.device(), state=state)
        assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])


def test_a_reset_is_pressed_by_the_lines_service_and_a_restart_is_systemds(host: Host) -> None:
    host.run(host.device(), state="started")
    host.calls()
    host.run({"name": "mcu-1"}, state="reset")
    assert host.calls() == ["--reset mcu-1"]
    host.run({"name": "mcu-1"}, state="restarted")
    assert host.calls() == ["restart wasmbed-qemu@mcu-1.service"]


def test_the_diff_is_that_of_the_settings_and_holds_no_key(host: Host) -> None:
    made = host.run(host.device(), state="present")
    identity = host.flash().identity
    assert identity is not None
    for secret in (identity.private_key.hex(), identity.private_key.decode("latin-1")):
        assert secret not in json.dumps(made)
    settings = f"{host.paths.settings}/mcu-1.yaml"
    (new,) = [part for part in made["diff"] if part["after_header"] == settings]
    assert new["before"] == ""
    assert json.loads(new["after"])["serial"]["baud"] == 115200

    (changed,) = host.run(host.device(baud=9600), state="present")["diff"]
    assert changed["before"] == new["after"]
    assert json.loads(changed["after"])["serial"]["baud"] == 9600
    removed = host.run({"name": "mcu-1"}, state="absent")["diff"]
    assert {part["before_header"]: part["after"] for part in removed} == {
        settings: "",
        f"{host.paths.settings}/mcu-1.env": "",
    }
    assert changed["after"] in [part["before"] for part in removed]


@pytest.mark.parametrize("state", ["present", "started"])
def test_another_firmware_keeps_the_identity_and_a_machine_that_ran_runs_again(host: Host, state: str) -> None:
    """With state=present a machine was stopped for its flash and left so."""
    first = host.run(host.device(), state="started")["devices"][0]
    host.calls()
    host.release(b"two")
    checked = host.run(host.device(), state=state, check=True)
    (second,) = (done := host.run(host.device(), state=state))["devices"]
    assert done["changes"] == checked["changes"] == ["flash of mcu-1", "restart mcu-1"]
    assert second["public_key"] == first["public_key"]
    assert second["firmware"] != first["firmware"]
    assert host.flash().firmware_digest == second["firmware"]
    calls = host.calls()
    assert calls.index("stop wasmbed-qemu@mcu-1.service") < calls.index("restart wasmbed-qemu@mcu-1.service")
    assert host.unit() == ON


def test_another_firmware_of_a_machine_that_is_off_leaves_it_off(host: Host) -> None:
    host.run(host.device(), state="present")
    host.release(b"two")
    assert host.run(host.device(), state="present")["changes"] == ["flash of mcu-1"]
    assert host.unit() == OFF


def test_another_key_of_the_gateway_reaches_the_flash_and_check_mode_tells_of_it(host: Host) -> None:
    host.run(host.device(), state="started")
    checked = host.run(host.device(gateway_key=OTHER_KEY), check=True)
    done = host.run(host.device(gateway_key=OTHER_KEY))
    assert done["changes"] == checked["changes"] == ["flash of mcu-1", "restart mcu-1"]
    assert not host.run(host.device(gateway_key=OTHER_KEY))["changed"]


def test_a_machine_that_fails_again_and_again_is_stopped(host: Host) -> None:
    """It waits to be started most of the time, and was left to be."""
    host.run(host.device(), state="started")
    host.unit(active="activating")
    done = host.run({"name": "mcu-1"}, state="stopped")
    assert done["changes"] == ["disable mcu-1", "stop mcu-1"]
    assert host.unit() == OFF


def test_exclusive_removes_the_others_and_frees_their_ports(host: Host) -> None:
    host.run(host.device("mcu-1"), host.device("mcu-2", 5502))
    options = {"exclusive": True, "state": "started"}
    checked = host.run(host.device("mcu-3", 5502), {"name": "mcu-1"}, check=True, **options)
    done = host.run(host.device("mcu-3", 5502), {"name": "mcu-1"}, **options)
    assert done["changes"] == checked["changes"]
    assert "remove mcu-2" in done["changes"]
    assert "remove mcu-1" not in done["changes"]
    assert qemu.listed(host.paths) == ["mcu-1", "mcu-3"]
    assert (host.unit("mcu-1"), host.unit("mcu-2"), host.unit("mcu-3")) == (ON, OFF, ON)
    assert host.run(exclusive=True, state="present")["changes"] == ["remove mcu-1", "remove mcu-3"]
    assert host.files() == {}


@pytest.mark.parametrize("state", ["stopped", "reset", "absent"])
def test_exclusive_with_a_state_that_makes_nothing_is_refused(host: Host, state: str) -> None:
    failed = host.run({"name": "mcu-1"}, state=state, exclusive=True)
    assert f"does not go with state={state}" in failed["msg"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["", ".", "..", "../devices", "a/b", "A"])
def test_no_name_leads_out_of_the_devices_folder(host: Host, state: str, name: str) -> None:
    """An empty name with state=absent removed the folder of all devices."""
    flash = Path(host.paths.flash("mcu-1"))
    flash.parent.mkdir()
    flash.write_bytes(b"flash")
    before = host.files()
    failed = host.run(host.device(name), state=state)
    assert failed["failed"]
    assert "rename it" in failed["msg"]
    assert host.files() == before


@pytest.mark.parametrize("state", ["stopped", "reset"])
def test_a_device_that_is_not_there_is_named(host: Host, state: str) -> None:
    failed = host.run({"name": "mcu-9"}, state=state)
    assert "no such device on this host: mcu-9; make it with state=present first" in failed["msg"]


def test_a_port_of_a_device_that_is_not_listed_is_refused(host: Host) -> None:
    """The lines' service did not take it, and did not start again, while the module told of success."""
    host.run(host.device("mcu-1"))
    before = host.files()
    for devices in ([host.device("mcu-2", 5501)], [host.device("mcu-2", 5501), {"name": "mcu-1"}]):
        failed = host.run(*devices)
        assert "device mcu-2: port 5501 is mcu-1's; give it another" in failed["msg"]
        assert host.files() == before


def test_a_folder_that_cannot_be_removed_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key stayed on the host and the module told of success."""
    host.run(host.device(), state="present")

    def fail(path: str, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(qemu.shutil, "rmtree", fail)
    failed = host.run({"name": "mcu-1"}, state="absent")
    assert failed["failed"]
    assert "Read-only file system" in failed["msg"]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("port", (1, 65535), (0, 65536, -1)),
        ("baud", (300, 4_000_000), (299, 4_000_001, 0)),
        ("drop_per_million", (0, 1_000_000), (-1, 1_000_001)),
        ("corrupt_per_million", (0, 1_000_000), (-1, 1_000_001)),
        ("silence_reset_s", (0, 5, 86_400), (4, -1, 86_401)),
        ("sensor_rate", (0, 0.001, 1), (0.0009, 1.1, -1)),
    ],
)
def test_values_that_the_lines_service_does_not_take_are_refused_before_anything_is_written(
    host: Host, key: str, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    """They were written and not taken."""
    device = {**host.device(), "address": "127.0.0.1", "baud": 115200, "silence_reset_s": 120, "sensor_rate": 0.1}
    device |= {"drop_per_million": 0, "corrupt_per_million": 0}
    settings = Path(host.paths.settings)
    for value in good:
        qemu.check([{**device, key: value}], {})
        (settings / "mcu-1.yaml").write_text(qemu.settings({**device, key: value}))
        assert load_devices(settings)[0].keys() == {"mcu-1"}
    for value in bad:
        (settings / "mcu-1.yaml").write_text(qemu.settings({**device, key: value}))
        if (key, value) != ("port", 0):
            assert load_devices(settings)[0] == {}
        (settings / "mcu-1.yaml").unlink()
        failed = host.run(host.device(**{key: value}))
        assert f"device mcu-1: {key} must be " in failed["msg"]
        assert host.files() == {}


def test_faults_are_together_no_more_than_all_bytes(host: Host) -> None:
    failed = host.run(host.device(drop_per_million=600_000, corrupt_per_million=500_000))
    assert "more than all bytes" in failed["msg"]


def test_a_running_lines_service_reads_the_files_again_when_they_changed(host: Host) -> None:
    host.run(host.device())
    assert not [call for call in host.calls() if "wasmbed-serial" in call]
    units = json.loads((host.folder / "units.json").read_text())
    units["wasmbed-serial.service"] = {"active": "active", "enabled": "enabled"}
    (host.folder / "units.json").write_text(json.dumps(units))
    host.run(host.device(baud=9600))
    assert host.calls() == ["reload wasmbed-serial.service"]
    host.run(host.device(baud=9600))
    assert host.calls() == []
    host.run({"name": "mcu-1"}, state="absent")
    # When the files are gone.
    assert host.calls()[-1] == "reload wasmbed-serial.service"
