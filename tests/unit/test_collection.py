# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What holds for every role, for the inventories, and for what goes into the collection's tarball."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager

ROOT = pathlib.Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
INVENTORIES = sorted(path.name for path in (ROOT / "inventory").glob("*") if path.is_dir())
GALAXY = ROOT / "galaxy.yml"


def load(path):
    return yaml.safe_load((ROOT / path).read_text())


def specification(role):
    return load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]


def tasks_of(role):
    """Return every task of a role, those in blocks too."""
    found = []
    waiting = [task for path in (ROOT / f"roles/{role}/tasks").rglob("*.yml") for task in load(path) or []]
    while waiting:
        task = waiting.pop()
        found.append(task)
        waiting += [inner for key in ("block", "rescue", "always") for inner in task.get(key, [])]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specs(role):
    options = specification(role).get("options", {})
    specified = {name: option["default"] for name, option in options.items() if "default" in option}
    assert load(f"roles/{role}/defaults/main.yml") == specified


@pytest.mark.parametrize("role", ROLES)
def test_option_without_default_is_required(role):
    options = specification(role).get("options", {})
    assert [name for name, option in options.items() if "default" not in option and not option.get("required")] == []


@pytest.mark.parametrize("role", ROLES)
def test_options_have_the_roles_prefix_and_private_variables_two_underscores(role):
    assert [name for name in specification(role).get("options", {}) if not name.startswith(f"{role}_")] == []
    variables = ROOT / f"roles/{role}/vars/main.yml"
    if variables.exists():
        assert [name for name in load(variables) if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_readme_lists_every_option_with_its_description(role):
    readme = (ROOT / f"roles/{role}/README.md").read_text()
    for name, option in specification(role).get("options", {}).items():
        assert f"| `{name}` |" in readme
        assert option["description"]


@pytest.mark.parametrize("role", ROLES)
def test_role_says_for_what_it_is(role):
    galaxy = load(f"roles/{role}/meta/main.yml")["galaxy_info"]
    assert galaxy["license"] == "MIT"
    assert galaxy["min_ansible_version"] == "2.19"
    assert load(f"roles/{role}/meta/main.yml")["dependencies"] == []


@pytest.mark.parametrize("role", ROLES)
def test_tasks_have_sentences_for_names_and_hide_no_failure(role):
    for task in tasks_of(role):
        assert len(task["name"].split()) > 1, task["name"]
        assert not task.get("ignore_errors"), task["name"]
        assert task.get("changed_when") is not True, task["name"]


@pytest.mark.parametrize("role", ROLES)
def test_tags_are_the_roles_own(role):
    stages = {role, f"{role}_install", f"{role}_configure", f"{role}_run", "never", "verify"}
    main = load(f"roles/{role}/tasks/main.yml")
    for task in main:
        tags = task.get("tags", [])
        assert tags, task["name"]
        assert set(tags) <= stages, task["name"]


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_inventory_has_the_groups_that_the_site_playbook_wants(inventory):
    loader = DataLoader()
    found = InventoryManager(loader=loader, sources=[str(ROOT / "inventory" / inventory)])
    variables = VariableManager(loader=loader, inventory=found)
    for group in ("operator", "site", "control_plane", "registry", "controller", "gateways"):
        hosts = found.get_hosts(group)
        assert hosts, group
        assert all("site_dir" in variables.get_vars(host=host) for host in hosts)
        assert group == "operator" or set(hosts) <= set(found.get_hosts("site"))


@pytest.mark.skipif(not GALAXY.exists(), reason="the tarball has no galaxy.yml")
def test_tarball_leaves_out_what_is_made_here_and_keeps_what_is_needed():
    ignored = set(yaml.safe_load(GALAXY.read_text())["build_ignore"])
    assert {".venv", "build", "collections/ansible_collections", "ansible.cfg", ".git"} <= ignored
    # These would take collections/requirements.yml, the roles' bundles and the modules with them.
    assert not {"collections", "roles", "plugins", "playbooks", "meta", "inventory", "*"} & ignored
    declared = set(yaml.safe_load(GALAXY.read_text())["dependencies"])
    assert {entry["name"] for entry in load("collections/requirements.yml")["collections"]} == declared
