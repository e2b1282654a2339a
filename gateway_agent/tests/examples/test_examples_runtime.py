"""The examples as Linux modules in the real runtime, with a peer that answers their requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import cbor2
import pytest
import pytest_asyncio
from example_desk import sample
from example_frames import HEIGHT, WIDTH, Box, Camera, figure, scene
from example_site import Peer
from example_vehicle import HOME, METRES_A_DEGREE, Vehicle
from runtime_support import RuntimeProcess, connected
from wasmbed.runtime import Sensor
from wasmbed.runtime.abi import SAMPLE, TELEMETRY, Code, EventType, SampleFormat, SensorKind, Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import numpy as np
    from runtime_support import Agent

pytestmark = pytest.mark.slow
TEMPERATURE = SensorKind.TEMPERATURE


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("runtime")
    process = RuntimeProcess.start(folder, folder)
    yield process
    assert process.stop() == 0


@pytest_asyncio.fixture
async def peer(runtime: RuntimeProcess, request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    async with connected(runtime) as agent, asyncio.TaskGroup() as group:
        peer = Peer(agent, f"default/{request.node.name[:40]}")
        serving = group.create_task(peer.serve())
        yield peer
        serving.cancel()
        await agent.stop_all()


@contextlib.asynccontextmanager
async def repeated(action: Callable[[], None], every_s: float = 0.02) -> AsyncIterator[None]:
    """Do something again and again during a block."""

    async def run() -> None:
        while True:
            action()
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        yield
        task.cancel()


async def log(agent: Agent, part: str, timeout_s: float = 60) -> str:
    return (await agent.log("drone", part, timeout_s)).text


async def test_environment_raises_and_clears_an_alarm(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    peer.routes = ("alarms",)
    value = 20.0
    env = {"INTERVAL_S": "0.01", "TEMPERATURE_HIGH": "30", "REPORT_S": "1"}
    await peer.start(build("environment", "mpu"), env=env, sensors=(Sensor("t", TEMPERATURE, 1, 1000, 28),))
    await log(peer.agent, "watching the environment of default/drone")
    await peer.until(lambda: peer.subscribed == {("sensor", 0): 10})
    async with repeated(lambda: peer.deliver((EventType.SENSOR, 0, sample(TEMPERATURE, value)))):
        await log(peer.agent, "temperature 20.00 (20.00 to 20.00)")
        value = 40.0
        await log(peer.agent, "temperature high: 3")
        value = 20.0
        await log(peer.agent, "temperature normal: 2")
        await peer.until(lambda: len(peer.sent) >= 2 and len(peer.published) >= 2)
    assert [json.loads(message)["state"] for message in peer.sent] == ["high", "normal"]
    assert [json.loads(json.loads(data)["data"])["state"] for _, data in peer.published] == ["high", "normal"]


async def test_telemetry_finds_an_anomaly_and_reports(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    vehicle = Vehicle()
    await peer.start(build("telemetry", "mpu"), env={"INTERVAL_S": "0", "REPORT_S": "1"})
    await log(peer.agent, "watching the autopilot of default/drone")
    volts = 16.0

    def tell() -> None:
        peer.deliver((EventType.TELEMETRY, Telemetry.STATUS, vehicle.record(Telemetry.STATUS) or b""))
        peer.deliver((EventType.TELEMETRY, Telemetry.BATTERY, battery(volts)))

    async with repeated(tell):
        await log(peer.agent, "battery voltage 16.000 +- 0.000, half below 16.000")
        await peer.until(lambda: sum(cbor2.loads(m).get("n", 0) for m in peer.sent) > 120)
        volts = 12.0
        await log(peer.agent, "spike of battery voltage: 12.000, normal is 16.000")
        await peer.until(lambda: any("anomaly" in cbor2.loads(message) for message in peer.sent))


def battery(volts: float) -> bytes:
    return TELEMETRY[Telemetry.BATTERY].pack(0, volts, 10, 0.8, 30)


async def test_collector_delivers_everything_over_an_update(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    sensors = tuple(Sensor(f"t{number}", TEMPERATURE, 1, 1000, 28) for number in range(32))
    given: list[float] = []
    got: dict[tuple[int, int], float] = {}

    def note() -> bool:
        for message in peer.sent:
            _, epoch, lost, records = cbor2.loads(message)
            assert lost == 0
            got.update({(epoch, record[0]): record[4] for record in records})
        return len(got) == len(given)

    def measure() -> None:
        for sensor in range(32):
            given.append(float(len(given)))
            peer.deliver((EventType.SENSOR, sensor, sample(TEMPERATURE, given[-1])))

    refusals = iter([Code.UNAVAILABLE, Code.TIMEOUT])
    peer.secure = lambda _message: next(refusals, 0)
    module = build("collector", "mpu")
    await peer.start(module, env={"FLUSH_S": "0.1", "INTERVAL_S": "0"}, sensors=sensors)
    await log(peer.agent, "collecting from default/drone, sensors 32")
    measure()
    await peer.until(lambda: note() and len(peer.sent) >= 3)
    firsts = [cbor2.loads(message)[3][0][0] for message in peer.sent[:3]]
    assert firsts == [0, 0, 0], "what was refused comes again"
    # From here on nothing is confirmed until the next version is there.
    peer.secure = lambda _message: Code.UNAVAILABLE
    measure()
    await peer.until(note)
    peer.secure = lambda _message: 0
    await peer.start(module, env={"FLUSH_S": "0.2", "INTERVAL_S": "0"}, sensors=sensors)
    await log(peer.agent, "took over, waiting 32")
    # It subscribes after that; only then samples are its own.
    await peer.agent.wait_for(lambda _: sum("collecting" in getattr(e, "text", "") for e in peer.agent.events) == 2)
    before = len(peer.sent)
    measure()
    await peer.until(lambda: note() and len(peer.sent) > before)
    assert sorted(got.values()) == given
    assert sorted(number for _, number in got) == list(range(len(given)))
    assert len({epoch for epoch, _ in got}) == 1


@pytest.mark.parametrize("way", ["goto", "mission"])
async def test_patrol_flies(peer: Peer, build: Callable[[str, str], bytes], way: str) -> None:
    peer.vehicle = vehicle = Vehicle(speed_m_s=60, climb_m_s=30)
    points = ";".join(f"{HOME[0] + metres / METRES_A_DEGREE:.7f},{HOME[1]},20" for metres in (50, 100))

    def step() -> None:
        vehicle.step(0.05)
        for event in vehicle.telemetry():
            peer.deliver(event)

    await peer.start(build("patrol", "mpu"), env={"WAYPOINTS": points, "FLY": way})
    async with repeated(step, 0.05):
        await log(peer.agent, "finished: landed", 90)
    orders = {"goto": ["goto", "goto"], "mission": ["mission"]}[way]
    assert [name for name in vehicle.names if name != "upload"] == ["arm", "takeoff", *orders, "return"]
    assert not vehicle.armed
    assert not vehicle.owned


class Watch:
    """Surveillance with a picture at a time: each is answered before the next one."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.peer.routes = ("motion", "activity")

    async def start(self, wasm: bytes) -> None:
        camera = Sensor("eye", SensorKind.CAMERA, 0, 10_000, 1 << 20)
        await self.peer.start(wasm, env={"INTERVAL_S": "0", "QUIET_FRAMES": "10"}, sensors=(camera,))
        await log(self.peer.agent, "watching the camera of default/drone")

    async def see(self, picture: np.ndarray, style: SampleFormat = SampleFormat.GREY8) -> list[Box]:
        """Show a picture; returns the boxes of what moves."""
        height, width = picture.shape
        pixels = picture.tobytes()
        if style == SampleFormat.YUV420:
            pixels += b"\x80" * (2 * ((width + 1) // 2) * ((height + 1) // 2))
        elif style == SampleFormat.RGB24:
            pixels = picture.repeat(3).tobytes()
        data = SAMPLE.pack(0, SensorKind.CAMERA, 0, width, height, style, len(pixels)) + pixels
        before = len(self.peer.published)
        self.peer.deliver((EventType.SENSOR, 0, data))
        await self.peer.until(lambda: any(route == "activity" for route, _ in self.peer.published[before:]))
        boxes = [json.loads(message) for route, message in self.peer.published[before:] if route == "motion"]
        return [Box(box["x_offset"], box["y_offset"], box["width"], box["height"]) for box in boxes]


@pytest.mark.parametrize("name", ["field", "stairs", "meadow"])
async def test_surveillance_finds_a_man_and_nothing_else(
    peer: Peer, build: Callable[[str, str], bytes], name: str
) -> None:
    watch, camera, man = Watch(peer), Camera(scene(name), seed=3), figure(40)
    await watch.start(build("surveillance", "mpu"))
    false_alarms = seen = missed = stray = 0
    quiet = 150
    for number in range(quiet):
        boxes = await watch.see(camera.picture()[0])
        false_alarms += bool(boxes)
        assert number >= 12 or not boxes, "it is still learning"
    for x in range(-40, WIDTH, 6):
        picture, truth = camera.picture(man, (x, HEIGHT - man[0].shape[0] - 20))
        boxes = await watch.see(picture)
        if truth is not None and truth.width >= 24:
            seen += 1
            missed += not any(box.covers(truth) >= 0.3 for box in boxes)
            stray += any(box.covers(truth) == 0 for box in boxes)
    assert seen > 45
    assert false_alarms <= quiet * 0.01
    assert missed <= seen * 0.05
    assert stray <= seen * 0.02
    for _ in range(20):
        await watch.see(camera.picture()[0])
    await peer.until(lambda: len(peer.sent) == 2)
    first, second = (json.loads(message) for message in peer.sent)
    assert first["alarm"] is True
    assert first["objects"] == 1
    assert second["alarm"] is False
    await log(peer.agent, "alarm: motion at ")
    await log(peer.agent, "quiet again")


async def test_surveillance_takes_light_for_light(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    watch, camera = Watch(peer), Camera(scene("field"), seed=4)
    await watch.start(build("surveillance", "mpu"))
    for _ in range(30):
        await watch.see(camera.picture()[0])
    for step in range(60):
        assert await watch.see(camera.picture(light=1 - step * 0.006)[0]) == []
    camera.background = scene("stairs")
    for _ in range(30):
        assert await watch.see(camera.picture()[0]) == []
    await log(peer.agent, "the scene changed as a whole")
    assert peer.sent == []


async def test_surveillance_reads_every_format(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    watch, man = Watch(peer), figure(60)
    await watch.start(build("surveillance", "mpu"))
    for style in (SampleFormat.GREY8, SampleFormat.YUV420, SampleFormat.RGB24):
        # Another size begins another model.
        rows = HEIGHT - 16 * style
        camera = Camera(scene("meadow"), seed=5)
        for _ in range(15):
            await watch.see(camera.picture()[0][:rows], style)
        found = []
        for x in range(60, 120, 6):
            found += await watch.see(camera.picture(man, (x, 100))[0][:rows], style)
        assert found, f"nothing found in {style.name}"


async def test_surveillance_refuses_frames_that_are_none(peer: Peer, build: Callable[[str, str], bytes]) -> None:
    watch, camera = Watch(peer), Camera(scene("meadow"), seed=6)
    await watch.start(build("surveillance", "mpu"))
    grey, picture = SampleFormat.GREY8, SensorKind.CAMERA
    for data in (
        b"",
        SAMPLE.pack(0, picture, 0, 320, 240, grey, 76_800),
        SAMPLE.pack(0, picture, 0, 320, 240, grey, 100) + bytes(100),
        SAMPLE.pack(0, picture, 0, 65_535, 65_535, grey, 4) + bytes(4),
        SAMPLE.pack(0, picture, 0, 0, 0, grey, 0),
        SAMPLE.pack(0, picture, 0, 8, 8, grey, 64) + bytes(64),
        SAMPLE.pack(0, picture, 0, 320, 240, 99, 76_800) + bytes(76_800),
        SAMPLE.pack(0, picture, 1, 0, 0, SampleFormat.F32, 4) + bytes(4),
    ):
        peer.deliver((EventType.SENSOR, 0, data))
        # The next good one shows that it lives.
        await watch.see(camera.picture()[0])
    assert all(row.state == "Running" for row in await peer.agent.client.list())


def test_the_photographs_are_there() -> None:
    assert scene("field").shape == scene("stairs").shape == scene("meadow").shape == (HEIGHT, WIDTH)
    body, mask = figure(40)
    assert 0.2 < mask.mean() < 0.8
    assert body[mask].mean() < 60
