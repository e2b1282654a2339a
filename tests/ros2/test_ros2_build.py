"""The role ros2 builds packages with colcon, against the wheels of Jazzy as an installation that is there already.

`scripts/with-ros2 --build` makes that installation; the tasks of the role run on this machine, in folders of the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ros2_host import other_node
from ros2_support import Peer, domain, rclpy_environment, until
from wasmbed.bridges.ros2 import parse_routes, qos, start
from wasmbed.gateway.config import AgentConfig
from wasmbed.service.config import load_config

ROOT = Path(__file__).resolve().parents[2]
INSTALLATION = os.environ.get("WASMBED_ROS2_BUILD")
pytestmark = [
    pytest.mark.skipif(INSTALLATION is None, reason="nothing to build with: run it by scripts/with-ros2 --build"),
    pytest.mark.skipif(os.geteuid() != 0, reason="what the role writes belongs to root"),
]
GRIPPER, GRIP, JOINT = "arm_msgs/msg/Gripper", "arm_msgs/srv/Grip", "joint_msgs/msg/Joint"
MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>0.1.0</version>
  <description>Interfaces of a test</description>
  <maintainer email="nobody@example.com">Wasmbed contributors</maintainer>
  <license>MIT</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  {depends}
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
CMAKE = """cmake_minimum_required(VERSION 3.8)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{finds}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES {names})
ament_package()
"""


def write_package(workspace: Path, name: str, depends: tuple[str, ...] = (), **definitions: str) -> Path:
    """An interface package; a definition's name is Name_msg or Name_srv."""
    folder = workspace / "src" / name
    files = []
    for file, text in definitions.items():
        stem, kind = file.split("_")
        path = folder / kind / f"{stem}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files.append(f"{kind}/{path.name}")
    elements = "".join(f"<depend>{item}</depend>" for item in depends)
    (folder / "package.xml").write_text(MANIFEST.format(name=name, depends=elements))
    finds = "\n".join(f"find_package({item} REQUIRED)" for item in depends)
    (folder / "CMakeLists.txt").write_text(
        CMAKE.format(name=name, finds=finds, files=" ".join(files), names=" ".join(depends))
    )
    return folder


@dataclass
class Gateway:
    """This machine as a host of the role, with folders of its own for what the role brings."""

    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    def built(self) -> list[Path]:
        return sorted(self.packages.glob("*"))

    def run(self, *arguments: str, parts: tuple[str, ...] = ("preflight", "install", "packages", "clean")) -> Run:
        """Run parts of the role, and write the agent's configuration as the role does."""
        tasks: list[dict[str, Any]] = [
            {"ansible.builtin.include_role": {"name": "wasmbed.edge.ros2", "tasks_from": part, "public": True}}
            for part in parts
        ]
        configuration = {"content": "{{ lookup('ansible.builtin.template', 'ros2.yaml.j2') }}", "mode": "0600"}
        tasks.append({"ansible.builtin.copy": configuration | {"dest": str(self.folder / "agent.d/ros2.yaml")}})
        play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
        (self.folder / "play.yml").write_text(json.dumps([play]))
        extra = self.folder / "extra.json"
        extra.write_text(json.dumps(self.variables | {"__ros2_packages_root": str(self.packages)}))
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                *("-i", "localhost,", "-c", "local", "-e", f"@{extra}", *arguments, self.folder / "play.yml"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
            cwd=ROOT,
            umask=0o077,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
        )
        return Run(done.returncode, done.stdout)


@dataclass(frozen=True)
class Run:
    """What ansible-playbook ended with."""

    status: int
    output: str

    @property
    def said(self) -> str:
        return " ".join(self.output.split())

    @property
    def changed(self) -> int:
        return int(self.output.rpartition("changed=")[2].split()[0])


