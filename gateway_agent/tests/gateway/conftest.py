"""Fixtures of the agent's tests."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gateway_site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def module_cache() -> Iterator[Path]:
    """Compiled modules, shared by the runtimes of the session."""
    with tempfile.TemporaryDirectory(prefix="wbc-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def new_site(cluster: Cluster, registry: Registry, module_cache: Path) -> Iterator[Callable[..., Site]]:
    """Makes gateways; they end with the module."""
    sites: list[Site] = []

    def make(**limits: int) -> Site:
        site = Site(cluster, registry, module_cache, f"t{next(_numbers)}", limits)
        sites.append(site)
        site.start()
        return site

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Iterator[Site]:
    """A gateway for one test."""
    site = new_site()
    yield site
    for service in (site.agent, site.runtime):
        if service is not None:
            service.stop()
