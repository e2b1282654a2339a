"""Fixtures of the ROS 2 bridge's tests."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from ros2_support import DISTRIBUTIONS, LOOPBACK, SHARED, Peer, domain, rclpy_python
from wasmbed.bridges.ros2.dds import DdsBackend
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Definitions that are not part of the repository."""
    if not (SHARED / "px4_msgs").is_dir():
        pytest.skip(f"no definitions to compare with in {SHARED}; set WASMBED_SHARED_DATA")
    return SHARED


@functools.cache
def codecs_of(distribution: str, test_msgs: Path | None = None) -> CodecFactory:
    return CodecFactory(TypeStore.of(distribution, "1.16", [test_msgs] if test_msgs else []))


@pytest.fixture(scope="session")
def codecs() -> CodecFactory:
    return codecs_of("jazzy")


@pytest.fixture
def domain_id() -> int:
    return domain()


@pytest.fixture
def backends(codecs: CodecFactory, domain_id: int) -> Iterator[Callable[..., DdsBackend]]:
    """Makes DDS backends in one domain on the loopback interface, and closes them."""
    made: list[DdsBackend] = []

    def make(node: str, **options: object) -> DdsBackend:
        arguments = {"codecs": codecs, "domain_id": domain_id, "discovery": LOOPBACK, **options}
        factory = arguments.pop("codecs")
        backend = DdsBackend(factory, node=node, **arguments)  # type: ignore[arg-type]
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.context.close()


@pytest.fixture(params=DISTRIBUTIONS)
def ros_python(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A distribution and an interpreter that has its rclpy."""
    python = rclpy_python(request.param)
    if python is None:
        pytest.skip(f"no rclpy: set WASMBED_ROS2_{request.param.upper()} to an interpreter that has it")
    return request.param, python


@pytest.fixture
def ros_codecs(ros_python: tuple[str, Path]) -> CodecFactory:
    """The types of that distribution, with test_msgs read from its definitions on disk."""
    distribution, python = ros_python
    return codecs_of(distribution, python.parents[1] / "share/test_msgs")


@pytest.fixture
def peer(ros_python: tuple[str, Path], domain_id: int) -> Iterator[Peer]:
    """A real node."""
    node = Peer(ros_python[1], domain_id)
    yield node
    node.kill()
