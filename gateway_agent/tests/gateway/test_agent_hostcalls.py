"""Applications with all that is real behind them: kube-apiserver, agent, runtime, DDS, an HTTPS server, files."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gateway_site import Site, eventually
from ros2_support import LOOPBACK, domain
from runtime_support import application, timer
from secure_cloud import Cloud, make_pki
from wasmbed.bridges.ros2 import Node, qos
from wasmbed.bridges.ros2.dds import DdsBackend
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore
from wasmbed.runtime.sealing import DOWN, application_key, seal, unseal

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

IMU = "sensor_msgs/msg/Imu"
STRING = "std_msgs/msg/String"
STORM_BYTES = 450_000_000
MOST_GROWN_BYTES = 96 << 20
SITE_KEY = bytes(range(32))
GRANTS = ["wasmbed:sys", "wasmbed:ros2", "wasmbed:secure", "wasmbed:sensor"]
_names = itertools.count(1)

# Of a serialized Imu with an empty frame_id: behind the event's header, linear_acceleration.z.
Z_AT = 24 + 4 + 232
WATCH = application(
    """(data (i32.const 0) "imu") (data (i32.const 8) "alarm") (data (i32.const 16) "{\\22data\\22: \\22shaken\\22}")
       (data (i32.const 48) "imu seen")""",
    uses=("ros2.open", "ros2.publish", "sys.event_read", "sys.log"),
    init="""(if (call $ros2.open (i32.const 0) (i32.const 3)) (then (return (i32.const 1))))
            (if (i32.ne (call $ros2.open (i32.const 8) (i32.const 5)) (i32.const 1)) (then (return (i32.const 2))))""",
    event=f"""(if (i32.and (i32.eq (local.get $type) (i32.const 5)) (i32.eqz (local.get $source))) (then
        (drop (call $sys.event_read (i32.const {Z_AT}) (i32.const 1024) (i32.const 8)))
        (call $sys.log (i32.const 2) (i32.const 48) (i32.const 8))
        (if (f64.gt (f64.load (i32.const 1024)) (f64.const 20)) (then
          (drop (call $ros2.publish (i32.const 1) (i32.const 16) (i32.const 18)))))))""",
)
# Takes some 5 ms for a message.
SLOW = application(
    """(data (i32.const 0) "fast")""",
    uses=("ros2.open",),
    init="(drop (call $ros2.open (i32.const 0) (i32.const 4)))",
    event="""(local.set $n (i32.const 3000000))
        (loop $spin (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $spin (local.get $n)))""",
)
# Sends a reading once the link is up, logs the result and what the cloud says.
SEALER = application(
    """(data (i32.const 0) "reading 7") (data (i32.const 16) "sent ok") (data (i32.const 32) "cloud said ")""",
    uses=("secure.send", "sys.timer_set", "sys.event_read", "sys.log"),
    init=timer(200),
    event="""
      (if (i32.eq (local.get $type) (i32.const 1)) (then
        (if (i32.gt_s (call $secure.send (i32.const 0) (i32.const 9)) (i32.const 0)) (then
          (drop (call $sys.timer_set (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (if (i32.eq (local.get $type) (i32.const 6)) (then
        (drop (call $sys.event_read (i32.const 0) (i32.const 1024) (i32.const 4)))
        (if (i32.eqz (i32.load (i32.const 1024))) (then (call $sys.log (i32.const 2) (i32.const 16) (i32.const 7))))))
      (if (i32.eq (local.get $type) (i32.const 7)) (then
        (local.set $n (call $sys.event_read (i32.const 0) (i32.const 43) (i32.const 100)))
        (call $sys.log (i32.const 2) (i32.const 32) (i32.add (i32.const 11) (local.get $n)))))""",
)
# Logs the first letter of each sensor's name, and a line for every sample above 30.
SENSES = application(
    """(data (i32.const 0) "hot") (data (i32.const 8) "cool")""",
    uses=("sensor.count", "sensor.subscribe", "sys.timer_set", "sys.event_read", "sys.log"),
    init=timer(100),
    event="""
      (if (i32.eq (local.get $type) (i32.const 1)) (then
        (if (i32.eqz (call $sensor.subscribe (i32.const 0) (i32.const 100))) (then
          (drop (call $sys.timer_set (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (if (i32.eq (local.get $type) (i32.const 4)) (then
        (drop (call $sys.event_read (i32.const 24) (i32.const 1024) (i32.const 4)))
        (if (f32.gt (f32.load (i32.const 1024)) (f32.const 30))
          (then (call $sys.log (i32.const 2) (i32.const 0) (i32.const 3)))
          (else (call $sys.log (i32.const 2) (i32.const 8) (i32.const 4))))))""",
)


@pytest.fixture(scope="module")
def codecs() -> CodecFactory:
    return CodecFactory(TypeStore.of("jazzy"))


@pytest.fixture(scope="module")
def new_host(cluster: Cluster, registry: Registry, module_cache: Path) -> Iterator[Callable[..., Site]]:
    """Makes gateways with sections of their configuration; they end with the module."""
    sites: list[Site] = []

    def make(**sections: Any) -> Site:
        site = Site(cluster, registry, module_cache, f"h{next(_names)}")
        sites.append(site)
        site.write_config(**sections)
        site.start()
        return site

    yield make
    for site in sites:
        site.close()


@contextlib.contextmanager
def other_node(codecs: CodecFactory, domain_id: int) -> Iterator[Node]:
    """A node of somebody else."""
    backend = DdsBackend(codecs, domain_id=domain_id, node="other", discovery=LOOPBACK)
    try:
        yield Node(backend, codecs, name="other")
    finally:
        backend.context.close()


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if str(pid) in (fields["Pid"].strip(), fields["PPid"].strip()):
                total += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    return total


def ros2_section(domain_id: int, **changes: Any) -> dict[str, Any]:
    policy = {"subscribe": ["/drone_7/*", "/fast"], "publish": ["/drone_7/*"]}
    return {"domain": domain_id, "discovery": {"interfaces": ["lo"]}, "policy": policy, **changes}


def with_sensor(name: str = "drone-7") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "class": "gateway",
            "capabilities": ["sensor-heat"],
        }
    ]


ROUTES = {
    "topics": [
        {
            "topic": "/{device}/imu",
            "name": "imu",
            "type": "sensor_msgs/Imu",
            "direction": "subscribe",
            "encoding": "cdr",
        }
        | {"qos": {"profile": "sensor_data"}},
        {"topic": "/{device}/alarm", "name": "alarm", "type": "std_msgs/String", "direction": "publish"}
        | {"encoding": "json"},
    ]
}


def test_application_watches_an_imu_and_raises_an_alarm(new_host: Callable[..., Site], codecs: CodecFactory) -> None:
    number = domain()
    site = new_host(ros2=ros2_section(number))
    digest = site.push("watch", WATCH)
    site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=ROUTES)
    site.wait_state("watch", "Running")
    alarms: list[str] = []
    with other_node(codecs, number) as other:
        other.subscription("/drone_7/alarm", STRING, lambda message: alarms.append(message.data))
        publisher = other.publisher("/drone_7/imu", IMU, qos.SENSOR_DATA)
        message: Any = codecs.cls(IMU)()

        def shaken(z: float) -> bool:
            message.linear_acceleration.z = z
            publisher.publish(message)
            time.sleep(0.02)
            return bool(alarms)

        site.new_lines()
        eventually(lambda: shaken(9.81) or any(line.text == "imu seen" for line in site.new_lines()), "an Imu")
        assert alarms == []
        eventually(lambda: shaken(35.0), "an alarm")
        assert set(alarms) == {"shaken"}
        assert site.metric('wasmbed_ros2_route_messages_total{application="default/watch"') > 0
        assert site.metric('wasmbed_host_calls_total{module="ros2",op="publish",result="ok"}') > 0
        # The agent is started again; the application goes on with what it had open.
        assert site.agent is not None
        site.agent.stop()
        alarms.clear()
        site.start_agent()
        site.agent.wait_ready(lambda: site.readyz()[0] == 200)
        eventually(lambda: shaken(35.0), "an alarm after the restart")
        assert site.wait_state("watch", "Running")["restarts"] == 0


def test_wrong_route_is_told_with_its_field_and_a_right_one_cures_it(new_host: Callable[..., Site]) -> None:
    site = new_host(ros2=ros2_section(domain()))
    digest = site.push("watch", WATCH)
    routes = json.loads(json.dumps(ROUTES))
    routes["topics"][0]["type"] = "sensor_msgs/Imo"
    site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=routes)
    state = site.wait_state("watch", "Failed")
    assert "communication.ros2.topics[0].type" in state["message"]
    routes["topics"][0] |= {"type": "sensor_msgs/Imu", "topic": "/other/imu"}
    site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=routes)
    eventually(
        lambda: "topics[0].topic: /other/imu: the gateway's policy" in site.device_state("watch").get("message", ""),
        "the refusal of the policy",
    )
    site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=ROUTES)
    site.wait_state("watch", "Running")


def test_changed_route_is_an_update_that_moves_the_subscription(
    new_host: Callable[..., Site], codecs: CodecFactory
) -> None:
    number = domain()
    site = new_host(ros2=ros2_section(number))
    digest = site.push("watch", WATCH)
    site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=ROUTES)
    site.wait_state("watch", "Running")
    with other_node(codecs, number) as other:
        before = other.publisher("/drone_7/imu", IMU, qos.SENSOR_DATA)
        after = other.publisher("/drone_7/imu2", IMU, qos.SENSOR_DATA)
        eventually(lambda: before.statistics.matched == 1, "the first subscription")
        routes = json.loads(json.dumps(ROUTES))
        routes["topics"][0]["topic"] = "/{device}/imu2"
        site.place("watch", digest, device="drone-7", grants=GRANTS, ros2=routes)
        eventually(lambda: (before.statistics.matched, after.statistics.matched) == (0, 1), "the second subscription")
        site.new_lines()
        message: Any = codecs.cls(IMU)()

        def heard() -> bool:
            after.publish(message)
            time.sleep(0.02)
            return any(line.text == "imu seen" for line in site.new_lines())

        eventually(heard, "an Imu on the second topic")
        site.wait_state("watch", "Running")


def test_routes_of_the_gateway_are_for_the_applications_they_name(
    new_host: Callable[..., Site], codecs: CodecFactory
) -> None:
    """The application finds them by name like its own, of which one wins; the policy counts for both."""
    number = domain()
    secret = {"topic": "/secret", "name": "secret", "type": "std_msgs/String", "direction": "publish"}
    configured = [{"applications": ["default/watch*"], **ROUTES}, {"applications": ["*/spy"], "topics": [secret]}]
    site = new_host(ros2=ros2_section(number, routes=configured))
    digest = site.push("watch", WATCH)
    own = json.loads(json.dumps(ROUTES["topics"][0])) | {"topic": "/{device}/imu2"}
    site.place("watch", digest, device="drone-7", grants=GRANTS)
    site.place("watch-own", digest, device="drone-7", grants=GRANTS, ros2={"topics": [own]})
    site.place("other", digest, device="drone-7", grants=GRANTS)
    site.place("watch-not", digest, device="drone-7", grants=["wasmbed:sys"])
    site.place("spy", digest, device="drone-7", grants=GRANTS)
    site.wait_state("watch", "Running")
    site.wait_state("watch-own", "Running")
    site.wait_state("other", "Failed")
    site.wait_state("watch-not", "Failed")
    refusal = "ros2.routes of the gateway's configuration, topics secret.topic: /secret: the gateway's policy.publish"
    assert refusal in site.wait_state("spy", "Failed")["message"]
    alarms: list[str] = []
    with other_node(codecs, number) as other:
        other.subscription("/drone_7/alarm", STRING, lambda message: alarms.append(message.data))
        publishers = [other.publisher(f"/drone_7/{name}", IMU, qos.SENSOR_DATA) for name in ("imu", "imu2")]
        eventually(lambda: [it.statistics.matched for it in publishers] == [1, 1], "a subscription of each")
        message: Any = codecs.cls(IMU)()
        message.linear_acceleration.z = 35.0

        def shaken() -> bool:
            publishers[0].publish(message)
            time.sleep(0.02)
            return bool(alarms)

        eventually(shaken, "an alarm")
        assert set(alarms) == {"shaken"}


def test_slow_application_at_10000_messages_a_second_costs_bounded_memory_and_counted_drops(
    new_host: Callable[..., Site], codecs: CodecFactory
) -> None:
    number = domain()
    site = new_host(ros2=ros2_section(number))
    digest = site.push("slow", SLOW)
    fast = {"topic": "/fast", "name": "fast", "type": "std_msgs/String", "direction": "subscribe"}
    routes = {"topics": [fast | {"qos": {"profile": "sensor_data"}}]}
    site.place("slow", digest, device="drone-7", grants=GRANTS, ros2=routes)
    site.wait_state("slow", "Running")
    assert site.agent is not None
    assert site.runtime is not None
    processes = (site.agent.pid, site.runtime.pid)
    labels = 'application="default/slow",device="default/drone-7"'
    sent, most = 0, 0
    with other_node(codecs, number) as other:
        publisher = other.publisher("/fast", STRING, qos.SENSOR_DATA)
        eventually(lambda: publisher.statistics.matched, "the subscription")
        data = codecs.codec(STRING).dumps(codecs.cls(STRING)("x" * 4096))
        before = [rss_bytes(pid) for pid in processes]
        began = time.monotonic()
        while sent * len(data) < STORM_BYTES and (passed := time.monotonic() - began) < 40:
            for _ in range(min(500, int(passed * 10_000) - sent)):
                publisher.raw.publish(data)
                sent += 1
            most = max(most, *(rss_bytes(pid) - rss for pid, rss in zip(processes, before, strict=True)))
            time.sleep(0.001)
        rate = sent / (time.monotonic() - began)
    received = site.metric(f'wasmbed_ros2_route_messages_total{{{labels},fate="received"')
    # Beside others publisher and bridge each get less.
    assert rate > 8_000 / busy() ** 2, rate
    # A queue without a bound would have grown by far more than this.
    assert received * len(data) > 3 * MOST_GROWN_BYTES
    assert most < MOST_GROWN_BYTES

    def dropped() -> float:
        """At the route, which holds messages back for a slow reader, and at the queues behind it."""
        return (
            site.metric(f'wasmbed_ros2_route_messages_total{{{labels},fate="dropped"')
            + site.metric('wasmbed_runtime_events_dropped_total{type="ROS2"}')
            + site.metric("wasmbed_host_events_dropped_total")
        )

    eventually(lambda: dropped() > 100, "counted drops")
    # The agent's loop was never held up for long, and the application never failed.
    assert site.readyz()[0] == 200
    assert site.device_state("slow")["state"] == "Running"


def test_sealed_messages_go_to_the_cloud_and_come_back(
    new_host: Callable[..., Site], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pki = tmp_path_factory.mktemp("cloud")
    make_pki(pki)
    cloud = Cloud(pki)
    cloud.start()
    key_file = tmp_path / "key"
    key_file.write_bytes(base64.b64encode(SITE_KEY))
    key_file.chmod(0o600)
    uplink = {"url": f"https://127.0.0.1:{cloud.port}/", "ca_file": str(pki / "ca.crt"), "poll_s": 0.2}
    uplink |= {"certificate": str(pki / "client.crt"), "key": str(pki / "client.key"), "max_retry_s": 0.5}
    try:
        site = new_host(secure={"key_file": str(key_file), "uplink": uplink})
        site.place("sealer", site.push("sealer", SEALER), device="drone-7", grants=GRANTS)
        site.new_lines()
        site.wait_state("sealer", "Running")
        eventually(lambda: cloud.messages, "a message in the cloud")
        (row,) = cloud.messages.values()
        key = application_key(SITE_KEY, "default/sealer", "uid-sealer")
        envelope = unseal(key, base64.b64decode(row["envelope"]))
        assert (envelope.content, envelope.device) == (b"reading 7", "default/drone-7")
        eventually(lambda: any(line.text == "sent ok" for line in site.new_lines()), "the result")
        answer = seal(key, "default/sealer", "default/drone-7", DOWN, 1, b"land now")
        cloud.send_down("order", "default/sealer", "default/drone-7", answer)
        eventually(lambda: any(line.text == "cloud said land now" for line in site.new_lines()), "the answer")
        eventually(lambda: cloud.received.get("order") == "delivered", "the receipt")
        assert key_file.read_text() not in site.log.read_text()
    finally:
        cloud.stop()


def test_sensor_of_a_file_reaches_an_application(new_host: Callable[..., Site], tmp_path: Path) -> None:
    value = tmp_path / "temperature"
    value.write_text("21.0\n")
    sensor = {"name": "heat", "kind": "temperature", "provider": "file", "paths": [str(value)], "interval_ms": 50}
    site = new_host(sensors=[sensor | {"capability": "sensor-heat", "devices": ["default/drone-*"]}])
    site.place("senses", site.push("senses", SENSES), devices=with_sensor(), grants=GRANTS)
    assert site.wait_line("senses").text == "cool"
    value.write_text("44.0\n")
    site.wait_line("senses", "hot")
    assert site.metric('wasmbed_sensor_samples_total{sensor="heat"}') >= 2


def test_agent_without_sections_has_every_module_unavailable_and_applications_run(
    new_host: Callable[..., Site],
) -> None:
    """An application with routes runs on a gateway without ROS 2; opening one is UNAVAILABLE."""
    code = application(
        """(data (i32.const 0) "imu") (data (i32.const 8) "unavailable")""",
        uses=("ros2.open", "sys.log"),
        init="""(if (i32.eq (call $ros2.open (i32.const 0) (i32.const 3)) (i32.const -19)) (then
            (call $sys.log (i32.const 2) (i32.const 8) (i32.const 11))))""",
    )
    site = new_host()
    site.new_lines()
    site.place("bare", site.push("bare", code), device="drone-7", grants=GRANTS, ros2=ROUTES)
    site.wait_state("bare", "Running")
    eventually(lambda: any(line.text == "unavailable" for line in site.new_lines()), "the line")
