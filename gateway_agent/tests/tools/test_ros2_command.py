"""`wasmbed ros2`: what it sees from a process of its own, and what it says of what is wrong."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore
from wasmbed.tools.ros2 import hears_itself

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count(os.getpid() * 3)


def command(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "wasmbed.tools.main", "ros2", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def domain_id() -> int:
    """A domain whose first ports are free."""
    while True:
        number = 100 + next(_numbers) % 130
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("", 7400 + 250 * number))
        except OSError:
            continue
        return number


@pytest.fixture
def node(domain_id: int) -> Iterator[str]:
    """A node that is there."""
    codecs = CodecFactory(TypeStore.of("jazzy"))
    backend = DdsBackend(codecs, domain_id=domain_id, node="drone", namespace="/a", discovery=Discovery(("lo",)))
    yield "/a/drone"
    backend.context.close()


def test_doctor_sees_a_node_of_another_process(node: str, domain_id: int) -> None:
    status, said = command(
        *("doctor", "--domain", str(domain_id), "--interface", "lo", "--node", node, "--timeout", "120")
    )
    assert status == 0, said
    assert f"nodes in domain {domain_id}: /a/drone" in said
    assert ("multicast on lo: passes" in said) == hears_itself("lo")


def test_doctor_says_what_is_wrong(domain_id: int, tmp_path: Path) -> None:
    configuration = tmp_path / "ros2.yaml"
    configuration.write_text(
        f"ros2: {{domain: {domain_id}, discovery: {{interfaces: [none7]}}, rclpy: {{python: /bin/false}}}}\n"
    )
    status, said = command("doctor", "--config", str(configuration))
    assert status == 1
    assert "problem: interfaces: none7: " in said
    assert "this machine has lo" in said
    assert "problem: rclpy: /bin/false cannot run a node" in said
    status, said = command(
        *("doctor", "--domain", str(domain_id), "--interface", "lo", "--node", "/gone", "--timeout", "0.5")
    )
    assert status == 1
    assert f"problem: nodes: /gone is not seen in domain {domain_id} within 0.5 s" in said
    (tmp_path / "other.yaml").write_text("- nothing\n")
    status, said = command("doctor", "--config", str(tmp_path / "other.yaml"))
    assert (status, "no section ros2" in said) == (1, True)


def test_packages_are_read_with_all_they_refer_to(tmp_path: Path) -> None:
    (tmp_path / "pkg/msg").mkdir(parents=True)
    (tmp_path / "pkg/msg/Good.msg").write_text("std_msgs/Header header\n")
    assert command("packages", str(tmp_path)) == (0, "1 definitions\n")
    (tmp_path / "pkg/srv").mkdir()
    (tmp_path / "pkg/srv/Bad.srv").write_text("---\nNothing thing\n")
    status, said = command("packages", str(tmp_path))
    assert (status, "problem: pkg/msg/Nothing" in said) == (1, True)
