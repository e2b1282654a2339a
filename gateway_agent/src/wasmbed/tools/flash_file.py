"""The flash file of a QEMU board: firmware, identity and store where firmware/include/flash_map.h puts them.

The file is an ELF file of one segment, so that QEMU maps it by itself; the flash's 1 MiB begins 4 KiB into it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field, replace

FLASH_BYTES = 0x100000
FILE_OFFSET = 0x1000
BOOT_BYTES = 0x8000
STORE_SECTORS = (0x8000, 0xC000)
STORE_BYTES = 0x1000
PROVISION = 0x10000
PROVISION_SECTOR = 0x10000
SLOT0 = 0x20000
SLOT_BYTES = 0x40000

STORE_MAGIC = 0x54534257
PROVISION_MAGIC = 0x56504257
PROVISION_VERSION = 1
SEED_MAGIC = 0x44534257
STORE_SEED_0, STORE_SEED_1, STORE_IDENTITY = 1, 2, 3
STORE_MAX = 1100
ID_MAX = 64
NEXT_DEVICE, NEXT_GATEWAY = 1, 2

_EM_ARM, _EM_RISCV = 40, 243
_IDENTITY = struct.Struct("<32s32s32s32s32s32sIBB64s64s2x")
_PROVISION = struct.Struct(f"<IHHB3x{_IDENTITY.size}s")


class FlashError(ValueError):
    """The file is no flash file of this board, or what is asked does not fit it."""


@dataclass(frozen=True)
class BoardClass:
    """What tells the two kinds of board apart in their files."""

    name: str
    number: int  # enum board_class
    machine: int  # ELF
    base: int  # address the flash is mapped at


CLASSES = {
    "mcu": BoardClass("mcu", 1, _EM_ARM, 0x08000000),
    "riscv": BoardClass("riscv", 2, _EM_RISCV, 0x20400000),
}


@dataclass(frozen=True)
class Identity:
    """struct wb_identity of the firmware; keys are 32 bytes of X25519."""

    device_id: str
    gateway_id: str
    private_key: bytes = field(repr=False)
    public_key: bytes
    gateway_key: bytes
    next_private_key: bytes = field(default=bytes(32), repr=False)
    next_public_key: bytes = bytes(32)
    next_gateway_key: bytes = bytes(32)
    flags: int = 0

    def encode(self) -> bytes:
        """As it lies in flash."""
        device, gateway = self.device_id.encode(), self.gateway_id.encode()
        for what, name in (("device", device), ("gateway", gateway)):
            if not 1 <= len(name) <= ID_MAX - 1:
                raise FlashError(f"the name of a {what} has 1 to {ID_MAX - 1} bytes, not {len(name)}")
        keys = (self.private_key, self.public_key, self.gateway_key)
        following = (self.next_private_key, self.next_public_key, self.next_gateway_key)
        return _IDENTITY.pack(*keys, *following, self.flags, len(device), len(gateway), device, gateway)

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Raises FlashError when the bytes are no identity."""
        if len(data) != _IDENTITY.size:
            raise FlashError(f"an identity has {_IDENTITY.size} bytes, not {len(data)}")
        private, public, peer, *following, flags, device_bytes, gateway_bytes, device, gateway = _IDENTITY.unpack(data)
        if not (1 <= device_bytes <= ID_MAX and 1 <= gateway_bytes <= ID_MAX):
            raise FlashError("an identity without names")
        names = device[:device_bytes].decode(), gateway[:gateway_bytes].decode()
        return cls(names[0], names[1], private, public, peer, following[0], following[1], following[2], flags)


def seed_record(number: int, seed: bytes) -> bytes:
    """A seed of the random generator, as firmware/link writes it."""
    head = struct.pack("<II", SEED_MAGIC, number) + seed
    return head + hashlib.sha256(head).digest()[:4]


def _record(kind: int, data: bytes) -> bytes:
    length = len(data)
    check = ~(kind ^ length & 0xFF ^ length >> 8) & 0xFF
    head = struct.pack("<BBH", kind, check, length) + data
    whole = head + struct.pack("<I", zlib.crc32(head))
    return whole + b"\xff" * (-len(whole) % 4)


def store_sector(generation: int, records: dict[int, bytes]) -> bytes:
    """A sector of the store holding these records."""
    number = struct.pack("<I", generation & 0xFFFFFFFF)
    body = b"".join(_record(kind, data) for kind, data in sorted(records.items()))
    sector = struct.pack("<I", STORE_MAGIC) + number + struct.pack("<I", zlib.crc32(number)) + body
    if len(sector) > STORE_BYTES:
        raise FlashError(f"the records need {len(sector)} bytes, the store has {STORE_BYTES}")
    return sector.ljust(STORE_BYTES, b"\xff")


def _generation(sector: bytes) -> int | None:
    magic, generation, crc = struct.unpack_from("<III", sector)
    if magic != STORE_MAGIC or crc != zlib.crc32(sector[4:8]):
        return None
    return int(generation)


