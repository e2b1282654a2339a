# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""When waiting for an application ends, and with which words. Time is the test's."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import application_wait


class Clock:
    """Goes on by what is slept; the application has the status of the latest step whose time has come."""

    def __init__(self, *steps):
        self.now = 0.0
        self.steps = steps

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def read(self):
        status = [status for at_s, status in self.steps if at_s <= self.now][-1]
        if status is None:
            return None
        return {"metadata": {"generation": 2, "uid": "u", "finalizers": ["f"]}, "status": status}


def status(phase, reason="", **fields):
    return {"observedGeneration": 2, "phase": phase, "reason": reason, "message": f"because {reason}", **fields}


def follow(clock, phase="Running", timeout_s=60.0):
    return application_wait.follow(clock.read, "default/a", phase, timeout_s, None, clock, clock.sleep)


def test_ends_at_the_phase():
    clock = Clock((0, {}), (2, status("Deploying", "Deploying")), (4, status("Running")))
    wait = follow(clock)
    assert wait.error == ""
    assert clock.now == pytest.approx(4)
    assert [(entry["at_s"], entry["phase"]) for entry in wait.progress] == [
        (0, "Pending"),
        (2, "Deploying"),
        (4, "Running"),
    ]


def test_a_status_of_an_earlier_generation_does_not_count():
    clock = Clock((0, {**status("Running"), "observedGeneration": 1}), (3, status("Running")))
    assert follow(clock).error == ""
    assert clock.now == pytest.approx(3)


@pytest.mark.parametrize("phase", ["Failed", "Degraded"])
def test_an_invalid_module_ends_the_wait_at_once(phase):
    clock = Clock((0, status(phase, "InvalidModule")))
    assert "InvalidModule: because InvalidModule" in follow(clock).error
    assert clock.now == 0


def test_an_image_may_still_be_pushed_for_a_while():
    clock = Clock((0, status("Failed", "ImagePullFailed")), (10, status("Running")))
    assert follow(clock).error == ""


def test_an_image_that_stays_away_ends_the_wait_early():
    clock = Clock((5, {}), (0, status("Failed", "ImagePullFailed")))
    assert "ImagePullFailed" in follow(clock).error
    assert clock.now == pytest.approx(application_wait.IMAGE_GRACE_S)


def test_the_grace_begins_anew_after_a_better_phase():
    failed = status("Failed", "ImagePullFailed")
    clock = Clock((0, failed), (14, status("Deploying")), (15, failed), (20, status("Running")))
    assert follow(clock).error == ""


def test_a_device_error_is_waited_out():
    clock = Clock((0, status("Failed", "DeviceError")), (50, status("Running")))
    assert follow(clock).error == ""


def test_the_end_of_the_time_names_failing_devices():
    devices = [
        {"name": "d1", "gateway": "gw1", "state": "Failed", "reason": "DeviceError", "message": "trap"},
        {"name": "d2", "state": "Running"},
    ]
    counts = {"selected": 2, "running": 1, "failed": 1, "pending": 0}
    clock = Clock((0, status("Degraded", "DeviceError", devices=devices, counts=counts)))
    assert follow(clock, timeout_s=5).error == (
        "application default/a is not Running after 5 s: it is Degraded, 1 of 2 devices running: "
        "DeviceError: because DeviceError [d1 on gw1: DeviceError: trap]"
    )


def test_a_bad_phase_can_be_waited_for():
    assert follow(Clock((0, status("Failed", "InvalidModule"))), phase="Failed").error == ""


def test_an_application_that_goes_ends_the_wait():
    assert "deleted" in follow(Clock((0, {}), (1, None))).error


def test_progress_is_bounded():
    steps = [(number, status("Deploying", str(number))) for number in range(300)]
    wait = follow(Clock(*steps), timeout_s=299)
    assert len(wait.progress) == application_wait.MAX_PROGRESS
    assert wait.progress[-1]["reason"] == "299"


def test_gone_is_gone_or_another_of_the_same_name():
    clock = Clock((0, {}), (3, None))
    assert application_wait.wait_gone(clock.read, "n/a", 10, "u", clock, clock.sleep) == ""
    assert application_wait.wait_gone(Clock((0, {})).read, "n/a", 10, "other", clock, clock.sleep) == ""


def test_what_holds_a_deletion_is_named():
    clock = Clock((0, {}))
    assert "held by f;" in application_wait.wait_gone(clock.read, "n/a", 10, "u", clock, clock.sleep)
