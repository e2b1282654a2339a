"""The other processes of the ROS 2 benchmark: echo, publishers, an rclpy subscription, a storming application."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasmbed.bridges.ros2 import qos
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery, binding
from wasmbed.bridges.ros2.dds.types import DdsTypes
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE = "bench_msgs/msg/Sample"
DEFINITION = {SAMPLE: "uint64 timestamp\nfloat64[7] pose\nfloat32[30] values\n"}
IMU = "sensor_msgs/msg/Imu"
# Publishes a string 1,000 times at a time, in CDR and without a pause in between but for what else waits for it.
STORM = r"""(module
  (import "wasmbed:ros2" "open" (func $open (param i32 i32) (result i32)))
  (import "wasmbed:ros2" "publish" (func $publish (param i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "storm") (data (i32.const 16) "\00\01\00\00\05\00\00\00full\00")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (if (i32.lt_s (call $open (i32.const 0) (i32.const 5)) (i32.const 0)) (then (return (i32.const 1))))
    (call $timer (i32.const 0) (i32.const 10) (i32.const 10)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32) (local $n i32)
    (loop
      (drop (call $publish (i32.const 0) (i32.const 16) (i32.const 13)))
      (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
    (i32.const 0)))"""
LOOPBACK = Discovery(interfaces=("lo",))
RATE_HZ = 1000
# Shorter sleeps cost more than they keep the rate even.
EARLY_S = 0.001
# Of the publisher that floods: before its threads are made, since each has a value of its own.
PUBLISHER_NICE = 19
RCLPY = """
import sys, time, rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Imu
rclpy.init(); node = Node("bench"); times = []
node.create_subscription(Imu, "/flood", lambda _: times.append(time.perf_counter()), QoSProfile(depth=1000))
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
middle = times[len(times) // 10 :]
print(len(middle) / (middle[-1] - middle[0]) if len(middle) > 1 else 0.0, flush=True)
"""


def codecs() -> CodecFactory:
    standard = TypeStore.of("jazzy")
    texts = {name: standard._texts[name] for name in standard.names()}
    return CodecFactory(TypeStore(texts | DEFINITION))


def free_domain() -> int:
    """A domain whose ports nobody uses."""
    for number in range(100 + os.getpid() % 60, 230):
        try:
            for port in range(7400 + 250 * number, 7412 + 250 * number):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return number
    raise RuntimeError("no free domain")


def backend(domain: int, node: str) -> DdsBackend:
    return DdsBackend(codecs(), domain_id=domain, node=node, discovery=LOOPBACK)


def bare(made: DdsBackend, topic: str, name: str) -> tuple[Any, Any]:
    """A writer and a reader of cyclonedds itself."""
    participant = made.context.participant
    data_type = DdsTypes(made.codecs.store).get(name)
    profile = qos.QosProfile(depth=1000)
    return (
        binding.pub.DataWriter(
            participant,
            binding.topic.Topic(participant, topic, data_type),
            binding.endpoint_qos(profile, writer=True),
        ),
        binding.sub.DataReader(
            participant,
            binding.topic.Topic(participant, topic, data_type),
            binding.endpoint_qos(profile, writer=False),
        ),
    )


class Process:
    """This module as a process, in a role."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None  # noqa: S101
        self.process.stdout.readline()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()


def wait(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the other process was not found")
        time.sleep(0.01)


def stamping(callback: Callable[..., Any], taken: dict[int, float]) -> Callable[..., Any]:
    """A subscription's callback, preceded by noting when cyclonedds handed samples over, by the time each carries."""

    def stamped(messages: Any) -> Any:
        now = time.time()
        taken.update((int.from_bytes(data[4:12], "little"), now) for data, _ in messages)
        return callback(messages)

    return stamped


def resident_mib(pid: int | str = "self") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def forever() -> Iterator[None]:
    print("ready", flush=True)
    while True:
        yield


def echo(kind: str, domain: int) -> None:
    """Send back every sample."""
    made = backend(domain, "echo")
    if kind == "ours":
        publisher = made.create_publisher("/pong", SAMPLE, qos.DEFAULT)
        made.create_subscription("/ping", SAMPLE, qos.DEFAULT, lambda data, _: publisher.publish(data) and None)
        for _ in forever():
            time.sleep(1)
    writer, _ = bare(made, "pong", SAMPLE)
    _, reader = bare(made, "ping", SAMPLE)
    condition = binding.core.ReadCondition(reader, binding.ANY_STATE)
    waits = binding.WaitSet(made.context.participant)
    waits.attach(condition, 1)
    for _ in forever():
        waits.wait(1_000_000_000)
        for data, _ in binding._clayer.ddspy_take(reader._ref, binding.ANY_STATE, 8):
            binding._clayer.ddspy_write(writer._ref, data)


def pace(domain: int, topics: int) -> None:
    """Write 1,000 samples a second that carry their time, over all topics in turn."""
    made = backend(domain, "pace")
    codec = made.codecs.codec(SAMPLE)
    message: Any = codec.cls()
    publishers = [made.create_publisher(f"/t{number}", SAMPLE, qos.QosProfile(depth=1000)) for number in range(topics)]
    due = time.monotonic()
    for number, _ in enumerate(forever()):
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        message.timestamp = time.time_ns()
        publishers[number % topics].publish(codec.encode(message))


def flood(domain: int, rate_hz: float) -> None:
    """Write at a rate, or (0) as fast as the readers let; another machine would take no processor of theirs."""
    os.setpriority(os.PRIO_PROCESS, 0, PUBLISHER_NICE)
    made = backend(domain, "flood")
    codec = made.codecs.codec(IMU)
    data = codec.dumps(codec.cls())
    publisher = made.create_publisher("/flood", IMU, qos.QosProfile(depth=1000))
    wait(lambda: publisher.statistics.matched, 30.0)
    due = time.monotonic()
    for _ in forever():
        publisher.publish(data)
        if rate_hz:
            due += 1 / rate_hz
            if (early := due - time.monotonic()) > EARLY_S:
                time.sleep(early)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("echo", "pace", "flood"), required=True)
    parser.add_argument("--kind", default="ours")
    parser.add_argument("--domain", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--topics", type=int, default=1)
    arguments = parser.parse_args()
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # not that of the agent which started it
    if arguments.role == "echo":
        echo(arguments.kind, arguments.domain)
    elif arguments.role == "pace":
        pace(arguments.domain, arguments.topics)
    else:
        flood(arguments.domain, arguments.rate)


if __name__ == "__main__":
    main()
