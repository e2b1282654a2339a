"""The example surveillance watches a camera of its gateway: a file of real photographs, played as a camera's stream."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from example_frames import HEIGHT, WIDTH, Camera, figure, scene
from gateway_site import Site, device_of, eventually

from tests.support.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

pytestmark = pytest.mark.cluster


def write_stream(path: Path) -> None:
    """Sixty pictures without and forty with a man who walks by; played at 50 pictures a second."""
    camera, man = Camera(scene("field"), seed=8), figure(40)
    with path.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F50:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(100):
            place = (WIDTH * (number - 60) // 40, HEIGHT - man[0].shape[0] - 20)
            picture = camera.picture(man if number >= 60 else None, place)[0]
            stream.write(b"FRAME\n" + picture.tobytes() + b"\x80" * (WIDTH * HEIGHT // 2))


def test_surveillance_sees_what_passes_before_the_gateways_camera(
    cluster: Cluster, registry: Registry, module_cache: Path, tmp_path: Path
) -> None:
    write_stream(tmp_path / "camera.y4m")
    module = tmp_path / "surveillance.wasm"
    subprocess.run([ROOT / "scripts/build-example", ROOT / "examples/surveillance", module], check=True, timeout=120)
    camera = {"name": "eye", "kind": "camera", "provider": "camera", "paths": [str(tmp_path / "camera.y4m")]}
    sensors = [{**camera, "capability": "camera", "interval_ms": 20}]
    site = Site(cluster, registry, module_cache, "camera", settings={"sensors": sensors})
    said: list[str] = []

    def heard(text: str) -> bool:
        said.extend(line.text for line in site.new_lines() if line.application == "default/surveillance")
        return any(text in line for line in said)

    try:
        site.start()
        site.place(
            "surveillance",
            site.push("surveillance", module.read_bytes()),
            devices=[{**device_of("post"), "capabilities": ["camera"]}],
            grants=["wasmbed:ros2", "wasmbed:secure", "wasmbed:sensor", "wasmbed:sys"],
            env=[{"name": "INTERVAL_S", "value": "0"}, {"name": "QUIET_FRAMES", "value": "10"}],
            limits={"memoryBytes": 16 << 20, "stackBytes": 65536, "cpuMillisPerCall": 1000},
        )
        eventually(lambda: heard("alarm: motion at "), "the man is seen", 60)
        eventually(lambda: heard("quiet again"), "he is gone", 60)
        alarm = next(line for line in said if "alarm: motion" in line)
        x, y, width, height = (
            int(word) for word in alarm.rpartition("at ")[2].replace(" of ", ",").replace("x", ",").split(",")
        )
        assert 0 <= x <= WIDTH - width
        assert 0 <= y <= HEIGHT - height
        # The man is 40 by 48 pixels.
        assert 10 <= width <= 70
        assert 25 <= height <= 80
    finally:
        site.close()
