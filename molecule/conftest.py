"""Fixtures of the scenarios' tests. They look at the site as it behaves, not at what was written."""

from __future__ import annotations

import pytest
from lab_site import Site


@pytest.fixture(scope="session")
def site() -> Site:
    """The site of the inventory."""
    return Site()


@pytest.fixture(scope="session")
def control_plane(site: Site) -> str:
    """Name of the host that runs the control plane."""
    return site.group("control_plane")[0]


@pytest.fixture(scope="session")
def registry_host(site: Site) -> str:
    """Name of the host that runs the registry."""
    return site.group("registry")[0]


@pytest.fixture(scope="session")
def controller_host(site: Site) -> str:
    """Name of the host that runs the controller."""
    return site.group("controller")[0]


@pytest.fixture(scope="session")
def gateway(site: Site) -> str:
    """Name of a gateway, which is its host's name too."""
    return site.group("gateways")[0]
