"""The running image in the image group of MCUmgr, asked by the gateway's side and by an independent client."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from board_support import BOARDS
from device_support import Device, powered
from wasmbed.link import smp
from wasmbed.link.exchange import Priority
from wasmbed.link.mcuboot import McuImages
from wasmbed.runtime import RequestRefused

from tests.support.firmware import BUILD, FIRMWARE, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NO_CLIENT = "smpclient, a client by others, is not installed; scripts/install-firmware-tools does it"
IMAGE_GROUP = 1
STATE, UPLOAD, ERASE = 0, 1, 5


@pytest.fixture(scope="session")
def images() -> None:
    build(*(BUILD / board / f"app.{kind}" for board in BOARDS for kind in ("bin", "flash")))


@pytest.fixture
async def device(images: None, board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    async with powered(Device(board_name, tmp_path / "flash.bin")) as running:
        yield running


def digest_of(device: Device) -> bytes:
    """Of the image as the build made it."""
    return hashlib.sha256((BUILD / device.board / "app.bin").read_bytes()).digest()


async def test_running_image_is_listed_with_its_version_and_hash(device: Device) -> None:
    (running,) = await McuImages(device.mcu).states()
    assert running.slot == 0
    assert f'"{running.version}"' in (FIRMWARE / "app" / "config.h").read_text()
    assert running.digest == digest_of(device)
    assert (running.active, running.confirmed, running.bootable) == (True, True, True)
    assert (running.pending, running.permanent) == (False, False)


async def test_what_needs_a_second_slot_is_refused_by_name(device: Device) -> None:
    images = McuImages(device.mcu)
    with pytest.raises(RequestRefused, match="NO_FREE_SLOT"):
        await images.upload(b"\x3d\xb8\xf3\x96" * 256)
    with pytest.raises(RequestRefused, match="INVALID_SLOT"):
        await images.erase()
    with pytest.raises(RequestRefused, match="HASH_NOT_FOUND"):
        await images.test(bytes(32))
    with pytest.raises(RequestRefused, match="TEST_OF_ACTIVE"):
        await images.test(digest_of(device))
    await images.confirm()
    await images.confirm(digest_of(device))


@pytest.mark.parametrize(
    ("version", "command", "body", "answer"),
    [
        (1, UPLOAD, {"image": 0, "off": 0, "data": b"\1", "len": 1}, {"err": {"group": 1, "rc": 9}}),
        (0, UPLOAD, {"image": 0, "off": 0, "data": b"\1", "len": 1}, {"rc": 6}),
        (1, ERASE, {}, {"err": {"group": 1, "rc": 14}}),
        (1, ERASE, {"slot": 0}, {"err": {"group": 1, "rc": 9}}),
        (0, ERASE, {"slot": 7}, {"rc": 3}),
        (1, STATE, {"hash": bytes(32), "confirm": True}, {"err": {"group": 1, "rc": 8}}),
        (0, STATE, {"hash": bytes(32), "confirm": True}, {"rc": 1}),
    ],
)
async def test_refusals_have_the_published_form_of_both_versions(
    device: Device, version: int, command: int, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    data = cbor2.dumps(body)
    head = (
        bytes([version << 3 | smp.Op.WRITE, 0]) + len(data).to_bytes(2) + IMAGE_GROUP.to_bytes(2) + bytes([7, command])
    )
    found = await device.mcu.exchange.ask_bytes(head + data, priority=Priority.COMMAND)
    assert found[0] == version << 3 | smp.Op.WRITE_ANSWER
    assert found[4:8] == head[4:8]
    assert cbor2.loads(found[8:]) == answer


async def test_independent_client_finds_the_image(device: Device) -> None:
    client = pytest.importorskip("smpclient", reason=NO_CLIENT)
    requests = pytest.importorskip("smpclient.requests.image_management", reason=NO_CLIENT)
    errors = pytest.importorskip("smp.image_management", reason=NO_CLIENT).IMG_MGMT_ERR

    class Transport:
        """The session's messages as smpclient's transport."""

        mtu = max_unencoded_size = 256

        async def connect(self, address: str, timeout_s: float) -> None: ...
        async def disconnect(self) -> None: ...
        def initialize(self, size: int) -> None: ...

        async def send_and_receive(self, data: bytes) -> bytes:
            return await device.mcu.exchange.ask_bytes(data, priority=Priority.COMMAND)

    async with client.SMPClient(Transport(), "", 60.0) as peer:
        (state,) = (await peer.request(requests.ImageStatesRead())).images
        assert (state.slot, bytes(state.hash), state.active) == (0, digest_of(device), True)
        with pytest.raises(client.exceptions.SMPUploadError) as refused:
            async for _ in peer.upload(bytes(600)):
                pass
        assert refused.value.args[0].err.rc == errors.NO_FREE_SLOT
        erased = await peer.request(requests.ImageErase())
        assert erased.err.rc == errors.INVALID_SLOT
