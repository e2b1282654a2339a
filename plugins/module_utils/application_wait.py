# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Follow a WasmApplication until it is where it should be, cannot get there, or time is up. Needs no other package."""

from __future__ import annotations

import dataclasses
import time

PHASES = ("Pending", "Deploying", "Running", "Degraded", "Failed")
POLL_S = 0.25
# A registry that is just being restarted, or a push that is under way, gets this long.
IMAGE_GRACE_S = 15.0
SHOWN_DEVICES = 10
MAX_PROGRESS = 200


def current_status(item: dict) -> dict:
    """Return the status if it is about the present generation of the spec, else an empty dictionary."""
    status = item.get("status", {})
    return status if status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0) else {}


def snapshot(item: dict) -> dict:
    """Return phase, reason, message and counts: what an observer sees change."""
    status = current_status(item)
    return {
        "phase": status.get("phase", "Pending"),
        "reason": status.get("reason", ""),
        "message": status.get("message", ""),
        "counts": status.get("counts", {}),
    }


def failing_devices(item: dict) -> list[str]:
    """Return one sentence for each device in state Failed, at most ten."""
    sentences = []
    for device in current_status(item).get("devices", []):
        if device.get("state") == "Failed":
            gateway = f" on {device['gateway']}" if device.get("gateway") else ""
            words = [word for word in (device.get("reason"), device.get("message")) if word]
            sentences.append(f"{device['name']}{gateway}: {': '.join(words) or 'Failed'}")
    return sentences[:SHOWN_DEVICES]


def describe(item: dict) -> str:
    """Return one line: phase, counts, reason and message, failing devices."""
    seen = snapshot(item)
    text = seen["phase"]
    if seen["counts"].get("selected"):
        text += f", {seen['counts'].get('running', 0)} of {seen['counts']['selected']} devices running"
    cause = ": ".join(word for word in (seen["reason"], seen["message"]) if word and word != seen["phase"])
    if cause and seen["phase"] != "Running":
        text += f": {cause}"
    devices = failing_devices(item)
    return f"{text} [{'; '.join(devices)}]" if devices else text


def cannot_recover(item: dict, failed_for_s: float) -> bool:
    """Tell whether waiting is useless. C(failed_for_s): how long the image could not be pulled.

    An invalid module stays invalid; an image that a registry does not have may yet be pushed, for a short while.
    A device that failed is restarted, a gateway comes back: those wait until time is up.
    """
    seen = snapshot(item)
    if seen["reason"] == "InvalidModule":
        return seen["phase"] in ("Failed", "Degraded")
    return seen["phase"] == "Failed" and seen["reason"] == "ImagePullFailed" and failed_for_s >= IMAGE_GRACE_S


@dataclasses.dataclass
class Wait:
    """The end of a wait: the object as last seen, what was seen on the way, and a sentence when it went wrong."""

    item: dict | None
    progress: list[dict]
    error: str = ""


def follow(read, name: str, phase: str, timeout_s: float, report=None, clock=time.monotonic, sleep=time.sleep) -> Wait:
    """Read the application until it has the phase.

    read: function that returns the object, or None; report: called with each new progress entry
    {at_s, phase, reason, message, counts} and the object.
    """
    started = clock()
    image_failed_at = None
    progress: list[dict] = []
    last: dict | None = None
    while True:
        item = read()
        elapsed = clock() - started
        if item is None:
            return Wait(None, progress, f"application {name} was deleted while it was waited for")
        seen = snapshot(item)
        if seen != last:
            last = seen
            entry = {"at_s": round(elapsed, 2), **seen}
            progress.append(entry)
            del progress[:-MAX_PROGRESS]
            if report is not None:
                report(entry, item)
        if current_status(item).get("phase") == phase:
            return Wait(item, progress)
        if seen["phase"] == "Failed" and seen["reason"] == "ImagePullFailed":
            image_failed_at = elapsed if image_failed_at is None else image_failed_at
        else:
            image_failed_at = None
        if cannot_recover(item, 0.0 if image_failed_at is None else elapsed - image_failed_at):
            return Wait(item, progress, f"application {name} is {describe(item)}")
        if elapsed >= timeout_s:
            if not current_status(item):
                text = "the controller has not taken it up; is wasmbed-controller running?"
            else:
                text = f"it is {describe(item)}"
            return Wait(item, progress, f"application {name} is not {phase} after {timeout_s:.0f} s: {text}")
        sleep(POLL_S)


def wait_gone(read, name: str, timeout_s: float, uid: str, clock=time.monotonic, sleep=time.sleep) -> str:
    """Read the application until it is gone; return a sentence when it is still there in the end, else nothing."""
    deadline = clock() + timeout_s
    while True:
        item = read()
        if item is None or item["metadata"]["uid"] != uid:
            return ""
        if clock() >= deadline:
            held = ", ".join(item["metadata"].get("finalizers", [])) or "nothing"
            return (
                f"application {name} is still there after {timeout_s:.0f} s, held by {held}; "
                "is wasmbed-controller running, and are the gateways reachable?"
            )
        sleep(POLL_S)
