"""Fixtures of the runtime's tests."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from runtime_support import Agent, RuntimeProcess, connected
from wasmbed.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
SLOW = frozenset(
    {"artifacts", "examples", "hostile", "mutants", "server", "spec", "supervisor", "update", "wasi", "workers"}
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem.removeprefix("test_runtime_") in SLOW:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """A cache directory for the whole session: a module that several tests use is compiled once."""
    with tempfile.TemporaryDirectory(prefix="wb-cache-") as directory:
        yield Path(directory)


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="wb-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def runtime(cache: Path) -> Iterator[RuntimeProcess]:
    """A runtime that this module's tests share; each leaves it without instances."""
    with tempfile.TemporaryDirectory(prefix="wb-") as directory:
        process = RuntimeProcess.start(Path(directory), cache)
        yield process
        assert process.stop() == 0


@pytest_asyncio.fixture
async def agent(runtime: RuntimeProcess) -> AsyncIterator[Agent]:
    async with connected(runtime) as agent:
        yield agent
        await agent.stop_all()


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    watchdog.start()
    yield watchdog
    watchdog.close()


@pytest.fixture(scope="session")
def build_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], bytes]:
    """Compile a C source as the README says, once a session."""
    built: dict[Path, bytes] = {}

    def build(source: Path) -> bytes:
        if source not in built:
            output = tmp_path_factory.mktemp("wasm") / f"{source.stem}.wasm"
            subprocess.run([ROOT / "scripts/build-example", ROOT / source, output], check=True, timeout=120)
            built[source] = output.read_bytes()
        return built[source]

    return build
