"""What applications on a device ask of their host: its own sensors, sealed messages kept for the cloud, the link."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from device_site import LinkSite, LinuxDevice, lines_of
from gateway_site import eventually, wat
from link_faults import ThreadedProxy
from secure_cloud import Cloud, make_pki

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

import pytest

GRANTS = ["wasmbed:sys", "wasmbed:secure", "wasmbed:sensor", "wasmbed:ros2"]

# Logs `EVENT t s` for LINK (8, source) and SENSOR (4), and `RESULT s` with s the sign of a result: `0` or `-`.
ASKS = """
(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "event_read" (func $read (param i32 i32 i32) (result i32)))
  (import "wasmbed:sensor" "count" (func $count (result i32)))
  (import "wasmbed:sensor" "subscribe" (func $subscribe (param i32 i32) (result i32)))
  (import "wasmbed:secure" "send" (func $send (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "EVENT LINK  ")
  (data (i32.const 16) "SAMPLE ")
  (data (i32.const 32) "RESULT  ")
  (data (i32.const 48) "SENSORS  ")
  (data (i32.const 64) "the same secret")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (i32.store8 (i32.const 56) (i32.add (i32.const 48) (call $count)))
    (call $log (i32.const 2) (i32.const 48) (i32.const 9))
    (drop (call $subscribe (i32.const 0) (i32.const 500)))
    (call $timer (i32.const 0) (i32.const 500) (i32.const 500)))
  (func (export "wasmbed_event") (param $type i32) (param $source i32) (param i32) (result i32)
    (if (i32.eq (local.get $type) (i32.const 8)) (then
      (i32.store8 (i32.const 11) (i32.add (i32.const 48) (local.get $source)))
      (call $log (i32.const 2) (i32.const 0) (i32.const 12))))
    (if (i32.eq (local.get $type) (i32.const 4)) (then (call $log (i32.const 2) (i32.const 16) (i32.const 6))))
    (if (i32.eq (local.get $type) (i32.const 6)) (then
      (drop (call $read (i32.const 0) (i32.const 128) (i32.const 4)))
      (i32.store8 (i32.const 39) (select (i32.const 45) (i32.const 48)
        (i32.lt_s (i32.load (i32.const 128)) (i32.const 0))))
      (call $log (i32.const 2) (i32.const 32) (i32.const 8))))
    (if (i32.eq (local.get $type) (i32.const 1)) (then (drop (call $send (i32.const 64) (i32.const 15)))))
    (i32.const 0)))
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    make_pki(tmp_path)
    cloud = Cloud(tmp_path)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def secure_site(
    cluster: Cluster, registry: Registry, device_cache: Path, cloud: Cloud, tmp_path: Path
) -> Iterator[LinkSite]:
    site = LinkSite(cluster, registry, device_cache, "sealed")
    key = tmp_path / "site.key"
    key.touch(mode=0o600)
    key.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    site.settings["secure"] = {
        "key_file": str(key),
        "uplink": {
            "url": f"https://127.0.0.1:{cloud.port}/v1",
            "ca_file": str(tmp_path / "ca.crt"),
            "certificate": str(tmp_path / "client.crt"),
            "key": str(tmp_path / "client.key"),
            "poll_s": 1.0,
        },
    }
    site.write_config()
    site.start()
    yield site
    site.close()


def test_sensors_and_sealed_messages_work_without_the_link_and_arrive_once(
    secure_site: LinkSite, cloud: Cloud, tmp_path: Path
) -> None:
    site = secure_site
    value = tmp_path / "value"
    value.write_text("21.5\n")
    proxy = ThreadedProxy(site.link_port)
    device = LinuxDevice(site, "asks", port=proxy.port)
    sensor = {"name": "t", "kind": "temperature", "provider": "file", "paths": [str(value)], "interval_ms": 200}
    device.write_config(sensors=[sensor])
    try:
        device.start()
        device.wait_ready()
        entry = {"name": "asks", "namespace": "default", "uid": "uid-asks", "class": "mpu", "capabilities": ["load"]}
        site.place("asks", site.push("asks", wat(ASKS)), devices=[entry], grants=GRANTS)
        site.wait_state("asks", "Running")

        def said(text: str) -> int:
            return sum(line.text == text for _, line in lines_of(site, "asks"))

        eventually(lambda: said("SENSORS 1") and said("SAMPLE") and said("RESULT 0"), "a sensor and a kept message")
        eventually(lambda: len(cloud.messages), "a message in the cloud")
        proxy.cut()
        site.wait_link("asks", "Disconnected")
        waiting = device.metric('wasmbed_device_spooled_bytes{spool="sealed"}')
        eventually(
            lambda: device.metric('wasmbed_device_spooled_bytes{spool="sealed"}') > waiting + 1000, "sealed messages"
        )
        # The power goes, and with it nothing that an application was told is kept.
        device.kill()
        device.start()
        running = 'wasmbed_device_instances{state="Running"}'
        eventually(lambda: device.readyz()[0] != 0 and device.metric(running) == 1, "its new start")
        before, results = len(cloud.messages), said("RESULT 0")
        proxy.open()
        site.wait_link("asks", "Connected")
        eventually(lambda: device.metric('wasmbed_device_spooled_bytes{spool="sealed"}') < 1000, "an empty spool")
        eventually(lambda: said("EVENT LINK 1") and said("RESULT 0") > results, "the link's event")
        assert said("EVENT LINK 0") >= 1
        assert said("RESULT -") == 0
        eventually(lambda: len(cloud.messages) > before + 5, "what was kept, in the cloud")
        envelopes = [str(message) for message in cloud.messages.values()]
        assert len(envelopes) == len(set(envelopes))
        # An entry is counted when it has been kept, and may be in the cloud by then.
        entries = 'wasmbed_agent_link_entries_total{spool="sealed"}'
        eventually(lambda: site.metric(entries) >= len(envelopes), "all of them counted as entries of the link")
    finally:
        device.close()
        proxy.cut()
