"""The marker of tests that start other programs: simulators, MAVSDK, MAVProxy, fuzzers."""

import pytest

PEERS = frozenset({"flight", "mavsdk", "stations", "fleet", "fuzz"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_mavlink_") in PEERS:
            item.add_marker("peers")