def _records(sector: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 12
    while at + 8 <= STORE_BYTES:
        kind, check, length = struct.unpack_from("<BBH", sector, at)
        end = at + 4 + length
        if check != ~(kind ^ length & 0xFF ^ length >> 8) & 0xFF or length > STORE_MAX or end + 4 > STORE_BYTES:
            break
        if struct.unpack_from("<I", sector, end)[0] != zlib.crc32(sector[at:end]):
            break
        found[kind] = sector[at + 4 : end]
        at = end + 4 + -(end + 4) % 4
    return found


@dataclass(frozen=True)
class Flash:
    """The whole flash of one board."""

    board: BoardClass
    data: bytes = field(repr=False)

    @classmethod
    def erased(cls, board: BoardClass) -> Flash:
        return cls(board, b"\xff" * FLASH_BYTES)

    @classmethod
    def decode(cls, file: bytes) -> Flash:
        """Takes the file apart. Raises FlashError when it is none."""
        if len(file) != FILE_OFFSET + FLASH_BYTES or file[:4] != b"\x7fELF":
            raise FlashError("not a flash file")
        machine = struct.unpack_from("<H", file, 18)[0]
        for board in CLASSES.values():
            if board.machine == machine:
                return cls(board, file[FILE_OFFSET:])
        raise FlashError(f"a flash file of an unknown machine ({machine})")

    def encode(self) -> bytes:
        """The file."""
        base = self.board.base
        ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
        head = struct.pack("<HHIIIIIHHHHHH", 2, self.board.machine, 1, base, 52, 0, 0, 52, 32, 1, 40, 0, 0)
        segment = struct.pack("<8I", 1, FILE_OFFSET, base, base, FLASH_BYTES, FLASH_BYTES, 5, FILE_OFFSET)
        return (ident + head + segment).ljust(FILE_OFFSET, b"\0") + self.data

    def _with(self, offset: int, data: bytes) -> Flash:
        return replace(self, data=self.data[:offset] + data + self.data[offset + len(data) :])

    @property
    def firmware(self) -> bytes:
        """Loader and slot 0."""
        return self.data[:BOOT_BYTES] + self.data[SLOT0 : SLOT0 + SLOT_BYTES]

    @property
    def firmware_digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.firmware).hexdigest()

    def with_firmware(self, template: bytes) -> Flash:
        """The same device with the loader and the image of a template."""
        if not SLOT0 < len(template) <= SLOT0 + SLOT_BYTES:
            raise FlashError(f"a template has {SLOT0} to {SLOT0 + SLOT_BYTES} bytes, not {len(template)}")
        whole = template.ljust(SLOT0 + SLOT_BYTES, b"\xff")
        return self._with(0, whole[:BOOT_BYTES])._with(SLOT0, whole[SLOT0:])

    @property
    def records(self) -> dict[int, bytes]:
        """What the store holds; empty when there is none."""
        newest = self._newest()
        return {} if newest is None else _records(self._sector(newest))

    def _sector(self, index: int) -> bytes:
        return self.data[STORE_SECTORS[index] : STORE_SECTORS[index] + STORE_BYTES]

    def _newest(self) -> int | None:
        first, second = (_generation(self._sector(index)) for index in (0, 1))
        if first is None or second is None:
            return None if first == second else int(first is None)
        return int(0 < (second - first) & 0xFFFFFFFF < 1 << 31)

    def with_records(self, records: dict[int, bytes]) -> Flash:
        """The store with these records and no others, in the sector that is not in use; the other one is erased."""
        newest = self._newest()
        generation = 0 if newest is None else _generation(self._sector(newest)) or 0
        target = 0 if newest is None else 1 - newest
        other = self._with(STORE_SECTORS[1 - target], b"\xff" * STORE_BYTES)
        return other._with(STORE_SECTORS[target], store_sector(generation + 1, records))

    @property
    def identity(self) -> Identity | None:
        """Who the device is now: with rotated keys if there are any; None when it was never provisioned."""
        rotated = self.records.get(STORE_IDENTITY)
        if rotated is not None:
            return Identity.decode(rotated)
        size = _PROVISION.size
        block = self.data[PROVISION : PROVISION + size + 4]
        magic, version, length, number, identity = _PROVISION.unpack(block[:size])
        if magic != PROVISION_MAGIC:
            return None
        if version != PROVISION_VERSION or length != size + 4 or number != self.board.number:
            raise FlashError("a provisioning block of another version or board")
        if struct.unpack("<I", block[size:])[0] != zlib.crc32(block[:size]):
            raise FlashError("a damaged provisioning block")
        return Identity.decode(identity)

    def with_identity(self, identity: Identity) -> Flash:
        """The same flash belonging to this device; an earlier rotation is part of the identity given."""
        size = _PROVISION.size + 4
        block = _PROVISION.pack(PROVISION_MAGIC, PROVISION_VERSION, size, self.board.number, identity.encode())
        block += struct.pack("<I", zlib.crc32(block))
        flash = self._with(PROVISION, block.ljust(PROVISION_SECTOR, b"\xff"))
        records = flash.records
        if records.pop(STORE_IDENTITY, None) is None:
            return flash
        return flash.with_records(records)
