# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Emulated devices of an inventory, for the module, for Kubernetes, and for gateways."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.filter import emulated_devices as filters


def test_inventory_devices_become_edge_devices_with_their_keys():
    inventory = [
        {"name": "mcu-1", "board": "stm32", "gateway": "gw1", "port": 5501, "capabilities": ["imu"]},
        {"name": "rv-1", "board": "hifive1", "gateway": "gw1", "port": 5502, "labels": {"zone": "a"}},
    ]
    rows = filters.emulated_devices(inventory, {"gw1": "KEY"}, "/images", "10.79.0.41")
    assert rows[0] == {
        "name": "mcu-1",
        "board": "stm32",
        "gateway": "gw1",
        "port": 5501,
        "address": "10.79.0.41",
        "firmware": "/images/stm32.flash",
        "gateway_key": "KEY",
    }
    made = [{**row, "public_key": key} for row, key in zip(rows, ("PUBLIC", ""), strict=True)]
    (one,) = filters.emulated_edge_devices(made, inventory, "sensor")
    assert one["spec"]["publicKey"] == "PUBLIC"
    assert (one["spec"]["deviceClass"], one["spec"]["capabilities"]) == ("mcu", ["imu"])
    with pytest.raises(filters.AnsibleFilterError, match="gateway"):
        filters.emulated_devices([{"name": "x", "board": "stm32"}], {}, "/images", "::1")


def test_lines_of_a_gateway_are_those_of_its_devices_on_every_host():
    hosts = [
        {
            "ansible_host": "10.79.0.41",
            "qemu_host_devices": [
                {"name": "a", "gateway": "gw1", "port": 5501},
                {"name": "b", "gateway": "gw2", "port": 5502},
                {"name": "c", "gateway": "gw1", "port": 5503, "address": "10.79.0.42"},
            ],
        },
        {"inventory_hostname": "sim2", "qemu_host_devices": [{"name": "d", "gateway": "gw1", "port": 1}]},
        {"inventory_hostname": "sim3"},
    ]
    assert filters.emulated_lines(hosts, "gw1") == ["tcp:10.79.0.41:5501", "tcp:10.79.0.42:5503", "tcp:sim2:1"]
