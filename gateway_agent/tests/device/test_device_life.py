"""A device's life: applications come, change, go and outlive the link, the power and either service."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from device_site import lines_of
from gateway_site import eventually, good, wat
from link_faults import counting, failing_soon, padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_site import LinkSite, LinuxDevice
    from link_faults import ThreadedProxy


def test_an_application_runs_on_the_device_changes_and_goes(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("life")
    first = link_site.push("life", good("version"))
    link_site.place_on("life", first, "life")
    state = link_site.wait_state("life", "Pending")
    assert state["message"] == "waiting for the device"
    device.start()
    device.wait_ready()
    link_site.wait_link("life", "Connected")
    link_site.wait_state("life", "Running", digest=first)
    assert link_site.wait_line("life", "version").device == "default/life"
    second = link_site.push("life", good("another"))
    link_site.place_on("life", second, "life")
    link_site.wait_state("life", "Running", digest=second)
    assert link_site.wait_line("life", "another")
    assert device.metric('wasmbed_device_instances{state="Running"}') == 1
    assert link_site.metric('wasmbed_agent_session_memory_bytes{device="default/life"}') > 0
    link_site.remove("life")
    eventually(lambda: device.metric("wasmbed_device_instances") == 0, "the application's end")
    numbers = [number for number, _ in lines_of(link_site, "life")]
    assert len(numbers) == len(set(numbers))


def test_without_its_link_it_runs_on_and_what_it_logged_arrives_once_and_in_order(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("spool", port=proxy.port)
    device.start()
    device.wait_ready()
    link_site.place_on("spool", link_site.push("spool", counting()), "spool")
    link_site.wait_state("spool", "Running")
    link_site.wait_line("spool")
    proxy.cut()
    since = link_site.wait_link("spool", "Disconnected")["since"]
    state = eventually(
        lambda: found if "disconnected" in (found := link_site.device_state("spool")).get("message", "") else None,
        "a status that says since when",
    )
    assert state["state"] == "Running"
    assert f"last known state, the device is disconnected since {since}" in state["message"]
    waiting = device.metric("wasmbed_device_spooled_bytes")
    eventually(lambda: device.metric("wasmbed_device_spooled_bytes") > waiting + 2000, "lines that wait")
    proxy.open()
    link_site.wait_link("spool", "Connected")
    eventually(lambda: device.metric('wasmbed_device_spooled_bytes{spool="logs"}') < 1000, "lines that were taken")
    eventually(lambda: not link_site.device_state("spool").get("message"), "the message's end")
    counts = [int(line.word, 16) for _, line in lines_of(link_site, "spool")]
    assert counts == list(range(counts[0], counts[0] + len(counts)))


def test_a_link_that_swallows_everything_is_noticed_by_both_sides(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("silent", port=proxy.port)
    device.start()
    device.wait_ready()
    proxy.silence(True)
    device.wait_problem("silent for")
    link_site.wait_link("silent", "Disconnected")
    proxy.silence(False)
    link_site.wait_link("silent", "Connected")
    device.wait_ready()


def test_after_a_power_cut_it_runs_again_without_its_gateway(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("reboot", port=proxy.port)
    device.start()
    device.wait_ready()
    link_site.place_on("reboot", link_site.push("reboot", good("version")), "reboot")
    link_site.wait_state("reboot", "Running")
    word = link_site.wait_line("reboot").word
    proxy.cut()
    link_site.wait_link("reboot", "Disconnected")
    device.kill()
    device.start()
    running = 'wasmbed_device_instances{state="Running"}'
    eventually(lambda: device.readyz()[0] != 0 and device.metric(running) == 1, "the application without its gateway")
    device.wait_problem("gateway: not ready")
    proxy.open()
    link_site.wait_link("reboot", "Connected")
    link_site.wait_state("reboot", "Running")
    line = eventually(
        lambda: next((line for _, line in lines_of(link_site, "reboot") if line.word != word), None), "the new one"
    )
    words = [item.word for _, item in lines_of(link_site, "reboot")]
    # The new one speaks after the old one, and never both.
    assert words.index(line.word) == words.count(word)
    assert set(words) == {word, line.word}


def test_a_kill_of_either_service_or_of_the_agent_loses_nothing_and_runs_nothing_twice(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("kills")
    device.start()
    device.wait_ready()
    link_site.place_on("kills", link_site.push("kills", counting()), "kills")
    link_site.wait_state("kills", "Running")
    link_site.wait_line("kills")
    assert device.service is not None
    assert device.runtime is not None
    assert link_site.agent is not None
    device.service.kill()
    device.start_service()
    device.wait_ready()
    link_site.wait_line("kills")
    link_site.agent.kill()
    link_site.start_agent()
    link_site.agent.wait_ready(lambda: link_site.readyz()[0] == 200)
    link_site.wait_link("kills", "Connected")
    link_site.wait_line("kills")
    # Lines that the agent had written and not acknowledged may come again, with their numbers.
    unique = dict(lines_of(link_site, "kills"))
    counts = [int(line.word, 16) for line in unique.values()]
    assert all(later > earlier for earlier, later in pairwise(counts)), counts
    device.runtime.kill()
    device.start_runtime()
    eventually(
        lambda: int(dict(lines_of(link_site, "kills")).popitem()[1].word, 16) < counts[-1],
        "the application's new start",
    )
    link_site.wait_state("kills", "Running")
    assert device.metric("wasmbed_device_instances") == 1


def test_what_was_withdrawn_while_it_was_away_ends_when_it_is_back(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("away", port=proxy.port)
    device.start()
    device.wait_ready()
    link_site.place_on("away", link_site.push("away", good("version")), "away")
    link_site.wait_state("away", "Running")
    proxy.cut()
    link_site.wait_link("away", "Disconnected")
    link_site.remove("away")
    link_site.place_on("after", link_site.push("after", good("another")), "away")
    state = link_site.wait_state("after", "Pending")
    assert state["message"].startswith("waiting for the device, disconnected since 20")
    proxy.open()
    link_site.wait_state("after", "Running")
    eventually(lambda: device.metric("wasmbed_device_instances") == 1, "the end of what is not wanted")
    assert link_site.wait_line("after").device == "default/away"


def test_a_module_that_the_device_refuses_is_told_with_its_reason(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    device = new_device("refuse")
    device.start()
    device.wait_ready()
    bad = wat('(module (import "env" "nothing" (func)) (memory (export "memory") 1))')
    link_site.place_on("refuse", link_site.push("refuse", bad), "refuse")
    state = link_site.wait_state("refuse", "Failed")
    assert state["reason"] == "InvalidModule"
    assert "env" in state["message"]


def test_a_large_module_goes_on_where_the_link_was_cut(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("resume", port=proxy.port)
    device.start()
    device.wait_ready()
    link_site.place_on("resume", link_site.push("resume", padded(6 << 20)), "resume")
    proxy.slow(2 << 20)
    folder = device.folder / "state/modules"

    def size() -> int:
        return sum(path.stat().st_size for path in folder.glob("*.part"))

    before = eventually(lambda: found if (found := size()) > 1 << 20 else 0, "a part of the module", 60)
    proxy.cut()
    sent = proxy.forwarded
    proxy.slow(0)
    proxy.open()
    link_site.wait_state("resume", "Running")
    assert proxy.forwarded - sent < (6 << 20) - before + (1 << 20)


def test_an_update_that_fails_in_its_first_minute_is_taken_back_on_the_device_and_its_disk(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice], proxy: ThreadedProxy
) -> None:
    device = new_device("back", port=proxy.port)
    device.start()
    device.wait_ready()
    first = link_site.push("back", good("version"))
    link_site.place_on("back", first, "back")
    link_site.wait_state("back", "Running", digest=first)
    second = link_site.push("back", failing_soon())
    link_site.place_on("back", second, "back")
    state = link_site.wait_state("back", "Failed", digest=second)
    assert state["message"].endswith("runs again")
    assert link_site.wait_line("back", "version")
    proxy.cut()
    link_site.wait_link("back", "Disconnected")
    device.kill()
    device.start()
    running = 'wasmbed_device_instances{state="Running"}'
    eventually(lambda: device.readyz()[0] != 0 and device.metric(running) == 1, "the old version after a power cut")
    proxy.open()
    link_site.wait_link("back", "Connected")
    assert link_site.wait_line("back", "version")
