# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Which objects need an apply, and what is shown of them."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import kube_objects

DESIRED = {
    "metadata": {"name": "a", "namespace": "default", "labels": {"x": "1"}},
    "spec": {"deviceType": "drone", "capabilities": ["px4"], "env": [{"name": "A", "value": "1"}]},
}
FIELDS = {
    "f:metadata": {"f:labels": {"f:x": {}}},
    "f:spec": {
        "f:deviceType": {},
        "f:capabilities": {'v:"px4"': {}},
        "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
    },
}


def live(fields=None, **changes):
    """An object as the server answers it, applied by us."""
    entry = {"manager": "wasmbed-ansible", "operation": "Apply", "fieldsV1": fields or FIELDS}
    metadata = {**DESIRED["metadata"], "uid": "u", "resourceVersion": "7", "managedFields": [entry]}
    return {
        "apiVersion": "wasmbed.io/v1",
        "kind": "EdgeDevice",
        "metadata": metadata,
        "spec": {**DESIRED["spec"], **changes},
        "status": {"phase": "Connected"},
    }


def test_an_equal_object_needs_no_apply():
    assert not kube_objects.needs_apply(live(), DESIRED)


def test_a_value_that_the_server_added_needs_no_apply():
    assert not kube_objects.needs_apply(live(deviceClass="gateway"), DESIRED)


@pytest.mark.parametrize(
    "item",
    [
        None,
        live(deviceType="rover"),
        live(capabilities=[]),
        live(capabilities=["px4", "gps"]),
        live(env=[{"name": "A", "value": "2"}]),
    ],
)
def test_a_missing_or_different_object_needs_an_apply(item):
    assert kube_objects.needs_apply(item, DESIRED)


@pytest.mark.parametrize(
    "fields",
    [
        {**FIELDS, "f:metadata": {"f:labels": {"f:x": {}, "f:y": {}}}},
        {"f:metadata": {"f:annotations": {"f:n": {}}}},
        {"f:spec": {"f:capabilities": {'v:"px4"': {}, 'v:"gps"': {}}}},
        {"f:spec": {"f:env": {'k:{"name":"B"}': {".": {}, "f:name": {}}}}},
        {"f:spec": {"f:hardware": {"f:cpu": {}}}},
    ],
)
def test_what_we_own_and_no_longer_want_needs_an_apply(fields):
    assert kube_objects.needs_apply(live(fields), DESIRED)


def test_fields_of_other_managers_are_not_ours_to_remove():
    item = live()
    other = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:z": {}}}}}
    item["metadata"]["managedFields"].append(other)
    assert not kube_objects.needs_apply(item, DESIRED)


def test_one_is_not_true():
    assert not kube_objects.covers(True, 1)
    assert kube_objects.covers(1.0, 1)


def test_content_is_what_a_user_wrote():
    item = live()
    item["metadata"]["annotations"] = {kube_objects.LAST_APPLIED: "{}"}
    shown = kube_objects.content(item)
    assert shown["metadata"] == DESIRED["metadata"]
    assert set(shown) == {"apiVersion", "kind", "metadata", "spec"}
    assert kube_objects.content(None) == {}


def test_labels_are_text():
    assert kube_objects.label_values({"a": 1, "b": True, "c": "x"}) == {"a": "1", "b": "true", "c": "x"}


def test_prune_drops_options_that_were_not_given():
    assert kube_objects.prune({"a": None, "b": [{"c": None, "d": 0}]}) == {"b": [{"d": 0}]}


@pytest.mark.parametrize(
    ("before", "after", "error", "verb"),
    [
        ({}, {"a": 1}, "", "created"),
        ({"a": 1}, {"a": 2}, "", "updated"),
        ({"a": 1}, {}, "", "deleted"),
        ({"a": 1}, {"a": 1}, "", "unchanged"),
        ({"a": 1}, {"a": 2}, "no", "refused"),
    ],
)
def test_outcomes_have_one_word(before, after, error, verb):
    outcome = kube_objects.Outcome("n/a", before, after, None, error)
    assert outcome.verb == verb
    assert outcome.changed is (verb in ("created", "updated", "deleted"))
