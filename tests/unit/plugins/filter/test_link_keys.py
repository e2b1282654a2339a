"""The filters that read keys of serial links out of the agents' metrics."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wasmbed.edge.plugins.filter.link_keys import (
    link_keys_awaited,
    link_keys_behind,
    link_rekeyed,
)

METRICS = """\
# HELP wasmbed_agent_line_gateway_key By which key
wasmbed_agent_line_gateway_key{device="default/a",key="current"} 1.0
wasmbed_agent_line_gateway_key{device="default/b",key="previous"} 1.0
wasmbed_agent_line_gateway_key{device="default/c",key="unknown"} 1.0
wasmbed_agent_line_next_key{device="default/a",key="QUJD="} 1.0
"""


def device(name: str) -> dict:
    metadata = {"name": name, "namespace": "default", "labels": {"x": "y"}, "uid": "1", "resourceVersion": "7"}
    spec = {"deviceType": "sensor", "publicKey": "before"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Connected"}}


def test_devices_that_may_not_know_the_present_key_are_named() -> None:
    assert link_keys_behind(METRICS) == ["default/b", "default/c"]
    assert link_keys_behind("") == []


def test_devices_of_another_gateway_are_not_awaited() -> None:
    assert link_keys_awaited(METRICS, [device(name) for name in "abd"]) == ["default/b"]


def test_a_device_that_made_its_key_is_registered_with_it_and_nothing_of_the_server() -> None:
    assert link_rekeyed([device("a"), device("b")], ["", METRICS]) == [
        {
            "apiVersion": "wasmbed.io/v1",
            "kind": "EdgeDevice",
            "metadata": {"name": "a", "namespace": "default", "labels": {"x": "y"}},
            "spec": {"deviceType": "sensor", "publicKey": "QUJD="},
        }
    ]


def test_what_is_no_device_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="is no EdgeDevice"):
        link_rekeyed([{"spec": {}}], [METRICS])
