"""Puts a board's loader and an image for slot 0 into one file, as they lie at the start of its flash."""

from __future__ import annotations

import sys
from pathlib import Path

BOOT_BYTES = 0x8000
SLOT0 = 0x20000
SLOT_BYTES = 0x40000
IMAGE_HEADER = 0x200


def template(boot: bytes, image: bytes) -> bytes:
    """The start of the flash: loader, erased bytes, room for the image's header, image."""
    if len(boot) > BOOT_BYTES:
        raise SystemExit(f"the loader has {len(boot)} bytes, its area {BOOT_BYTES}")
    if len(image) > SLOT_BYTES - IMAGE_HEADER:
        raise SystemExit(f"the image has {len(image)} bytes, its slot {SLOT_BYTES - IMAGE_HEADER}")
    return boot.ljust(SLOT0 + IMAGE_HEADER, b"\xff") + image


if __name__ == "__main__":
    boot_file, image_file, out_file = map(Path, sys.argv[1:4])
    out_file.write_bytes(template(boot_file.read_bytes(), image_file.read_bytes()))
