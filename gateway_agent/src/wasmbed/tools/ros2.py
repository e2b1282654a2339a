"""`wasmbed ros2`: looks at ROS 2 from this machine, as `ros2 doctor` does, checks definitions, replays recordings.

The node it looks with is one of its own in its own process, so what it sees is what others see of a gateway.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.rclpy import RclpyInstallation
from wasmbed.bridges.ros2.types import DISTRIBUTIONS, CodecFactory, TypeStore
from wasmbed.bridges.ros2.types.model import Action, Service
from wasmbed.bridges.ros2.types.store import read_packages
from wasmbed.tools import ros2_replay

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

# Where participants look for each other (RTPS 2.2 §9.6.1.4); the port here is any, so as to disturb nobody.
GROUP: Final = "239.255.0.1"
MULTICAST_S: Final = 2.0
RMW_S: Final = 60.0
MAX_OUTPUT: Final = 1 << 16
MAX_CONFIG: Final = 1 << 20
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_POLL_S: Final = 0.1
_RMW_MARK: Final = "rmw is "
_RMW_PROGRAM: Final = (
    "import rclpy; rclpy.init(args=[]); rclpy.create_node('wasmbed_doctor').destroy_node();"
    f" print('\\n{_RMW_MARK}' + rclpy.get_rmw_implementation_identifier())"
)


@dataclass
class Report:
    """What was found, by check."""

    findings: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def found(self, check: str, text: str) -> None:
        self.findings[check] = text

    def problem(self, check: str, text: str) -> None:
        self.problems.append(f"{check}: {text}")

    def show(self) -> None:
        for check, text in self.findings.items():
            print(f"{check}: {text}")
        for text in self.problems:
            print(f"problem: {text}")


def flags_of(interface: str) -> int:
    """The flags of a network interface; raises OSError when it is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", interface.encode()[:15], 0)
        return int(struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1])


def usable(interfaces: Sequence[str]) -> dict[str, int]:
    """Flags of the interfaces that DDS would use: those named, or all that are up but the loopback."""
    if interfaces:
        return {name: flags_of(name) for name in interfaces}
    found = {name: flags_of(name) for _, name in socket.if_nameindex()}
    return {name: flags for name, flags in found.items() if flags & _IFF_UP and not flags & _IFF_LOOPBACK}


def hears_itself(interface: str) -> bool:
    """Whether what is sent to the group over an interface comes back over it; raises OSError."""
    index = socket.if_nametoindex(interface)
    membership = struct.pack("4s4si", socket.inet_aton(GROUP), b"\0" * 4, index)
    word = os.urandom(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(MULTICAST_S)
        receiver.bind((GROUP, 0))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
            sender.sendto(word, (GROUP, receiver.getsockname()[1]))
        try:
            return receiver.recv(64) == word
        except TimeoutError:
            return False


def look_at_network(report: Report, discovery: Discovery) -> None:
    """Check the interfaces, and multicast where participants are found by it."""
    try:
        interfaces = usable(discovery.interfaces)
    except OSError as error:
        known = ", ".join(name for _, name in socket.if_nameindex())
        report.problem("interfaces", f"{', '.join(discovery.interfaces)}: {error}; this machine has {known}")
        return
    if not interfaces:
        report.problem("interfaces", "none is up but the loopback; name one in discovery.interfaces")
    report.found("interfaces", ", ".join(interfaces) or "none")
    for name, flags in interfaces.items():
        if not flags & _IFF_UP:
            report.problem("interfaces", f"{name} is down; bring it up, or name another in discovery.interfaces")
        elif discovery.multicast:
            try:
                heard = hears_itself(name)
            except OSError as error:
                report.problem("multicast", f"{name}: {error}")
                continue
            if heard:
                report.found(f"multicast on {name}", "passes")
            else:
                report.problem(
                    "multicast",
                    f"{name} does not hear its own; allow UDP to {GROUP}, or set discovery.multicast to false "
                    "and discovery.peers to the addresses of the other nodes",
                )


def look_at_domain(
    report: Report, domain: int, discovery: Discovery, distribution: str, nodes: Sequence[str], timeout_s: float
) -> None:
    """Join the domain and wait until the nodes that are expected are seen."""
    try:
        codecs = CodecFactory(TypeStore.of(distribution))
        backend = DdsBackend(
            codecs,
            domain_id=domain,
            node=f"wasmbed_doctor_{os.getpid()}",
            discovery=discovery,
            distribution=distribution,
        )
    except Ros2Error as error:
        report.problem("domain", str(error))
        return
    try:
        deadline = time.monotonic() + timeout_s
        while (missing := set(nodes) - set(backend.graph.nodes())) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        seen = sorted(set(backend.graph.nodes()) - {f"/{backend.node}"})
        report.found(f"nodes in domain {domain}", ", ".join(seen) or "none")
        for name in sorted(missing):
            report.problem(
                "nodes",
                f"{name} is not seen in domain {domain} within {timeout_s:g} s; compare domain, interfaces, multicast "
                "and peers of both sides, and what is between them for UDP ports from "
                f"{7400 + 250 * domain} on",
            )
    finally:
        backend.context.close()


def output_of(command: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> tuple[int, str]:
    """Exit status and output of a command, which is killed after a time or MAX_OUTPUT bytes; raises OSError."""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that children of its own end with it, which would hold its output open
    ) as process:
        assert process.stdout is not None  # noqa: S101

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout_s, kill)
        timer.start()
        try:
            said = process.stdout.read(MAX_OUTPUT)
            if len(said) == MAX_OUTPUT:
                kill()
            return process.wait(), said.decode(errors="replace")
        finally:
            timer.cancel()


