"""What is on disk: the database and the modules."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from test_agent_plan import placement
from test_agent_status import Plans, Told
from wasmbed.api import PlacementDevice
from wasmbed.gateway.blobs import Blobs
from wasmbed.gateway.metrics import Metrics
from wasmbed.gateway.placements import Placements
from wasmbed.gateway.state import Store
from wasmbed.oci import ImageError

if TYPE_CHECKING:
    from pathlib import Path

DIGESTS = ["sha256:" + letter * 64 for letter in "abcdef"]
OBJECT = {"metadata": {"name": "p"}, "spec": {"image": "ä"}}


async def blobs(folder: Path, store: Store, limit: int = 1000) -> Blobs:
    result = Blobs(folder / "artifacts", store, limit)
    await result.open()
    return result


async def test_placements_and_facts_outlive_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = await Store.open(folder)
    assert await store.placements() == {}
    assert await store.fact("complete") is None
    await store.save_placements({"p": OBJECT, "q": OBJECT}, complete=True)
    await store.save_placements({"q": None})
    await store.save_fact("limits", {"max_modules": 3})
    await store.close()
    store = await Store.open(folder)
    assert await store.placements() == {"p": OBJECT}
    assert await store.fact("complete") is True
    assert await store.fact("limits") == {"max_modules": 3}
    await store.save_placements({"r": OBJECT}, complete=True)
    assert set(await store.placements()) == {"r"}
    await store.close()


async def test_placements_stay_saved_when_the_api_comes_back_after_a_start_without_it(tmp_path: Path) -> None:
    """Those that had not changed were removed from the disk, and the next start without the API stopped them all."""
    item = placement("p", PlacementDevice("a", "ns", "u", "gateway")).to_dict()
    item["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"}
    store = await Store.open(tmp_path)
    for _ in range(2):
        placements = Placements("g", store, Plans(), Told(), Metrics(CollectorRegistry()))  # type: ignore[arg-type]
        await placements.restore()
        saving = asyncio.ensure_future(placements.run_saver())
        placements.take_all([item])
        await asyncio.sleep(0)
        assert set(await store.placements()) == {"p"}
        saving.cancel()
    await store.close()


async def test_only_the_agent_can_read_its_state(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    store = await Store.open(folder)
    await (await blobs(folder, store)).add(DIGESTS[0], b"x", keep=set())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "artifacts").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "agent.db").stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "artifacts").iterdir()} == {0o600}
    await store.close()


async def test_a_database_that_cannot_be_used_for_now_is_not_put_aside(tmp_path: Path) -> None:
    """A full disk at a start cost the saved placements, at the next start for good."""
    store = await Store.open(tmp_path)
    await store.save_placements({"p": OBJECT})
    await store.close()
    with sqlite3.connect(tmp_path / "agent.db", isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            await Store.open(tmp_path)
    other.close()
    store = await Store.open(tmp_path)
    assert await store.placements() == {"p": OBJECT}
    await store.close()


async def test_writes_are_durable(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.save_placements({"p": OBJECT})
    with sqlite3.connect(tmp_path / "agent.db") as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert reader.execute("SELECT name FROM placements").fetchall() == [("p",)]
    reader.close()
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.close()


@pytest.mark.parametrize("kind", ["garbage", "newer", "truncated"])
async def test_a_database_that_cannot_be_used_is_put_aside(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "agent.db"
    store = await Store.open(tmp_path)
    await store.save_placements({str(number): OBJECT for number in range(200)})
    await store.close()
    if kind == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif kind == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xff" * 4096 + data[8192:12288])
    store = await Store.open(tmp_path)
    assert await store.placements() == {}
    assert await store.fact("complete") is None
    assert (tmp_path / "agent.unusable").exists()
    await store.save_placements({"p": OBJECT})
    await store.close()


async def test_modules_outlive_the_process_and_damage_is_found(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    first = await blobs(tmp_path, store)
    for digest in DIGESTS[:3]:
        await first.add(digest, digest.encode(), keep=set())
    (tmp_path / "artifacts" / DIGESTS[1][7:]).write_bytes(b"damaged")
    (tmp_path / "artifacts" / DIGESTS[2][7:]).unlink()
    (tmp_path / "artifacts" / ".half.tmp").write_bytes(b"half")
    (tmp_path / "artifacts" / ("9" * 64)).write_bytes(b"nobody knows")
    again = await blobs(tmp_path, store)
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {DIGESTS[0][7:], DIGESTS[1][7:]}
    assert await again.read(DIGESTS[0]) == DIGESTS[0].encode()
    assert await again.read(DIGESTS[1]) is None
    assert again.size(DIGESTS[1]) is None
    assert await again.read(DIGESTS[2]) is None
    await store.close()


async def test_a_module_that_is_read_and_makes_room_at_once_is_gone_and_no_error(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    room = await blobs(tmp_path, store, limit=30)
    await room.add(DIGESTS[0], b"a" * 30, keep=set())
    (tmp_path / "artifacts" / DIGESTS[0][7:]).unlink()
    found = await asyncio.gather(*(room.read(DIGESTS[0]) for _ in range(2)))
    assert found == [None, None]
    await store.close()


async def test_unused_modules_make_room_the_longest_unused_first(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    room = await blobs(tmp_path, store, limit=30)
    for digest in DIGESTS[:3]:
        await room.add(digest, b"x" * 10, keep=set())
    assert await room.read(DIGESTS[0]) is not None
    await room.add(DIGESTS[3], b"x" * 10, keep={DIGESTS[2]})
    assert [digest for digest in DIGESTS if room.size(digest)] == [DIGESTS[0], DIGESTS[2], DIGESTS[3]]
    with pytest.raises(ImageError, match=r"no room for 25 bytes.*max_total_bytes"):
        await room.add(DIGESTS[4], b"x" * 25, keep={DIGESTS[2]})
    assert room.size(DIGESTS[2]) == 10
    assert room.total_bytes <= 30
    await store.close()


async def test_a_digest_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    room = await blobs(tmp_path, store)
    for digest in ("sha256:../../etc/passwd", "x", "sha256:" + "A" * 64):
        with pytest.raises(ImageError, match="is not sha256"):
            await room.add(digest, b"x", keep=set())
    await store.close()
