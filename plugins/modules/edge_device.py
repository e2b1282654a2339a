#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Bring a list of EdgeDevices to their state, in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_device
short_description: Bring a list of EdgeDevices to their state in one task
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Reads the devices of each namespace once, compares, and applies those that differ by server-side apply, several at a
    time. A task for a thousand devices costs about as much as one for a single device when nothing changes.
  - The module owns what it applied, as the field manager C(wasmbed-ansible). What it applied before and is no longer
    given is removed; labels and fields that others set are left alone.
  - Every device is tried. When some are refused, the module fails and names each with the server's reason.
extends_documentation_fragment:
  - wasmbed.edge.kube
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.edge_group
options:
  state:
    description: V(present) creates and changes the devices; V(absent) deletes them, by name alone.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: Namespace of devices that name none. Without it that of the kubeconfig's context, else V(default).
    type: str
  definitions:
    description:
      - The devices, or further ones, as manifests. The server checks their fields.
    type: list
    elements: dict
    default: []
  devices:
    description: The devices.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the EdgeDevice.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
      labels:
        description: Its labels, which applications select by.
        type: dict
      annotations:
        description: Its annotations.
        type: dict
      spec:
        description: What the device is and how it is reached. Needed with O(state=present).
        type: dict
        suboptions:
          deviceType:
            description: What the device is, for example V(drone). Applications name it.
            type: str
            required: true
          deviceClass:
            description: Where its modules run. The default follows from its CPU and public key.
            type: str
            choices: [mpu, mcu, riscv, gateway]
          hardware:
            description: Its hardware.
            type: dict
            suboptions:
              cpu:
                description: Architecture or core, for example V(arm64) or V(cortex-m4).
                type: str
              memory:
                description: Size of its memory, a quantity.
                type: str
              storage:
                description: Size of its storage, a quantity.
                type: str
          capabilities:
            description: What it has, for example V(px4). Host functions are granted by it.
            type: list
            elements: str
          location:
            description: Where it is stationed.
            type: dict
            suboptions:
              coordinates:
                description: Latitude and longitude in degrees (WGS 84), and altitude in metres where it is known.
                type: list
                elements: float
                required: true
          network:
            description: How it is reached.
            type: dict
            suboptions:
              gatewayEndpoint:
                description: C(spec.endpoint) of its Gateway, C(host:port).
                type: str
                required: true
          gatewayRef:
            description: Its Gateway by name; goes before the endpoint.
            type: dict
            suboptions:
              name:
                description: Name of the Gateway.
                type: str
                required: true
          publicKey:
            description: Its public key, 32 bytes in base64. Cannot be changed once it is set.
            type: str
          suspend:
            description: The kill switch. While it is true, no application runs on the device or flies its vehicle.
            type: bool
          px4:
            description: Its autopilot.
            type: dict
            suboptions:
              systemId:
                description: MAVLink system id, 1 to 255.
                type: int
                required: true
  purge:
    description:
      - Also delete the devices that O(purge_selector) chooses in the namespaces of the given devices and
        O(namespace), and that are not given.
    type: bool
    default: false
  purge_selector:
    description: Label selector that limits O(purge). There is no purge without one.
    type: str
  force_conflicts:
    description: Take over fields that another manager holds with another value, for example after C(kubectl edit).
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    details: The API server checks each device in a dry run, so that what it would refuse fails in check mode too.
  diff_mode:
    support: full
    details: One difference for each changed device.
  idempotent:
    support: full
seealso:
  - module: wasmbed.edge.edge_device_info
"""

EXAMPLES = r"""
- name: Register two drones
  wasmbed.edge.edge_device:
    kubeconfig: build/site/admin.kubeconfig
    namespace: default
    devices:
      - name: drone-alpha-001
        labels:
          drone-type: quadcopter
        spec:
          deviceType: drone
          hardware:
            cpu: arm64
            memory: 512Mi
          capabilities: [px4, camera]
          location:
            coordinates: [45.4642, 9.19]
          network:
            gatewayEndpoint: gateway.wasmbed.local:8080
      - name: drone-alpha-002
        labels:
          drone-type: quadcopter
        spec:
          deviceType: drone
          gatewayRef:
            name: gw1

- name: Register the devices of a file of manifests
  wasmbed.edge.edge_device:
    definitions: "{{ lookup('ansible.builtin.file', 'devices.yaml') | from_yaml_all }}"

- name: Make the fleet alpha be exactly this list
  wasmbed.edge.edge_device:
    devices: "{{ fleet_alpha }}"
    purge: true
    purge_selector: fleet=alpha

- name: Remove a device
  wasmbed.edge.edge_device:
    state: absent
    devices:
      - name: drone-alpha-002
"""

RETURN = r"""
changed_devices:
  description: Devices that were created, changed or deleted, as C(namespace/name).
  returned: always, once the API was read
  type: list
  elements: str
  sample: [default/drone-alpha-001]
counts:
  description: Numbers of devices by what became of them.
  returned: always, once the API was read
  type: dict
  sample: {"created": 1, "updated": 0, "deleted": 0, "unchanged": 1, "refused": 0}
errors:
  description: Each device that was refused, with the server's reason.
  returned: failure, once the API was read
  type: list
  elements: dict
  sample: [{"device": "default/drone-9", "message": "spec.network.gatewayEndpoint must be host:port"}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils import kube_info, manifests
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    EDGE_DEVICE,
    KUBE_ARGUMENTS,
    KubeApi,
    KubeError,
)
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_objects import (
    Outcome,
    Reconciler,
    key,
    label_values,
    prune,
)

