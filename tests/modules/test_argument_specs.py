"""The typed options of modules say what the CRDs say, so that neither can drift from the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.wasmbed.edge.plugins.modules import edge_device, wasm_application

CRDS = Path(__file__).resolve().parents[2] / "roles/crds/files"
TYPES = {"string": "str", "integer": "int", "boolean": "bool", "number": "float", "object": "dict", "array": "list"}


def schema_of(plural: str) -> dict[str, Any]:
    document = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(schema["properties"]["spec"])


def ansible_type(schema: dict[str, Any]) -> str:
    # A quantity, which YAML may read as a number.
    return "str" if schema.get("x-kubernetes-int-or-string") else TYPES[schema["type"]]


def differences(path: str, option: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Sentences about options and fields that do not match, below a path."""
    found = []
    if option["type"] != ansible_type(schema):
        found.append(f"{path}: type {option['type']}, not {ansible_type(schema)}")
    if option.get("choices") != schema.get("enum"):
        found.append(f"{path}: choices {option.get('choices')}, not {schema.get('enum')}")
    if schema.get("type") == "array":
        items = schema["items"]
        if option.get("elements") != ansible_type(items):
            found.append(f"{path}: elements {option.get('elements')}, not {ansible_type(items)}")
        schema = items
    properties = schema.get("properties", {})
    options = option.get("options", {})
    if options.keys() != properties.keys():
        return [*found, f"{path}: options {sorted(options)}, fields {sorted(properties)}"]
    missing = [name for name in schema.get("required", []) if not options[name].get("required")]
    found += [f"{path}.{name}: is required" for name in missing]
    for name, below in options.items():
        found += differences(f"{path}.{name}", below, properties[name])
    return found


@pytest.mark.parametrize(
    ("spec", "plural"),
    [
        (edge_device.argument_spec()["devices"]["options"]["spec"], "edgedevices"),
        (wasm_application.argument_spec()["spec"], "wasmapplications"),
    ],
)
def test_options_are_the_fields_of_the_crd(spec: dict[str, Any], plural: str) -> None:
    assert differences("spec", spec, schema_of(plural)) == []
