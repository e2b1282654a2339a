# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What the inventory plugin makes of EdgeDevices; tests/modules has it with a real API server."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.inventory import edge_devices


def device(name, namespace="default", status=None, **spec):
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"deviceType": "drone", **spec},
        **(status or {}),
    }


def test_a_device_that_was_never_seen_has_no_gateway_and_no_vehicle():
    found = edge_devices.device_variables(device("one"))
    assert (found["gateway"], found["phase"], found["labels"], found["capabilities"]) == ("", "Pending", {}, [])
    assert not {"system_id", "vehicle"} & found.keys()


def test_a_vehicle_has_its_system_id_and_what_it_shows():
    shown = {"armed": False, "mode": "hold"}
    status = {"status": {"gateway": "gw1", "phase": "Connected", "deviceClass": "gateway", "vehicle": shown}}
    found = edge_devices.device_variables(device("one", status=status, px4={"systemId": 7}))
    assert (found["system_id"], found["gateway"], found["vehicle"]) == (7, "gw1", shown)


def test_one_name_in_two_namespaces_is_an_error_that_says_what_to_do():
    devices = [edge_devices.device_variables(device("one", space)) for space in ("east", "west")]
    with pytest.raises(ValueError, match=r"one is in the namespaces east and west.*give the option namespace"):
        edge_devices.unique_by_name(devices)
