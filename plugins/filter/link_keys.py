# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Keys of serial links, as the metrics of gateways' agents tell them."""

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError

BEHIND = re.compile(r'^wasmbed_agent_line_gateway_key\{device="([^"]+)",key="(?:previous|unknown)"\} 1', re.MULTILINE)
AT_LINES = re.compile(r'^wasmbed_agent_line_gateway_key\{device="([^"]+)",key="[a-z]+"\} 1', re.MULTILINE)
MADE = re.compile(r'^wasmbed_agent_line_next_key\{device="([^"]+)",key="([^"]+)"\} 1', re.MULTILINE)


def full_name(manifest: dict) -> str:
    """Return namespace/name of an EdgeDevice."""
    try:
        return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"{manifest!r} is no EdgeDevice: {error} is not there") from error


def link_keys_behind(metrics: str) -> list[str]:
    """Return the devices of a gateway that may not know it by its present key."""
    return BEHIND.findall(metrics)


def link_keys_awaited(metrics: str, devices: list[dict]) -> list[str]:
    """Return those of the EdgeDevices that belong to the gateway and have not made their next key."""
    made = dict(MADE.findall(metrics))
    here = set(AT_LINES.findall(metrics))
    return [name for name in map(full_name, devices) if name in here and name not in made]


def link_rekeyed(devices: list[dict], metrics: list[str]) -> list[dict]:
    """Return manifests of the EdgeDevices that made their next key at one of the gateways, with that key."""
    made = dict(pair for text in metrics for pair in MADE.findall(text))
    return [
        {
            "apiVersion": "wasmbed.io/v1",
            "kind": "EdgeDevice",
            "metadata": {
                key: value
                for key, value in device["metadata"].items()
                if key in ("name", "namespace", "labels", "annotations")
            },
            "spec": {**device["spec"], "publicKey": made[full_name(device)]},
        }
        for device in devices
        if full_name(device) in made
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        return {
            "link_keys_behind": link_keys_behind,
            "link_keys_awaited": link_keys_awaited,
            "link_rekeyed": link_rekeyed,
        }
