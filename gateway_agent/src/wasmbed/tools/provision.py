"""`wasmbed provision`: makes the flash file of a device out of a firmware template and an identity.

A device keeps its key, its seed and its modules when its firmware or its gateway changes.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wasmbed.tools.flash_file import (
    CLASSES,
    FILE_OFFSET,
    FLASH_BYTES,
    NEXT_GATEWAY,
    STORE_SEED_0,
    Flash,
    FlashError,
    Identity,
    seed_record,
)

if TYPE_CHECKING:
    import argparse

KEY_BYTES = 32
SEED_BYTES = 32
_KEY_FILE_MAX = 256
_TEMPLATE_MAX = FLASH_BYTES


@dataclass(frozen=True)
class Wanted:
    """What the flash shall hold."""

    name: str
    board_class: str  # a key of CLASSES
    gateway: str
    gateway_key: bytes  # X25519
    template: bytes


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FlashError(f"{path} has more than {limit} bytes")
    return data


def read_key(path: Path) -> bytes:
    """A public key, one line of base64 in a file, or from standard input when the path is `-`."""
    text = (sys.stdin.buffer.read(_KEY_FILE_MAX + 1) if path == Path("-") else _read(path, _KEY_FILE_MAX)).strip()
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise FlashError(f"{path} is not a line of base64: {error}") from None
    if len(key) != KEY_BYTES:
        raise FlashError(f"{path} holds {len(key)} bytes; a key has {KEY_BYTES}")
    return key


def make(wanted: Wanted) -> Flash:
    """A new device: key pair and seed from the system's random source."""
    private = X25519PrivateKey.generate()
    identity = Identity(
        device_id=wanted.name,
        gateway_id=wanted.gateway,
        private_key=private.private_bytes_raw(),
        public_key=private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
        gateway_key=wanted.gateway_key,
    )
    flash = Flash.erased(CLASSES[wanted.board_class]).with_firmware(wanted.template).with_identity(identity)
    return flash.with_records({STORE_SEED_0: seed_record(1, os.urandom(SEED_BYTES))})


def change(flash: Flash, wanted: Wanted) -> Flash:
    """The same device as wanted. Raises FlashError when the flash is another device's."""
    identity = flash.identity
    if identity is None:
        raise FlashError("the flash holds no identity; remove the file to make a new device")
    if identity.device_id != wanted.name or flash.board.name != wanted.board_class:
        raise FlashError(
            f"the flash is {identity.device_id}'s ({flash.board.name}), not {wanted.name}'s "
            f"({wanted.board_class}); remove the file to make a new device"
        )
    if not flash.records:
        raise FlashError("the seed of the flash is lost; remove the file to make a new device")
    if flash.with_firmware(wanted.template).firmware != flash.firmware:
        flash = flash.with_firmware(wanted.template)
    keys = {identity.gateway_key}
    if identity.flags & NEXT_GATEWAY:
        keys.add(identity.next_gateway_key)
    if identity.gateway_id != wanted.gateway or wanted.gateway_key not in keys:
        flash = flash.with_identity(
            replace(
                identity,
                gateway_id=wanted.gateway,
                gateway_key=wanted.gateway_key,
                next_gateway_key=bytes(KEY_BYTES),
                flags=identity.flags & ~NEXT_GATEWAY,
            )
        )
    return flash


def write(path: Path, data: bytes) -> None:
    """Replaces the file, all or nothing, readable by owner and group alone."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            status = path.stat()
        except FileNotFoundError:
            os.fchmod(file.fileno(), 0o660)
        else:
            os.fchmod(file.fileno(), status.st_mode & 0o660)
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def provision(path: Path, wanted: Wanted, *, check: bool = False) -> dict[str, object]:
    """Brings the file to what is wanted; with `check` only tells. The answer is what the command prints."""
    try:
        before = _read(path, FILE_OFFSET + FLASH_BYTES)
    except FileNotFoundError:
        before = b""
    flash = change(Flash.decode(before), wanted) if before else make(wanted)
    after = flash.encode()
    if after != before and not check:
        write(path, after)
    identity = flash.identity if before or not check else None
    return {
        "changed": after != before,
        "public_key": base64.b64encode(identity.public_key).decode() if identity else None,
        "firmware": flash.firmware_digest,
    }


def run(arguments: argparse.Namespace) -> int:
    """The command: one line of JSON."""
    wanted = Wanted(
        name=arguments.name,
        board_class=arguments.board_class,
        gateway=arguments.gateway,
        gateway_key=read_key(arguments.gateway_key),
        template=_read(arguments.template, _TEMPLATE_MAX),
    )
    print(json.dumps(provision(arguments.flash, wanted, check=arguments.check)))
    return 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    one = commands.add_parser("provision", help="make or change the flash file of a QEMU board")
    one.add_argument("--template", type=Path, required=True, help="firmware of the board's class")
    one.add_argument("--flash", type=Path, required=True, help="the device's file, made when absent")
    one.add_argument("--name", required=True, help="of the device")
    one.add_argument("--class", dest="board_class", choices=sorted(CLASSES), required=True)
    one.add_argument("--gateway", required=True, help="name of its gateway")
    one.add_argument(
        "--gateway-key",
        type=Path,
        required=True,
        help="file with the gateway's public key in base64, - for standard input",
    )
    one.add_argument("--check", action="store_true", help="change nothing, tell what would change")
    one.set_defaults(action=run)
