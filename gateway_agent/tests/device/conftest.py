"""Fixtures of the tests of Linux devices."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The gateway's tests have what makes a gateway.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "gateway"))

from device_site import LinkSite, LinuxDevice
from link_faults import ThreadedProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def device_cache() -> Iterator[Path]:
    """Compiled modules, shared by the runtimes of the session."""
    with tempfile.TemporaryDirectory(prefix="wbc-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def link_site(cluster: Cluster, registry: Registry, device_cache: Path) -> Iterator[LinkSite]:
    """A gateway for the tests of a module; each uses devices and applications of its own."""
    site = LinkSite(cluster, registry, device_cache, f"l{next(_numbers)}")
    site.start()
    yield site
    site.close()


@pytest.fixture
def new_device(link_site: LinkSite) -> Iterator[Callable[..., LinuxDevice]]:
    """Makes devices of that gateway; they end with the test."""
    devices: list[LinuxDevice] = []

    def make(name: str, **options: object) -> LinuxDevice:
        device = LinuxDevice(link_site, name, **options)  # type: ignore[arg-type]
        devices.append(device)
        return device

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def proxy(link_site: LinkSite) -> Iterator[ThreadedProxy]:
    """A network between devices and the gateway."""
    proxy = ThreadedProxy(link_site.link_port)
    yield proxy
    proxy.cut()
