"""Fixtures of the tests of the gateway's serial lines."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The gateway's tests have what makes a gateway.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "gateway"))
# And those of the boards have applications that are small enough.
sys.path.append(str(Path(__file__).resolve().parents[3] / "firmware/tests/board"))

from line_site import LineSite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lines_cache() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wbc-") as folder:
        yield Path(folder)


@pytest.fixture
def line_site(cluster: Cluster, registry: Registry, lines_cache: Path) -> Iterator[LineSite]:
    """A gateway with lines; the test provisions its boards and starts it."""
    site = LineSite(cluster, registry, lines_cache, f"s{next(_numbers)}")
    yield site
    site.close()