def look_at_rclpy(report: Report, installation: RclpyInstallation, domain: int) -> None:
    """Start a node of an installation and see which RMW it runs on."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), **installation.environment}
    command = installation.command("-c", _RMW_PROGRAM)
    try:
        status, said = output_of(command, environment, RMW_S)
    except OSError as error:
        report.problem("rclpy", f"{installation.python}: {error}")
        return
    words = said.strip().splitlines()
    names = [line.removeprefix(_RMW_MARK) for line in words if line.startswith(_RMW_MARK)]
    if status or not names:
        report.problem("rclpy", f"{installation.python} cannot run a node: {words[-1] if words else 'no word'}")
        return
    rmw, wanted = names[-1], installation.environment.get("RMW_IMPLEMENTATION", "")
    report.found("rclpy", f"{installation.python} with {rmw}")
    if wanted and rmw != wanted:
        report.problem("rclpy", f"runs with {rmw}, not with {wanted}; is that RMW installed?")


def check_packages(folders: Sequence[Path], distribution: str) -> list[str]:
    """Read all definitions below folders with all they refer to; their names. The first wrong one raises Ros2Error."""
    store = TypeStore.of(distribution, packages=folders)
    codecs = CodecFactory(store)
    names = sorted({name for folder in folders for name in read_packages(folder)})
    for name in names:
        definition = store.definition(name)
        if isinstance(definition, Service):
            parts = [definition.request.name, definition.response.name]
        elif isinstance(definition, Action):
            parts = [definition.goal.name, definition.result.name, definition.feedback.name]
        else:
            parts = [name]
        for part in parts:
            store.closure(part)
            codecs.codec(part)
    return names


def read_section(path: Path) -> Mapping[str, Any]:
    """The section ros2 of an agent's configuration; raises OSError, yaml.YAMLError, ValueError."""
    with path.open("rb") as source:
        text = source.read(MAX_CONFIG + 1)
    if len(text) > MAX_CONFIG:
        raise ValueError(f"{path}: longer than {MAX_CONFIG} bytes")
    data = yaml.safe_load(text)
    found = data.get("ros2") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no section ros2")
    return found


def _doctor(arguments: argparse.Namespace) -> int:
    report = Report()
    section: Mapping[str, Any] = {}
    if arguments.config is not None:
        try:
            section = read_section(arguments.config)
        except (OSError, yaml.YAMLError, ValueError) as error:
            print(f"problem: configuration: {error}")
            return 1
    found = section.get("discovery", {})
    file = found.get("file")
    discovery = Discovery(
        tuple(arguments.interface or found.get("interfaces", ())),
        bool(found.get("multicast", True)) and not arguments.no_multicast,
        tuple(arguments.peer or found.get("peers", ())),
        file=Path(file) if file else None,
    )
    domain = section.get("domain", 0) if arguments.domain is None else arguments.domain
    distribution = arguments.distribution or section.get("distribution", "jazzy")
    if discovery.file is None:
        look_at_network(report, discovery)
    look_at_domain(report, domain, discovery, distribution, arguments.node, arguments.timeout)
    if rclpy := section.get("rclpy"):
        setup = rclpy.get("setup")
        installation = RclpyInstallation(
            Path(rclpy["python"]), Path(setup) if setup else None, rclpy.get("environment", {})
        )
        look_at_rclpy(report, installation, domain)
    report.show()
    return 1 if report.problems else 0


def _packages(arguments: argparse.Namespace) -> int:
    try:
        names = check_packages(arguments.folder, arguments.distribution)
    except Ros2Error as error:
        print(f"problem: {error}")
        return 1
    print(*names, f"{len(names)} definitions", sep="\n")
    return 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = commands.add_parser("ros2", help="look at ROS 2 from this machine, check packages, replay recordings")
    what = command.add_subparsers(required=True, metavar="WHAT")
    doctor = what.add_parser(
        "doctor",
        help="look at interfaces, multicast, other nodes and rclpy",
        description="Exit code 0: nothing is wrong, 1: something is, each with what helps.",
    )
    doctor.add_argument(
        "--config", type=Path, help="configuration with a section ros2, as /etc/wasmbed/agent.d/ros2.yaml"
    )
    doctor.add_argument("--domain", type=int, help="DDS domain; default: of the configuration, or 0")
    doctor.add_argument("--distribution", choices=DISTRIBUTIONS, help="default: of the configuration, or jazzy")
    doctor.add_argument("--interface", action="append", metavar="NAME", help="a network interface to use; repeatable")
    doctor.add_argument("--peer", action="append", metavar="ADDRESS", help="where to look for nodes; repeatable")
    doctor.add_argument("--no-multicast", action="store_true", help="find nodes at the peers alone")
    doctor.add_argument("--node", action="append", default=[], metavar="/NAME", help="a node that must be seen")
    doctor.add_argument(
        "--timeout", type=float, default=20.0, metavar="S", help="how long to wait for those; default: 20"
    )
    doctor.set_defaults(action=_doctor)
    packages = what.add_parser("packages", help="read .msg, .srv, .action and .idl files and all they refer to")
    packages.add_argument("folder", type=Path, nargs="+")
    packages.add_argument("--distribution", choices=DISTRIBUTIONS, default="jazzy", help="default: jazzy")
    packages.set_defaults(action=_packages)
    ros2_replay.add_parser(what)