# So many refusals are named in the message; all of them are in `errors`.
SHOWN_ERRORS = 10
VERBS = ("created", "updated", "deleted", "unchanged", "refused")


def argument_spec() -> dict:
    text = {"type": "str"}
    required = {"type": "str", "required": True}

    def group(**options: dict) -> dict:
        return {"type": "dict", "options": options}

    spec = group(
        deviceType=required,
        deviceClass={"type": "str", "choices": ["mpu", "mcu", "riscv", "gateway"]},
        hardware=group(cpu=text, memory=text, storage=text),
        capabilities={"type": "list", "elements": "str"},
        location=group(coordinates={"type": "list", "elements": "float", "required": True}),
        network=group(gatewayEndpoint=required),
        gatewayRef=group(name=required),
        publicKey={"type": "str", "no_log": False},
        suspend={"type": "bool"},
        px4=group(systemId={"type": "int", "required": True}),
    )
    labels = {"type": "dict"}
    device = {"name": required, "namespace": text, "labels": labels, "annotations": labels, "spec": spec}
    return {
        **KUBE_ARGUMENTS,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "namespace": text,
        "definitions": {"type": "list", "elements": "dict", "default": []},
        "devices": {"type": "list", "elements": "dict", "default": [], "options": device},
        "purge": {"type": "bool", "default": False},
        "purge_selector": text,
        "force_conflicts": {"type": "bool", "default": True},
    }


def desired_object(device: dict, namespace: str) -> dict:
    """Return the object to apply for one of the devices."""
    metadata = {"name": device["name"], "namespace": device["namespace"] or namespace}
    for field in ("labels", "annotations"):
        if device[field]:
            metadata[field] = label_values(device[field])
    return {"metadata": metadata, "spec": prune(device["spec"] or {})}


def desired_objects(params: dict, namespace: str) -> list[dict]:
    """Return the objects to apply. Raises KubeError when one is listed twice or a manifest is none."""
    items = [manifests.desired(EDGE_DEVICE, manifest, namespace) for manifest in params["definitions"]]
    items += [desired_object(device, namespace) for device in params["devices"]]
    wanted: dict[str, dict] = {}
    for item in items:
        if key(item) in wanted:
            raise KubeError(f"{key(item)} is listed twice; give each device once")
        wanted[key(item)] = item
    return items


def reconcile(api: KubeApi, params: dict, dry_run: bool) -> list[Outcome]:
    """Bring the devices to their state and return what became of each."""
    namespace = params["namespace"] or api.namespace
    desired = desired_objects(params, namespace)
    names = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in desired]
    reconciler = Reconciler(api, EDGE_DEVICE, dry_run=dry_run, force=params["force_conflicts"])
    found = reconciler.read(names)
    if params["state"] == "absent":
        missing = [Outcome(key(item), {}, {}) for item in desired if key(item) not in found]
        return reconciler.delete([found[key(item)] for item in desired if key(item) in found]) + missing
    outcomes = reconciler.apply(desired, found)
    if params["purge"] and not any(outcome.error for outcome in outcomes):
        keep = {key(item) for item in desired}
        for place in sorted({namespace, *(place for place, dummy in names)}):
            chosen = reconciler.select(place, params["purge_selector"])
            outcomes += reconciler.delete([item for name, item in chosen.items() if name not in keep])
    return outcomes


def failure(outcomes: list[Outcome]) -> str:
    """Return one sentence that names the refused devices, the first of them with their reasons."""
    refused = [outcome for outcome in outcomes if outcome.error]
    shown = "; ".join(f"{outcome.key}: {outcome.error}" for outcome in refused[:SHOWN_ERRORS])
    more = f"; and {len(refused) - SHOWN_ERRORS} more, see errors" if len(refused) > SHOWN_ERRORS else ""
    return f"{len(refused)} of {len(outcomes)} devices were refused: {shown}{more}"


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_one_of=[("devices", "definitions")],
        required_if=[("purge", True, ("purge_selector",))],
        supports_check_mode=True,
    )
    kube_info.check_requirements(module)
    params = module.params
    if params["state"] == "present":
        bare = [device["name"] for device in params["devices"] if device["spec"] is None]
        if bare:
            module.fail_json(msg=f"devices without a spec: {', '.join(bare)}; give each a spec with its deviceType")
    elif params["purge"]:
        module.fail_json(msg="purge goes with state present; list the devices to delete, or purge from what is to stay")
    try:
        api = KubeApi.connect(params["kubeconfig"], params["context"])
        outcomes = reconcile(api, params, module.check_mode)
    except KubeError as error:
        module.fail_json(msg=f"edgedevices: {error}")
    changed = [outcome for outcome in outcomes if outcome.changed]
    verbs = [outcome.verb for outcome in outcomes]
    result = {
        "changed": bool(changed),
        "changed_devices": [outcome.key for outcome in changed],
        "counts": {verb: verbs.count(verb) for verb in VERBS},
    }
    if module._diff:
        result["diff"] = [outcome.diff() for outcome in changed]
    if any(outcome.error for outcome in outcomes):
        result["errors"] = [{"device": item.key, "message": item.error} for item in outcomes if item.error]
        module.fail_json(msg=failure(outcomes), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
