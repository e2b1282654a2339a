# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What holds for every module of the collection."""

from __future__ import annotations

import ast
import importlib
import pathlib

import pytest
import yaml
from ansible_collections.wasmbed.edge.plugins import doc_fragments

ROOT = pathlib.Path(__file__).parents[4]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


def text(name, variable):
    """Return what a module assigns to DOCUMENTATION, EXAMPLES or RETURN, without importing what it imports."""
    tree = ast.parse((ROOT / f"plugins/modules/{name}.py").read_text())
    (node,) = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == variable]
    return yaml.safe_load(ast.literal_eval(node.value))


def documentation(name):
    """Return a module's documentation with the options and attributes of its fragments."""
    own = text(name, "DOCUMENTATION")
    merged = {"options": {}, "attributes": {}}
    for fragment in [*own.get("extends_documentation_fragment", []), None]:
        part = own
        if fragment is not None:
            file, _dot, variant = fragment.removeprefix("wasmbed.edge.").partition(".")
            cls = importlib.import_module(f"{doc_fragments.__name__}.{file}").ModuleDocFragment
            part = yaml.safe_load(getattr(cls, variant.upper() or "DOCUMENTATION"))
        for section, entries in merged.items():
            for key, value in part.get(section, {}).items():
                entries[key] = {**entries.get(key, {}), **value}
    return {**own, **merged}


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_does_in_check_and_diff_mode_and_when_run_again(name):
    attributes = documentation(name)["attributes"]
    for attribute in ("check_mode", "diff_mode", "idempotent"):
        assert attributes[attribute]["support"] in ("full", "partial", "N/A"), attribute
        # What is partial says which part.
        assert attributes[attribute]["support"] != "partial" or attributes[attribute].get("details"), attribute
        assert attributes[attribute]["description"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_named_tasks_with_full_module_names(name):
    tasks = text(name, "EXAMPLES")
    for task in tasks:
        assert task["name"][0].isupper()
        assert all("." in key for key in task if key not in ("name", "register", "vars", "delegate_to", "become"))
    assert any(f"wasmbed.edge.{name}" in task for task in tasks)


@pytest.mark.parametrize("name", MODULES)
def test_returned_values_have_samples(name):
    for key, value in text(name, "RETURN").items():
        assert value["description"], key
        assert "sample" in value, key
        assert value["returned"], key


@pytest.mark.parametrize("name", MODULES)
def test_module_is_in_the_action_group_whose_options_it_takes(name):
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    found = documentation(name)
    options = found["options"]
    expected = {
        "edge": options.get("kubeconfig", {}).get("type") == "path" and "context" in options,
        "registry": "mirrors" in options,
        "mavlink": "own_system_id" in options,
    }
    assert {group: name in members for group, members in groups.items()} == expected
    membership = found["attributes"].get("action_group", {}).get("membership", [])
    assert membership == [f"wasmbed.edge.{group}" for group, member in expected.items() if member]


@pytest.mark.parametrize("name", MODULES)
def test_license_is_stated_and_its_check_ignored(name):
    head = (ROOT / f"plugins/modules/{name}.py").read_text().splitlines()[:4]
    assert "# SPDX-License-Identifier: MIT" in head
    ignored = (ROOT / "tests/sanity/ignore-2.19.txt").read_text()
    assert f"plugins/modules/{name}.py validate-modules:missing-gplv3-license" in ignored


def test_groups_name_modules_that_exist():
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    assert {name for members in groups.values() for name in members} <= set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name.endswith("_info")])
def test_information_modules_never_change_anything(name):
    assert "only reads" in documentation(name)["attributes"]["check_mode"].get("details", "only reads")
