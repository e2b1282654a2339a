"""Sensors: sysfs as the kernel lays it out, files, films in YUV4MPEG2, autopilots; and what happens when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from film import y4m
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from wasmbed.hostcalls import Dispatcher, HostCallMetrics, HostInstance, Status
from wasmbed.runtime import HostRequest
from wasmbed.runtime.abi import SAMPLE, EventType, SampleFormat, SensorKind
from wasmbed.sensors import Reading, SensorBackend, SensorConfig, sample
from wasmbed.sensors import feed as feeds
from wasmbed.sensors.providers import number, provider_of
from wasmbed.sensors.sample import SensorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from wasmbed.runtime import Delivery, Provision, Secret

DEVICE = "default/one"


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition of another thread
            await asyncio.sleep(0.005)


@dataclass
class Runtime:
    """What the runtime would get."""

    backlog_bytes: int = 0
    events: list[Delivery] = field(default_factory=list)
    offers: list[Provision] = field(default_factory=list)

    def deliver(self, events: Sequence[Delivery]) -> None:
        self.events += events

    async def provide(self, provision: Provision) -> None:
        self.offers.append(provision)

    async def secret(self, secret: Secret) -> None:
        raise AssertionError

    def values(self, index: int = 0) -> list[tuple[float, ...]]:
        found = []
        for event in self.events:
            if (event.type, event.source) == (EventType.SENSOR, index):
                _, kind, count, _, _, form, _ = SAMPLE.unpack_from(event.data)
                code = "d" if form == SampleFormat.F64 else "f"
                assert (form == SampleFormat.F64) == (kind == SensorKind.GPS)
                found.append(struct.unpack_from(f"<{count}{code}", event.data, SAMPLE.size))
        return found


@dataclass
class Host:
    dispatcher: Dispatcher
    runtime: Runtime
    registry: CollectorRegistry

    async def open(self, name: str = "i", device: str = DEVICE, *capabilities: str, remote: bool = False) -> None:
        grants = frozenset({"wasmbed:sensor"})
        spec = HostInstance(
            name, "default/app", "uid", device, grants, capabilities=frozenset(capabilities), remote=remote
        )
        await self.dispatcher.open(spec, self.runtime)

    def call(self, op: str, *args: Any, token: int = 0, name: str = "i") -> None:
        self.dispatcher.submit(HostRequest(name, "default/app", DEVICE, "sensor", op, token, args, None), self.runtime)

    def results(self) -> list[int]:
        return [
            struct.unpack_from("<i", event.data)[0] for event in self.runtime.events if event.type == EventType.RESULT
        ]


@contextlib.asynccontextmanager
async def hosted(*configs: SensorConfig, vehicle: Any = None) -> AsyncIterator[Host]:
    registry = CollectorRegistry()
    async with SensorBackend.running(configs, vehicle) as backend:
        dispatcher = Dispatcher([backend], HostCallMetrics(registry))
        registry.register(backend)
        task = asyncio.create_task(dispatcher.run())
        try:
            yield Host(dispatcher, Runtime(), registry)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(config: SensorConfig) -> tuple[float, ...]:
    """One reading of a provider."""
    data = provider_of(config, lambda: False).read()
    assert data is not None
    _, _, count, _, _, form, _ = SAMPLE.unpack_from(data)
    return struct.unpack_from(f"<{count}{'d' if form == SampleFormat.F64 else 'f'}", data, SAMPLE.size)


def test_thermal_zone_is_found_by_its_type(tmp_path: Path) -> None:
    write(tmp_path / "class/thermal/thermal_zone0/type", "acpitz\n")
    write(tmp_path / "class/thermal/thermal_zone1/type", "cpu-thermal\n")
    write(tmp_path / "class/thermal/thermal_zone1/temp", "48250\n")
    config = SensorConfig("cpu", "temperature", "thermal", chip="cpu-thermal", root=tmp_path)
    assert read(config) == pytest.approx((48.25,))
    missing = SensorConfig("cpu", "temperature", "thermal", chip="gpu", root=tmp_path)
    with pytest.raises(SensorError, match="'gpu'; there are acpitz, cpu-thermal"):
        read(missing)


def test_hwmon_values_have_the_units_of_the_abi(tmp_path: Path) -> None:
    chip = tmp_path / "class/hwmon/hwmon3"
    write(chip / "name", "ina226\n")
    write(chip / "in1_input", "12600\n")
    write(chip / "curr1_input", "-1500\n")
    config = SensorConfig(
        "pack", "battery", "hwmon", chip="ina226", channels=("in1_input", "curr1_input"), root=tmp_path
    )
    voltage, current, remaining = read(config)
    assert (voltage, current) == pytest.approx((12.6, -1.5))
    assert math.isnan(remaining)


def test_iio_channels_have_scale_and_offset(tmp_path: Path) -> None:
    chip = tmp_path / "bus/iio/devices/iio:device0"
    write(chip / "name", "bmi160\n")
    for axis, raw in zip("xyz", (100, -200, 16384), strict=True):
        write(chip / f"in_accel_{axis}_raw", f"{raw}\n")
        write(chip / f"in_anglvel_{axis}_raw", f"{raw}\n")
    write(chip / "in_accel_scale", "0.000598550\n")
    write(chip / "in_anglvel_x_scale", "0.001\n")
    write(chip / "in_anglvel_y_scale", "0.002\n")
    write(chip / "in_anglvel_z_scale", "0.003\n")
    channels = tuple(f"in_{what}_{axis}" for what in ("accel", "anglvel") for axis in "xyz")
    config = SensorConfig("imu", "imu", "iio", chip="bmi160", channels=channels, interval_ms=10, root=tmp_path)
    assert read(config) == pytest.approx((0.059855, -0.11971, 9.80664, 0.1, -0.4, 49.152), rel=1e-4)
    pressure = tmp_path / "bus/iio/devices/iio:device1"
    write(pressure / "name", "bmp280\n")
    write(pressure / "in_pressure_input", "101.325\n")
    write(pressure / "in_temp_raw", "2000\n")
    write(pressure / "in_temp_scale", "10\n")
    write(pressure / "in_temp_offset", "50\n")
    config = SensorConfig("baro", "barometer", "iio", chip="bmp280", channels=("in_pressure", "in_temp"), root=tmp_path)
    assert read(config) == pytest.approx((101325.0, 20.5))


@given(st.binary(max_size=200))
def test_any_file_gives_a_number_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "value"
    path.write_bytes(data)
    with contextlib.suppress(SensorError):
        assert math.isfinite(number(path))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "x" * 20}, "1 to 19 bytes"),
        ({"interval_ms": 5}, "interval_ms must be 10"),
        ({"provider": "camera"}, "for the kind camera"),
        ({"kind": "camera"}, "for the kind camera"),
        ({"kind": "camera", "provider": "camera"}, "the one file or FIFO"),
        ({"provider": "vehicle"}, "an autopilot has"),
        ({"provider": "hwmon"}, "chip must be"),
        ({"provider": "iio", "chip": "x"}, "channels must name"),
        ({"provider": "hwmon", "chip": "x", "channels": ("../a",)}, "without /"),
        ({"provider": "hwmon", "chip": "x", "channels": ("a", "b")}, "temperature has 1 values, not 2"),
    ],
)
def test_wrong_configuration_is_refused_with_its_field(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SensorConfig(**{"name": "t", "kind": "temperature", "provider": "file", **options})


async def test_samples_come_to_who_asked_at_the_interval_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "value", "21.5 C\n")
    config = SensorConfig("t", "temperature", "file", paths=(path,), interval_ms=20, scale=2.0, offset=1.0)
    async with hosted(config) as host:
        await until(lambda: host.registry.get_sample_value("wasmbed_sensor_up", {"sensor": "t"}) == 1)
        await host.open()
        (offer,) = host.runtime.offers
        assert offer.available == ("sensor",)
        assert (offer.sensors[0].name, offer.sensors[0].kind, offer.sensors[0].rate_millihz) == ("t", 5, 50_000)
        await asyncio.sleep(0.1)
        assert host.runtime.events == []
        host.call("subscribe", 0, 0, token=1)
        await until(lambda: len(host.runtime.values()) >= 5)
        assert host.runtime.values()[0] == (44.0,)
        assert host.results() == [0]
        host.call("subscribe", 0, -1)
        await until(lambda: host.registry.get_sample_value("wasmbed_sensor_up", {"sensor": "t"}) == 1)
        seen = len(host.runtime.values())
        await asyncio.sleep(0.2)
        assert len(host.runtime.values()) <= seen + 1


async def test_devices_and_capabilities_choose_the_sensors(tmp_path: Path) -> None:
    path = write(tmp_path / "value", "1\n")
    common: dict[str, Any] = {"kind": "generic", "provider": "file", "paths": (path,), "interval_ms": 10}
    configs = [
        SensorConfig("other", devices=("default/two",), **common),
        SensorConfig("wind", capability="sensor-wind", **common),
        SensorConfig("mine", devices=("default/o*",), **common),
    ]
    async with hosted(*configs) as host:
        await host.open("i")
        assert [item.name for item in host.runtime.offers[-1].sensors] == ["mine"]
        await host.open("j", "default/two", "sensor-wind")
        assert [item.name for item in host.runtime.offers[-1].sensors] == ["other", "wind"]
        # A device that runs its modules itself has its own sensors, and of these only what names it.
        await host.open("k", "default/out-there", remote=True)
        assert [item.name for item in host.runtime.offers[-1].sensors] == ["mine"]
        await host.open("l", "default/remote", "sensor-wind", remote=True)
        assert host.runtime.offers[-1].sensors == ()
        await until(lambda: any(offer.available == ("sensor",) for offer in host.runtime.offers))
        host.call("subscribe", 1, 0, name="j")
        await until(lambda: host.runtime.values(1))
        for args in ((2, 0), (-1, 0), ("0", 0), (0, -2), (0, 1 << 40), (0,), ()):
            host.call("subscribe", *args, token=1, name="j")
        await until(lambda: len(host.results()) == 7)
        assert host.results() == [Status.INVALID] * 7


async def test_failing_sensor_is_unavailable_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeds, "RETRY_S", 0.05)
    path = tmp_path / "value"
    async with hosted(SensorConfig("t", "temperature", "file", paths=(path,), interval_ms=10)) as host:
        await until(lambda: host.registry.get_sample_value("wasmbed_sensor_up", {"sensor": "t"}) == 0)
        await host.open()
        assert host.runtime.offers[-1].available == ()
        host.call("subscribe", 0, 0, token=1)
        await until(host.results)
        assert host.results() == [Status.UNAVAILABLE]
        write(path, "7")
        await until(lambda: host.runtime.offers[-1].available == ("sensor",))
        host.call("subscribe", 0, 0)
        await until(host.runtime.values)
        path.unlink()
        await until(lambda: host.runtime.offers[-1].available == ())
        await asyncio.sleep(0.3)
    said = [record.message for record in caplog.records if "unavailable" in record.message]
    assert len(said) == 2
    assert "No such file" in said[0]


async def test_hanging_sensor_is_told_and_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "STALE_S", 0.5)
    fifo = tmp_path / "hangs"
    os.mkfifo(fifo)
    good = write(tmp_path / "good", "1")
    configs = [
        SensorConfig("hangs", "generic", "file", paths=(fifo,), interval_ms=10),
        SensorConfig("good", "generic", "file", paths=(good,), interval_ms=10),
    ]
    async with hosted(*configs) as host:
        await host.open()
        await until(lambda: host.runtime.offers[-1].available == ("sensor",))
        host.call("subscribe", 0, 0)
        host.call("subscribe", 1, 0)
        await until(lambda: len(host.runtime.values(1)) > 5)
        await until(lambda: host.registry.get_sample_value("wasmbed_sensor_up", {"sensor": "hangs"}) == 0)
        assert host.registry.get_sample_value("wasmbed_sensor_up", {"sensor": "good"}) == 1
        # Lets the thread end.
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


async def test_camera_file_gives_its_frames_over_and_over(tmp_path: Path) -> None:
    (tmp_path / "a.y4m").write_bytes(y4m(3, 5, 3))
    config = SensorConfig("cam", "camera", "camera", paths=(tmp_path / "a.y4m",), interval_ms=10)
    async with hosted(config) as host:
        await host.open()
        await until(lambda: host.runtime.offers[-1].available == ("sensor",))
        assert host.runtime.offers[-1].sensors[0].max_bytes == SAMPLE.size + 15 + 12
        host.call("subscribe", 0, 0)
        await until(lambda: len(host.runtime.events) >= 7)
    frames = [event.data for event in host.runtime.events]
    for data in frames:
        _, kind, count, width, height, form, size = SAMPLE.unpack_from(data)
        assert (kind, count, width, height, form, size) == (SensorKind.CAMERA, 0, 5, 3, SampleFormat.YUV420, 27)
        assert len(data) == SAMPLE.size + size
    assert {data[SAMPLE.size] for data in frames} == {0, 1, 2}


@pytest.mark.parametrize(("colours", "grey"), [("420jpeg", True), ("mono", False)])
async def test_live_camera_of_a_megabyte_gives_its_newest_frame(tmp_path: Path, colours: str, grey: bool) -> None:
    fifo = tmp_path / "cam"
    os.mkfifo(fifo)
    stop = threading.Event()
    stream = y4m(20, 1024, 1000, colours)

    def film() -> None:
        with contextlib.suppress(BrokenPipeError), fifo.open("wb", buffering=0) as out:
            while not stop.is_set():
                out.write(stream)

    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    config = SensorConfig("cam", "camera", "camera", paths=(fifo,), interval_ms=50, grey=grey)
    async with hosted(config) as host:
        await host.open()
        await until(lambda: host.runtime.offers[-1].available == ("sensor",))
        host.call("subscribe", 0, 0)
        # The stream has its header again between the rounds, which ends the feed; it is opened anew.
        await until(lambda: len(host.runtime.events) >= 2)
    stop.set()
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    data = host.runtime.events[0].data
    _, _, _, width, height, form, size = SAMPLE.unpack_from(data)
    assert (width, height, form, size) == (1024, 1000, SampleFormat.GREY8, 1_024_000)


async def test_autopilots_sensors_are_those_of_the_device(tmp_path: Path) -> None:
    class Vehicles:
        def __init__(self) -> None:
            self.readings: dict[tuple[str, SensorKind], Reading] = {}

        def reading(self, device: str, kind: SensorKind) -> Reading | None:
            return self.readings.get((device, kind))

    vehicles = Vehicles()
    async with hosted(SensorConfig("gps", "gps", "vehicle", interval_ms=10), vehicle=vehicles) as host:
        await host.open()
        assert host.runtime.offers[-1].available == ()
        vehicles.readings[DEVICE, SensorKind.GPS] = Reading((45.123456789, 9.987654321), 1)
        await until(lambda: host.runtime.offers[-1].available == ("sensor",))
        host.call("subscribe", 0, 0)
        await until(host.runtime.values)
        latitude, longitude, altitude = host.runtime.values()[0]
        assert (latitude, longitude) == (45.123456789, 9.987654321)
        assert math.isnan(altitude)
        await asyncio.sleep(0.2)
        assert len(host.runtime.values()) == 1
        vehicles.readings[DEVICE, SensorKind.GPS] = Reading((46.0, 9.0, 100.0), 2)
        await until(lambda: len(host.runtime.values()) == 2)


def test_values_that_no_sample_can_hold_are_not_known() -> None:
    data = sample(SensorKind.GENERIC, Reading((1e300, math.inf, 2.0)), 4)
    values = struct.unpack_from("<4f", data, SAMPLE.size)
    assert [math.isnan(value) for value in values] == [True, True, False, True]