def gateway(folder: Path) -> Gateway:
    """A gateway whose workspace is yet empty."""
    assert INSTALLATION
    for name in ("workspace", "agent.d"):
        (folder / name).mkdir()
    (folder / "templates").symlink_to(ROOT / "roles/ros2/templates")
    (folder / "agent.yaml").write_text(json.dumps({"gateway": "gw", "kubeconfig": "/none"}))
    environment = rclpy_environment(0)
    del environment["ROS_DOMAIN_ID"]
    return Gateway(
        folder,
        {
            "ros2_source": "existing",
            "ros2_backend": "rclpy",
            "ros2_setup": f"{INSTALLATION}/setup.bash",
            "ros2_python": f"{INSTALLATION}/bin/python",
            "ros2_environment_path": sys.prefix,
            "ros2_workspace": str(folder / "workspace"),
            "ros2_environment": environment,
            "ros2_interfaces": ["lo"],
            "ros2_domain": domain(),
            "ros2_policy": {key: ["/*"] for key in ("subscribe", "publish", "call", "serve")},
        },
    )


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """A gateway with two packages of which one needs the other, built."""
    found = gateway(tmp_path_factory.mktemp("arm"))
    workspace = found.folder / "workspace"
    write_package(
        workspace,
        "arm_msgs",
        ("joint_msgs", "std_msgs"),
        Gripper_msg="std_msgs/Header header\njoint_msgs/Joint[<=4] joints\nfloat64 force 1.5\nstring<=16 name\n",
        Grip_srv="float64 force\n---\nfloat64 force\n",
    )
    write_package(workspace, "joint_msgs", Joint_msg="float32 angle\nuint8[] raw\n")
    run = found.run()
    assert (run.status, run.changed > 0) == (0, True), run.output
    return found


async def test_application_and_ros_node_speak_types_built_by_the_role(arm: Gateway) -> None:
    """Topics and services both ways, by the configuration that the role wrote; beside them a node of ours on DDS."""
    (folder,) = arm.built()
    section = load_config(arm.folder / "agent.yaml", AgentConfig, parts=arm.folder / "agent.d").ros2
    assert section is not None
    config = section.bridge("gw")
    assert config.rclpy is not None
    assert config.rclpy.setup == folder / "install/setup.bash"
    home = {"HOME": str(arm.folder), "ROS_LOG_DIR": str(arm.folder / "log")}
    config = replace(config, rclpy=replace(config.rclpy, environment={**config.rclpy.environment, **home}))
    python = arm.folder / "python"
    python.write_text(f'#!/bin/bash\n. {folder}/install/setup.bash\nexec {arm.variables["ros2_python"]} "$@"\n')
    python.chmod(0o755)
    declared = {
        "topics": [
            {"topic": "/to", "type": GRIPPER, "direction": "publish", "qos": "latched", "encoding": "json"},
            {"topic": "/back", "type": GRIPPER, "direction": "subscribe", "qos": "latched", "encoding": "json"},
        ],
        "services": [
            {"service": "/theirs", "type": GRIP, "direction": "call", "timeoutSeconds": 20, "encoding": "json"},
            {"service": "/ours", "type": GRIP, "direction": "serve", "timeoutSeconds": 20, "encoding": "json"},
        ],
    }
    sent = {"joints": [{"angle": 0.5, "raw": "AQI="}], "force": 2.5, "name": "left"}
    heard: list[Any] = []
    peer = Peer(python, section.domain)
    try:
        await peer.run("echo", source="/to", target="/back", type_name=GRIPPER, transient_local=True)
        await peer.run("serve", service="/theirs", type_name=GRIP)
        async with start(config, section.domain) as bridge, other_node(config.codecs(), section.domain) as other:
            assert bridge.node.backend.name == "rclpy"
            other.subscription("/back", GRIPPER, heard.append, qos.LATCHED)
            session = bridge.open("app", parse_routes(declared, bridge.node.resolve, bridge.node.codecs))
            session.publish("/to", json.dumps(sent).encode())
            delivery = await until(lambda: session.receive("/back"))
            received = json.loads(delivery.data)
            assert {key: received[key] for key in sent} == sent
            await until(lambda: heard)
            assert (heard[0].name, heard[0].force, bytes(heard[0].joints[0].raw)) == ("left", 2.5, b"\1\2")
            session.call("/theirs", b'{"force": 3.0}')
            delivery = await until(lambda: session.receive("/theirs"))
            assert (delivery.kind, json.loads(delivery.data)) == ("reply", {"force": 3.0})
            call = asyncio.create_task(peer.run("call", service="/ours", type_name=GRIP, values={"force": 4.0}))
            request = await until(lambda: session.receive("/ours"))
            assert json.loads(request.data) == {"force": 4.0}
            session.respond("/ours", request.token, b'{"force": 5.0}')
            assert (await call)["reply"] == {"force": 5.0}
    finally:
        peer.kill()


