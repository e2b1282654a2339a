"""`wasmbed ros2 replay`: publishes a recording again, in its own time or faster or slower."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2 import Node, qos
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.replay import replay
from wasmbed.bridges.ros2.types import DISTRIBUTIONS, PX4_RELEASES, CodecFactory, TypeStore

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRESS_S: Final = 1.0


class Progress:
    """A line a second on standard error: how far the recording is, and how many messages were published."""

    def __init__(self) -> None:
        self.counts: Mapping[str, int] = {}
        self._told = time.monotonic()

    def __call__(self, seconds: float, counts: Mapping[str, int]) -> None:
        self.counts = counts
        if (now := time.monotonic()) - self._told >= PROGRESS_S:
            self._told = now
            print(f"{seconds:.1f} s of the recording, {sum(counts.values())} messages", file=sys.stderr, flush=True)


def _replay(arguments: argparse.Namespace) -> int:
    progress, status = Progress(), 0
    try:
        codecs = CodecFactory(TypeStore.of(arguments.distribution, arguments.px4_release, arguments.package))
        backend = DdsBackend(
            codecs,
            domain_id=arguments.domain,
            node="wasmbed_replay",
            discovery=Discovery(tuple(arguments.interface), not arguments.no_multicast, tuple(arguments.peer)),
            distribution=arguments.distribution,
        )
        try:
            replay(
                arguments.folder,
                Node(backend, codecs, name="wasmbed_replay"),
                qos.profile(arguments.qos) if arguments.qos is not None else None,
                rate=arguments.rate,
                topics=arguments.topic,
                wait_s=arguments.wait,
                tell=progress,
            )
        finally:
            backend.context.close()
    except Ros2Error as error:
        print(f"problem: {error}")
        status = 1
    except KeyboardInterrupt:
        status = 130
    for topic, count in sorted(progress.counts.items()):
        print(f"{topic}: {count} messages")
    if not status and not progress.counts:
        print(f"problem: {arguments.folder}: no message of {', '.join(arguments.topic) or 'any topic'}")
        status = 1
    return status


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1000000")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 3600")
    return value


def add_parser(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command below `ros2`."""
    command = what.add_parser(
        "replay",
        help="publish a recording of MCAP files again",
        description="Publishes from a node of its own on DDS and ends with the recording, or with Ctrl-C. Exit code 0: "
        "something was published, 1: nothing was, or not all.",
    )
    command.add_argument("folder", type=Path, help="the folder of a recording, or one .mcap file")
    command.add_argument("--domain", type=int, default=0, help="DDS domain; default: 0")
    command.add_argument("--rate", type=_above_zero, default=1.0, help="2 is twice as fast; default: 1")
    command.add_argument(
        "--topic", action="append", default=[], metavar="PATTERN", help="topics, as /drone1/*; repeatable; default: all"
    )
    command.add_argument(
        "--qos", choices=qos.PROFILES, help="of all publishers; default: what each topic was recorded with"
    )
    command.add_argument(
        "--wait",
        type=_not_negative,
        default=1.0,
        metavar="S",
        help="how long the first message of a topic waits for a subscriber; default: 1",
    )
    command.add_argument("--distribution", choices=DISTRIBUTIONS, default="jazzy", help="default: jazzy")
    command.add_argument("--px4-release", choices=PX4_RELEASES, help="whose px4_msgs are known")
    command.add_argument(
        "--package", action="append", default=[], type=Path, metavar="FOLDER", help="definitions of yours; repeatable"
    )
    command.add_argument("--interface", action="append", default=[], metavar="NAME", help="to use; repeatable")
    command.add_argument("--peer", action="append", default=[], metavar="ADDRESS", help="of nodes; repeatable")
    command.add_argument("--no-multicast", action="store_true", help="find nodes at the peers alone")
    command.set_defaults(action=_replay)
