# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Emulated devices of an inventory as the module qemu_device takes them, and as EdgeDevices."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

# What an inventory says of a device for Kubernetes alone.
FOR_KUBERNETES = ("labels", "capabilities", "device_type")
CLASSES = {"stm32": ("mcu", "cortex-m4", "128Ki"), "hifive1": ("riscv", "rv32imac", "16Ki")}


def emulated_devices(devices: list[dict], keys: dict[str, str], firmware_dir: str, address: str) -> list[dict]:
    """Return the devices for the module: each with its gateway's key, its board's image and the host's address."""
    rows = []
    for device in devices:
        try:
            row = {
                "address": address,
                "firmware": f"{firmware_dir}/{device['board']}.flash",
                "gateway_key": keys[device["gateway"]],
                **{key: value for key, value in device.items() if key not in FOR_KUBERNETES},
            }
        except (KeyError, TypeError) as error:
            raise AnsibleFilterError(f"emulated device {device!r}: {error} is not there") from error
        rows.append(row)
    return rows


def emulated_edge_devices(made: list[dict], devices: list[dict], device_type: str) -> list[dict]:
    """Return EdgeDevices of the devices that the module made; one without a key, as in check mode, is left out."""
    by_name = {device["name"]: device for device in devices}
    rows = []
    for row in made:
        device = by_name.get(row["name"], {})
        if not row["public_key"]:
            continue
        device_class, cpu, memory = CLASSES[row["board"]]
        rows.append(
            {
                "name": row["name"],
                "labels": {"wasmbed.io/board": row["board"], **device.get("labels", {})},
                "spec": {
                    "deviceType": device.get("device_type", device_type),
                    "deviceClass": device_class,
                    "hardware": {"cpu": cpu, "memory": memory},
                    "capabilities": device.get("capabilities", []),
                    "gatewayRef": {"name": device["gateway"]},
                    "publicKey": row["public_key"],
                },
            }
        )
    return rows


def emulated_lines(hosts: list[dict], gateway: str) -> list[str]:
    """Return the lines of a gateway's devices on hosts, given the hosts' variables."""
    lines = []
    for host in hosts:
        fallback = host.get("qemu_host_address") or host.get("ansible_host") or host.get("inventory_hostname")
        lines += [
            f"tcp:{device.get('address', fallback)}:{device['port']}"
            for device in host.get("qemu_host_devices") or []
            if device.get("gateway") == gateway
        ]
    return lines


class FilterModule:
    """The filters."""

    def filters(self) -> dict:
        return {
            "emulated_devices": emulated_devices,
            "emulated_edge_devices": emulated_edge_devices,
            "emulated_lines": emulated_lines,
        }
