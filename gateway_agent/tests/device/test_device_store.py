"""What is on the device's disk: modules that are whole, instances that are wanted, and what damage does to them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from wasmbed.device.config import DeviceConfig
from wasmbed.device.modules import MAX_PARTIAL, Modules
from wasmbed.device.store import Store, WantedRow
from wasmbed.device.wanted import SEQUENCE_BLOCK, Wanted
from wasmbed.runtime import RequestRefused, Secret, StartRequest
from wasmbed.service import ConfigError, load_config

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = ["sha256:" + letter * 64 for letter in "abcdef"]
WASM = bytes(range(256)) * 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def bring(modules: Modules, digest: str, data: bytes, keep: set[str] | None = None) -> None:
    have = await modules.offer(digest, len(data), sha256(data), keep or set())
    await modules.part(digest, have, data[have:])
    await modules.finish(digest)


async def test_a_module_is_taken_in_parts_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    modules = Modules(tmp_path / "modules", store, 1 << 20)
    await modules.open()
    assert await modules.offer(DIGESTS[0], len(WASM), sha256(WASM), set()) == 0
    await modules.part(DIGESTS[0], 0, WASM[:1000])
    with pytest.raises(RequestRefused, match="do not come next"):
        await modules.part(DIGESTS[0], 500, WASM[500:600])
    again = Modules(tmp_path / "modules", store, 1 << 20)
    await again.open()
    with pytest.raises(RequestRefused, match="no transfer"):
        await again.part(DIGESTS[0], 1000, b"x")
    assert await again.offer(DIGESTS[0], len(WASM), sha256(WASM), set()) == 1000
    await again.part(DIGESTS[0], 1000, WASM[1000:])
    assert not again.has(DIGESTS[0])
    await again.finish(DIGESTS[0])
    assert await again.read(DIGESTS[0]) == WASM
    assert await again.offer(DIGESTS[0], len(WASM), sha256(WASM), set()) == len(WASM)
    await store.close()


async def test_what_is_not_what_was_offered_is_thrown_away(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    modules = Modules(tmp_path / "modules", store, 1 << 20)
    await modules.open()
    await modules.offer(DIGESTS[0], len(WASM), sha256(b"other"), set())
    await modules.part(DIGESTS[0], 0, WASM)
    with pytest.raises(RequestRefused, match="damaged on its way"):
        await modules.finish(DIGESTS[0])
    assert await modules.offer(DIGESTS[0], len(WASM), sha256(b"other"), set()) == 0
    for digest, size, checksum in (
        ("sha256:../../x", 1, "0" * 64),
        (DIGESTS[0], 1 << 40, "0" * 64),
        (DIGESTS[0], 1, "x"),
    ):
        with pytest.raises(RequestRefused):
            await modules.offer(digest, size, checksum, set())
    await store.close()


async def test_unused_modules_make_room_and_used_ones_do_not(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    modules = Modules(tmp_path / "modules", store, 3 * len(WASM))
    await modules.open()
    for digest in DIGESTS[:3]:
        await bring(modules, digest, WASM)
    await bring(modules, DIGESTS[3], WASM, {DIGESTS[0]})
    assert [modules.has(digest) for digest in DIGESTS[:4]] == [True, False, True, True]
    with pytest.raises(RequestRefused, match="raise modules_bytes"):
        await bring(modules, DIGESTS[4], WASM, {DIGESTS[0], DIGESTS[2], DIGESTS[3]})
    for number in range(MAX_PARTIAL + 2):
        await modules.offer(DIGESTS[5], 10, f"{number:064x}", {DIGESTS[0]})
    assert len(list((tmp_path / "modules").glob("*.part"))) == MAX_PARTIAL
    await store.close()


async def test_a_damaged_module_is_forgotten(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    modules = Modules(tmp_path / "modules", store, 1 << 20)
    await modules.open()
    await bring(modules, DIGESTS[0], WASM)
    (path,) = (tmp_path / "modules").iterdir()
    path.write_bytes(WASM[:-1] + b"\x01")
    (tmp_path / "modules/stranger").write_bytes(b"x")
    again = Modules(tmp_path / "modules", store, 1 << 20)
    await again.open()
    assert not (tmp_path / "modules/stranger").exists()
    assert await again.read(DIGESTS[0]) is None
    assert not again.has(DIGESTS[0])
    await store.close()


def request(digest: str = DIGESTS[0], instance: str = "i") -> StartRequest:
    return StartRequest(instance, digest, "ns/app", "ns/dev", "mpu")


async def test_what_is_wanted_is_known_after_a_restart_with_the_gateways_keys(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    wanted = Wanted(store)
    assert await wanted.put(request(), "key-1") is None
    await wanted.put(request(DIGESTS[1]), "key-2")
    again = Wanted(store)
    await again.open()
    assert list(again) == ["i"]
    assert again.key("i") == "key-2"
    assert again.gateway_key(request(DIGESTS[1]).key()) == "key-2"
    assert again.digests() == {DIGESTS[0], DIGESTS[1]}
    assert await again.roll_back("i", "another") is None
    back = await again.roll_back("i", request(DIGESTS[1]).key())
    assert back == request()
    last = Wanted(store)
    await last.open()
    assert (last.key("i"), last.digests()) == ("key-1", {DIGESTS[0]})
    await last.drop("i")
    assert not await store.wanted()
    await store.close()


async def test_a_row_that_cannot_be_read_is_forgotten_and_the_others_are_not(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    wanted = Wanted(store)
    await wanted.put(request(), "key")
    await store.save_wanted(WantedRow("bad", "key", b"\xff"))
    again = Wanted(store)
    await again.open()
    assert list(again) == ["i"]
    await store.close()


async def test_sequence_numbers_are_never_given_twice(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    wanted = Wanted(store)
    await wanted.put(request(), "key")
    secret = Secret("ns/app", "ns/dev", bytes(32), 5000)
    assert (await wanted.use_secret(secret)).sequence == 5000
    again = Wanted(store)
    await again.open()
    (kept,) = again.secrets
    assert (await again.use_secret(kept)).sequence == 5000 + SEQUENCE_BLOCK
    # The gateway's own count is behind, and then before the device's.
    assert (await again.use_secret(secret)).sequence == 5000 + 2 * SEQUENCE_BLOCK
    ahead = Secret("ns/app", "ns/dev", bytes(32), 1 << 40)
    assert (await again.use_secret(ahead)).sequence == 1 << 40
    await again.drop("i")
    assert not await store.secrets()
    await store.close()


async def test_a_damaged_database_is_put_aside_and_numbers_its_spools_anew(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    first = store.stream
    await store.close()
    store = await Store.open(tmp_path)
    assert store.stream == first
    await store.close()
    (tmp_path / "device.db").write_bytes(b"no database" * 1000)
    store = await Store.open(tmp_path)
    assert store.stream != first
    assert (tmp_path / "device.unusable").exists()
    assert (tmp_path / "device.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".").stat().st_mode & 0o777 == 0o700
    await store.close()


CONFIG = """
device: default/drone1
gateway: gateway.wasmbed.local:8080
certificate: /a
key: /b
gateway_ca: /c
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("device: drone1", "device: 'drone1' is not namespace/name"),
        ("device: default/" + "d" * 60, "at most 49 characters"),
        ("gateway: somewhere", "gateway must be host:port"),
        ("spool: {logs_bytes: 1}", "at least 65536"),
        ("retry: {first_s: 5.0, last_s: 1.0}", "last_s first_s to 3600"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(CONFIG)
    assert load_config(path, DeviceConfig).address == ("gateway.wasmbed.local", 8080)
    field = line.partition(":")[0]
    kept = [item for item in CONFIG.splitlines() if not item.startswith(f"{field}:")]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=words):
        load_config(path, DeviceConfig)
