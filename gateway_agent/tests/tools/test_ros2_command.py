"""`wasmbed ros2`: what it sees from a process of its own, and what it says of what is wrong."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from wasmbed.bridges.ros2 import Node
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.recording import Recorder
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore
from wasmbed.tools.ros2 import MAX_CONFIG, MAX_OUTPUT, hears_itself, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRING = "std_msgs/msg/String"
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


def test_doctor_waits_neither_for_ever_nor_for_all_that_is_said(tmp_path: Path) -> None:
    began = time.monotonic()
    # Its child holds the output open.
    status, _ = output_of(["sh", "-c", "sleep 300 & sleep 300"], os.environ, 1.0)
    assert status == -signal.SIGKILL
    status, said = output_of(["yes"], os.environ, 200.0)
    assert (status != 0, len(said)) == (True, MAX_OUTPUT)
    assert output_of(["sh", "-c", "echo out; echo err >&2; exit 3"], os.environ, 60.0) == (3, "out\nerr\n")
    assert time.monotonic() - began < 200
    (tmp_path / "long.yaml").write_text("#" * (MAX_CONFIG + 1))
    status, said = command("doctor", "--config", str(tmp_path / "long.yaml"))
    assert (status, f"longer than {MAX_CONFIG} bytes" in said) == (1, True)


@pytest.fixture
def flight(tmp_path: Path) -> Path:
    """A recording of ten strings on each of two topics over 0.9 s."""
    codecs = CodecFactory(TypeStore.of("jazzy"))
    recorder = Recorder(tmp_path, "flight", codecs.store)
    for number in range(10):
        for topic in ("/a/text", "/b/text"):
            data = codecs.codec(STRING).dumps(codecs.cls(STRING)(f"{topic} {number}"))
            assert recorder.record(topic, STRING, data, 10**18 + number * 10**8)
    recorder.close()
    return tmp_path / "flight"


def test_recording_is_replayed_into_another_process(flight: Path, domain_id: int) -> None:
    codecs = CodecFactory(TypeStore.of("jazzy"))
    backend = DdsBackend(codecs, domain_id=domain_id, node="listener", discovery=Discovery(("lo",)))
    heard: list[str] = []
    try:
        node = Node(backend, codecs, name="listener")
        for topic in ("/a/text", "/b/text"):
            node.subscription(topic, STRING, lambda message: heard.append(message.data))
        options = ("--domain", str(domain_id), "--interface", "lo", "--rate", "0.4", "--wait", "120")
        status, said = command("replay", str(flight), *options, "--topic", "/a/*")
        assert (status, "/a/text: 10 messages" in said, "/b/text" in said) == (0, True, False), said
        assert " s of the recording, " in said
        deadline = time.monotonic() + 60
        while len(heard) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert heard == [f"/a/text {number}" for number in range(10)]
    finally:
        backend.context.close()


def test_replay_says_what_is_wrong(flight: Path, domain_id: int, tmp_path: Path) -> None:
    here = ("--domain", str(domain_id), "--interface", "lo", "--wait", "0")
    status, said = command("replay", str(flight), *here, "--topic", "/none")
    assert (status, "no message of /none" in said) == (1, True)
    status, said = command("replay", str(tmp_path), *here)
    assert (status, "has no .mcap file" in said) == (1, True)
    status, said = command("replay", str(flight), *here, "--rate", "0")
    assert (status, "0 is not above 0" in said) == (2, True)
    file = flight / "flight_0.mcap"
    file.write_bytes(file.read_bytes()[:400])
    status, said = command("replay", str(file), *here)
    assert (status, f"problem: recording: {file}" in said) == (1, True)


def test_packages_are_read_with_all_they_refer_to(tmp_path: Path) -> None:
    (tmp_path / "pkg/msg").mkdir(parents=True)
    (tmp_path / "pkg/msg/Good.msg").write_text("std_msgs/Header header\n")
    assert command("packages", str(tmp_path)) == (0, "pkg/msg/Good\n1 definitions\n")
    (tmp_path / "pkg/srv").mkdir()
    (tmp_path / "pkg/srv/Bad.srv").write_text("---\nNothing thing\n")
    status, said = command("packages", str(tmp_path))
    assert (status, "problem: pkg/msg/Nothing" in said) == (1, True)
