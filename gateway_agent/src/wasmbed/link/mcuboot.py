"""Firmware images over the secure link: the groups OS and image as MCUmgr has published them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from wasmbed.link import smp
from wasmbed.link.exchange import ANSWER_S, ATTEMPTS, Priority
from wasmbed.link.smp import Op, Result, ResultError
from wasmbed.runtime import RequestRefused, RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.link.operations import McuOperations

_ECHO, _RESET = 0, 5
_STATE, _UPLOAD, _ERASE = 0, 1, 5
# The first part erases flash, the last one has the image checked.
SLOW_S: Final = 20.0
# Room for the CBOR around a part, and around the first one.
_PART_BYTES: Final = 24
_FIRST_PART_BYTES: Final = 80
_MOST_ROUNDS: Final = 100_000


class ImageError(IntEnum):
    """Errors of the image group, as MCUmgr numbers them."""

    HASH_NOT_FOUND = 8
    NO_FREE_SLOT = 9
    INVALID_SLOT = 14
    TEST_OF_ACTIVE = 33


@dataclass(frozen=True)
class ImageState:
    """One image in one of the device's two slots; slot 0 runs."""

    slot: int
    version: str
    digest: bytes
    bootable: bool
    pending: bool
    confirmed: bool
    active: bool
    permanent: bool


class McuImages:
    """The firmware images of one device. All raise RuntimeGone without an answer, RequestRefused when it refuses."""

    def __init__(self, mcu: McuOperations) -> None:
        self._mcu = mcu

    async def _ask(self, op: Op, group: int, command: int, body: dict[str, Any], **options: Any) -> dict[Any, Any]:
        try:
            return await self._mcu.exchange.ask(op, command, body, group=group, **options)
        except ResultError as error:
            names = {item.value: item.name for item in (Result if error.group is None else ImageError)}
            name = names.get(error.result, f"result {error.result}")
            raise RequestRefused("DeviceError", f"the device refuses: {name} {error.reason}".rstrip()) from error

    async def echo(self, text: str) -> str:
        """Return what comes back."""
        return str((await self._ask(Op.WRITE, smp.GROUP_OS, _ECHO, {"d": text})).get("r"))

    async def reset(self) -> None:
        """Restart the device; the session comes back by itself."""
        await self._ask(Op.WRITE, smp.GROUP_OS, _RESET, {})

    async def states(self) -> list[ImageState]:
        """Return the images in the device's slots."""
        rows = (await self._ask(Op.READ, smp.GROUP_IMAGE, _STATE, {})).get("images")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise RuntimeGone("the device's list of images is not readable")
        try:
            return [_image(row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise RuntimeGone(f"the device's list of images is not readable: {error}") from error

    async def upload(self, image: bytes, *, progress: Callable[[int], None] = lambda _: None) -> None:
        """Bring an image to the second slot, from where an earlier try broke off; the device checks it."""
        room = (await self._mcu.info()).message_bytes - smp.HEADER.size
        first = {"image": 0, "len": len(image), "sha": hashlib.sha256(image).digest(), "upgrade": False}
        offset = 0
        for _ in range(_MOST_ROUNDS):
            part = room - (_PART_BYTES if offset else _FIRST_PART_BYTES)
            body = {"off": offset, "data": image[offset : offset + part], **({} if offset else first)}
            slow = not offset or offset + part >= len(image)
            answer_s, attempts = (SLOW_S, 3) if slow else (ANSWER_S, ATTEMPTS)
            answer = await self._ask(
                Op.WRITE,
                smp.GROUP_IMAGE,
                _UPLOAD,
                body,
                priority=Priority.UPLOAD,
                answer_s=answer_s,
                attempts=attempts,
            )
            offset = answer.get("off", -1)
            if type(offset) is not int or not 0 <= offset <= len(image):
                raise RuntimeGone("the device does not say how much of the image it has")
            progress(offset)
            if offset == len(image):
                return
        raise RuntimeGone("the device's offset does not reach the image's end")

    async def test(self, digest: bytes) -> None:
        """Have the boot loader try an image at the next restart, once."""
        await self._ask(Op.WRITE, smp.GROUP_IMAGE, _STATE, {"hash": digest, "confirm": False}, answer_s=SLOW_S)

    async def confirm(self, digest: bytes | None = None) -> None:
        """Keep an image, without a digest the one that runs."""
        body: dict[str, Any] = {"confirm": True} if digest is None else {"hash": digest, "confirm": True}
        await self._ask(Op.WRITE, smp.GROUP_IMAGE, _STATE, body, answer_s=SLOW_S)

    async def erase(self) -> None:
        """Erase the second slot."""
        await self._ask(Op.WRITE, smp.GROUP_IMAGE, _ERASE, {}, answer_s=SLOW_S, attempts=3)


def _image(row: dict[str, Any]) -> ImageState:
    """One row; flags that are false may be left out."""
    flags = {name: row.get(name, False) is True for name in ("bootable", "pending", "confirmed", "active", "permanent")}
    return ImageState(int(row["slot"]), str(row["version"])[:64], bytes(row.get("hash", b"")), **flags)
