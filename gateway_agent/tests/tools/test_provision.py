"""`wasmbed provision`: new devices, changed firmware, changed gateways, refusals."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.tools import flash_file
from wasmbed.tools.flash_file import CLASSES, Flash, FlashError, Identity
from wasmbed.tools.provision import Wanted, provision

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = b"loader".ljust(flash_file.SLOT0, b"\xff") + b"firmware one"
GATEWAY_KEY = bytes(range(32))
WANTED = Wanted("drone-1", "mcu", "gw-1", GATEWAY_KEY, TEMPLATE)


def load(path: Path) -> Flash:
    return Flash.decode(path.read_bytes())


@pytest.mark.parametrize("board_class", CLASSES)
def test_new_device_has_its_own_key_and_seed(tmp_path: Path, board_class: str) -> None:
    wanted = replace(WANTED, board_class=board_class)
    seen = set()
    for number in (1, 2):
        path = tmp_path / f"{number}.bin"
        answer = provision(path, wanted)
        flash = load(path)
        identity = flash.identity
        assert identity is not None
        assert path.stat().st_mode & 0o777 == 0o660
        public = X25519PrivateKey.from_private_bytes(identity.private_key).public_key().public_bytes_raw()
        assert public == identity.public_key == base64.b64decode(str(answer["public_key"]))
        assert (identity.device_id, identity.gateway_id, identity.gateway_key) == ("drone-1", "gw-1", GATEWAY_KEY)
        assert flash.firmware == Flash.erased(CLASSES[board_class]).with_firmware(TEMPLATE).firmware
        assert answer == {"changed": True, "public_key": answer["public_key"], "firmware": flash.firmware_digest}
        seen |= {identity.private_key, flash.records[flash_file.STORE_SEED_0]}
    assert len(seen) == 4


def test_same_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    first = provision(path, WANTED)
    before = path.read_bytes()
    assert provision(path, WANTED) == {**first, "changed": False}
    assert path.read_bytes() == before


def test_new_firmware_leaves_the_rest_of_the_flash_alone(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    provision(path, WANTED)
    data = bytearray(path.read_bytes())
    data[flash_file.FILE_OFFSET + 0xA0000] = 0x42  # a module
    path.write_bytes(data)
    before = load(path)
    answer = provision(path, replace(WANTED, template=TEMPLATE[:-3] + b"two"))
    after = load(path)
    assert answer["changed"] is True
    assert answer["firmware"] == after.firmware_digest != before.firmware_digest
    assert (after.identity, after.records) == (before.identity, before.records)
    assert after.data[0xA0000] == 0x42


def test_check_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    assert provision(path, WANTED, check=True)["changed"] is True
    assert not path.exists()
    provision(path, WANTED)
    before = path.read_bytes()
    assert provision(path, replace(WANTED, gateway="gw-2"), check=True)["changed"] is True
    assert path.read_bytes() == before


def test_other_gateway_keeps_the_key_of_the_device_even_a_rotated_one(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    provision(path, WANTED)
    flash = load(path)
    identity = flash.identity
    assert identity is not None
    rotated = replace(identity, private_key=b"\1" * 32, public_key=b"\2" * 32)
    path.write_bytes(flash.with_records({**flash.records, flash_file.STORE_IDENTITY: rotated.encode()}).encode())
    assert provision(path, WANTED)["changed"] is False
    answer = provision(path, replace(WANTED, gateway="gw-2", gateway_key=b"\3" * 32))
    after = load(path)
    assert answer["changed"] is True
    assert after.identity == replace(rotated, gateway_id="gw-2", gateway_key=b"\3" * 32)
    assert after.records == flash.records, "the seed is the same, the rotation is in the block now"


def test_gateway_key_that_is_being_rotated_in_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "flash.bin"
    provision(path, WANTED)
    flash = load(path)
    identity = flash.identity
    assert identity is not None
    waiting = replace(identity, next_gateway_key=b"\4" * 32, flags=flash_file.NEXT_GATEWAY)
    path.write_bytes(flash.with_records({**flash.records, flash_file.STORE_IDENTITY: waiting.encode()}).encode())
    assert provision(path, replace(WANTED, gateway_key=b"\4" * 32))["changed"] is False


@pytest.mark.parametrize(("change", "message"), [({"name": "other"}, "drone-1's"), ({"board_class": "riscv"}, "riscv")])
def test_flash_of_another_device_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = tmp_path / "flash.bin"
    provision(path, WANTED)
    before = path.read_bytes()
    with pytest.raises(FlashError, match=message):
        provision(path, replace(WANTED, **change))  # type: ignore[arg-type]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage", [b"", b"x" * 100, b"\x7fELF" + bytes(flash_file.FILE_OFFSET + flash_file.FLASH_BYTES - 4)]
)
def test_file_that_is_no_flash_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "flash.bin"
    path.write_bytes(damage)
    if not damage:
        assert provision(path, WANTED)["changed"] is True
        return
    with pytest.raises(FlashError):
        provision(path, WANTED)


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32])
def test_name_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FlashError, match="1 to 63 bytes"):
        provision(tmp_path / "flash.bin", replace(WANTED, name=name))


def test_command_prints_one_line_of_json_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "template").write_bytes(TEMPLATE)
    (tmp_path / "gateway").write_text(base64.b64encode(GATEWAY_KEY).decode() + "\n")
    command = [sys.executable, "-m", "wasmbed.tools.main", "provision", "--class", "mcu", "--name", "d"]
    files = {"template": "template", "flash": "flash.bin", "gateway-key": "gateway"}
    options = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    done = subprocess.run([*command, *options, "--gateway", "g"], check=True, capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    identity = load(tmp_path / "flash.bin").identity
    assert identity is not None
    assert json.loads(line)["public_key"] == base64.b64encode(identity.public_key).decode()
    assert identity.private_key.hex() not in done.stdout + done.stderr
    assert repr(identity.private_key) not in repr(identity)
    (tmp_path / "gateway").write_text("not a key\n")
    refused = subprocess.run([*command, *options, "--gateway", "g"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "is not a line of base64" in refused.stderr
    again = [str(word) if word != str(tmp_path / "gateway") else "-" for word in options]
    for said, code in ((base64.b64encode(GATEWAY_KEY).decode(), 0), ("not a key", 1), ("", 1), ("A" * 4096, 1)):
        done = subprocess.run(
            [*command, *again, "--gateway", "g"], check=False, capture_output=True, text=True, input=said
        )
        assert done.returncode == code, done.stderr
        assert code or json.loads(done.stdout)["changed"] is False


RECORDS = st.dictionaries(st.integers(1, 7), st.binary(max_size=300), max_size=7)


@given(first=RECORDS, second=RECORDS)
def test_store_holds_what_was_put_last(first: dict[int, bytes], second: dict[int, bytes]) -> None:
    flash = Flash.erased(CLASSES["mcu"])
    assert flash.records == {}
    flash = flash.with_records(first)
    assert flash.records == first
    flash = flash.with_records(second)
    assert flash.records == second
    assert Flash.decode(flash.encode()) == flash


KEY = st.binary(min_size=32, max_size=32)
NAME = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=63)


@given(st.builds(Identity, NAME, NAME, KEY, KEY, KEY, KEY, KEY, KEY, st.integers(0, 3)))
def test_identity_comes_back_as_it_went_in(identity: Identity) -> None:
    assert Identity.decode(identity.encode()) == identity
