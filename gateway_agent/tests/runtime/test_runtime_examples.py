"""The examples, compiled as the README says, in a real runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wasmbed.runtime import wasm

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime_support import Agent


async def test_hello_says_hello_for_its_device(agent: Agent, build_example: Callable[[Path], bytes]) -> None:
    module = build_example(Path("examples/hello/hello.c"))
    await agent.run("drone", module, application="default/hello")
    line = await agent.log("drone", "hello from default/drone")
    assert (line.level, line.application, line.device) == (2, "default/hello", "default/drone")
    await agent.state("drone", "Running")


async def test_monitoring_counts_the_messages_of_its_fleet(
    agent: Agent, build_example: Callable[[Path], bytes]
) -> None:
    module = build_example(Path("examples/monitoring/monitoring.c"))
    for drone in ("alpha", "beta"):
        await agent.run(drone, module, application="default/drone-monitoring-app")
        await agent.log(drone, f"monitoring default/{drone}")
    first = await agent.log("alpha", "up ", timeout_s=30)
    words = first.text.replace(",", "").split()
    assert words[:3] == ["up", words[1], "s"]
    assert int(words[1]) >= 9
    assert [words[3], words[4], words[6], words[8]] == ["messages", "sent", "received", "lost"]
    # Ten ticks each; the two do not begin at the same moment.
    assert 8 <= int(words[5]) <= 10
    assert 8 <= int(words[7]) <= 11
    assert int(words[9]) == 0


def test_the_examples_are_small_enough_for_every_class(build_example: Callable[[Path], bytes]) -> None:
    for source in ("examples/hello/hello.c", "examples/monitoring/monitoring.c"):
        module = build_example(Path(source))
        contents = wasm.read(module)
        assert len(module) < 4096
        assert contents.memories[0].minimum_bytes == 65536
