# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What the modules of autopilots decide before and after they speak with one."""

from __future__ import annotations

import pytest

pytest.importorskip("wasmbed.bridges.mavlink", reason="the distribution wasmbed is not installed here")

from ansible_collections.wasmbed.edge.plugins.module_utils import px4_vehicle
from wasmbed.bridges.mavlink.parameter_values import Parameter

FLOAT, INT32 = 9, 6


def item(command, **changes):
    entry = {"command": command, "latitude": None, "longitude": None, "altitude": None, "above": "home"}
    return {**entry, "params": None, "autocontinue": True, **changes}


def test_values_count_before_the_file_and_texts_are_numbers_too():
    found = px4_vehicle.wanted_values({"A": "2", "B": 1.5}, "A 9\nC 3\n", 1)
    assert found == {"A": 2, "B": 1.5, "C": 3}
    assert isinstance(found["A"], int)


def test_a_file_of_qgroundcontrol_counts_for_its_component_alone():
    text = "1\t1\tMINE\t3\t6\n1\t51\tTHEIRS\t4\t6\n"
    assert px4_vehicle.wanted_values({}, text, 1) == {"MINE": 3}


@pytest.mark.parametrize("value", [True, None, [1], "much"])
def test_what_is_no_number_is_named(value):
    with pytest.raises(px4_vehicle.VehicleError, match=r"parameter A: .* is not a number"):
        px4_vehicle.wanted_values({"A": value}, "", 1)


@pytest.mark.parametrize(
    ("present", "wanted", "same"),
    [
        (Parameter("A", 2.5999999046325684, FLOAT), 2.6, True),
        (Parameter("A", 2.5, FLOAT), 2.6, False),
        (Parameter("A", 3.0, FLOAT), 3, True),
        (Parameter("A", -5, INT32), -5, True),
        (Parameter("A", -5, INT32), -4, False),
    ],
)
def test_a_value_is_there_as_far_as_its_type_holds_it(present, wanted, same):
    assert px4_vehicle.equal(present, wanted) is same


def test_items_have_commands_by_name_and_number_and_places_by_what_they_are_above():
    items = px4_vehicle.plan_items(
        {
            "content": None,
            "items": [
                item("nav_waypoint", latitude=47.0, longitude=8.0, altitude=20.0, params=[2.0]),
                item("16", latitude=47.0, longitude=8.0, altitude=500.0, above="sea_level"),
                item("nav_return_to_launch"),
            ],
        }
    )
    assert [(entry.command, entry.frame, entry.z) for entry in items] == [(16, 3, 20.0), (16, 0, 500.0), (20, 2, 0.0)]
    assert items[0].param1 == 2.0
    assert px4_vehicle.shown(items)[2] == {
        "command": "nav_return_to_launch",
        "frame": 2,
        "params": [0.0, 0.0, 0.0, None],
        "autocontinue": True,
    }
    assert px4_vehicle.same_items(items, px4_vehicle.plan_items({"content": px4_vehicle.as_text(items), "items": None}))
