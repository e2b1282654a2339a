"""Fixtures of all tests; those that need real services are in tests/support."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples in every run, and no limit on wall time, which a busy machine would miss; fuzzers do the searching.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

pytest_plugins = ["tests.support.cluster", "tests.support.registry"]

_REAL_SERVICES = {"cluster", "registry"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a real service, so that `-m "not cluster"` leaves none behind."""
    for item in items:
        if _REAL_SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