def test_agent_can_read_what_was_built(arm: Gateway) -> None:
    """It is another user than root, whose umask may be strict."""
    (folder,) = arm.built()
    for path in (folder / "install").rglob("*"):
        assert path.stat().st_mode & 0o004 or "__pycache__" in path.parts, path


def test_second_run_builds_nothing(arm: Gateway) -> None:
    (folder,) = arm.built()
    marks = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for arguments in ((), ("--check",)):
        run = arm.run(*arguments)
        assert (run.status, run.changed) == (0, 0), run.output
    # What Python compiles as it imports is no build.
    found = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {path for path in found if found[path] != marks.get(path)} <= set(folder.rglob("*__pycache__*"))


def test_another_installation_builds_anew(arm: Gateway) -> None:
    """What was built for the one before was kept."""
    (before,) = arm.built()
    setup = arm.folder / "setup.bash"
    setup.write_text(f". {arm.variables['ros2_setup']}\n")
    run = arm.run("--check", "-e", f"ros2_setup={setup}", parts=("packages",))
    assert (run.status, run.changed > 0, arm.built()) == (0, True, [before]), run.output


def test_changed_definition_is_built_again_and_what_was_before_goes_last(arm: Gateway) -> None:
    """The earlier build was removed before the agent had left it."""
    (before,) = arm.built()
    workspace = arm.folder / "workspace/src"
    (workspace / "joint_msgs/msg/Joint.msg").write_text("float32 angle\nuint8[] raw\nint32 turns -3\n")
    shutil.rmtree(workspace / "arm_msgs")
    run = arm.run("--check", parts=("packages", "clean"))
    assert (run.status, run.changed > 0, arm.built()) == (0, True, [before]), run.output
    run = arm.run(parts=("packages",))
    assert (run.status, len(arm.built())) == (0, 2), run.output
    run = arm.run(parts=("packages", "clean"))
    assert run.status == 0, run.output
    (after,) = arm.built()
    assert after != before
    program = (
        "import importlib.util as u; from joint_msgs.msg import Joint; print(Joint().turns, u.find_spec('arm_msgs'))"
    )
    done = subprocess.run(
        [
            "bash",
            "-c",
            '. "$0" && exec "$@"',
            after / "install/setup.bash",
            arm.variables["ros2_python"],
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["-3", "None"]


def break_dependency(package: Path) -> None:
    text = (package / "CMakeLists.txt").read_text()
    (package / "CMakeLists.txt").write_text(
        text.replace("rosidl_gen", "find_package(nothing_msgs REQUIRED)\nrosidl_gen")
    )


def break_manifest(package: Path) -> None:
    (package / "package.xml").write_text("<package>\n<name>joint_msgs</name>\n")


def break_names(package: Path) -> None:
    shutil.copytree(package, package.with_name("copy"))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (break_dependency, "could not build joint_msgs: CMake Error at CMakeLists.txt:6 (find_package): "),
        (break_manifest, "could not build joint_msgs: Error parsing"),
        (break_names, "ERROR:colcon:colcon build: Duplicate package names not supported: - joint_msgs:"),
    ],
)
def test_package_that_cannot_be_built_is_named_with_the_cause(tmp_path: Path, broken: Any, says: str) -> None:
    """There were pages of colcon's output as JSON, and an error code."""
    found = gateway(tmp_path)
    broken(write_package(tmp_path / "workspace", "joint_msgs", Joint_msg="float32 angle\n"))
    run = found.run(parts=("packages",))
    assert run.status != 0
    assert says in run.said
    assert f"All of it is in {found.packages}" in run.said


def test_definition_that_was_not_built_is_named(tmp_path: Path) -> None:
    """It was found when an application opened a route of the type."""
    found = gateway(tmp_path)
    package = write_package(tmp_path / "workspace", "joint_msgs", Joint_msg="float32 angle\n")
    (package / "msg/Left.msg").write_text("float32 angle\n")
    run = found.run(parts=("packages",))
    assert run.status != 0
    assert (
        "cannot use what came of it: joint_msgs/msg/Left: module 'joint_msgs.msg' has no attribute 'Left'" in run.said
    )
    assert "rosidl_generate_interfaces of its package's CMakeLists.txt" in run.said
