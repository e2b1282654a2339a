# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""The EdgeDevices of a cluster as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge_devices
short_description: The EdgeDevices of a cluster as hosts
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Every EdgeDevice that the selectors choose becomes a host of its name, in the group O(group). What the cluster knows
    of it is its variable C(edge_device), a dictionary with C(name), C(namespace), C(labels), C(device_type),
    C(device_class), C(capabilities), C(gateway) (the Gateway that serves it, empty while there is none), C(phase),
    C(system_id) (the MAVLink system id of its autopilot, left out where it states none) and C(vehicle) (what the
    autopilot shows, left out while none was heard).
  - Nothing logs in to these hosts. The role P(wasmbed.edge.vehicle#role) configures their autopilots through their
    gateways, which are hosts of another inventory.
  - The inventory's file ends with C(edge_devices.yml) or C(edge_devices.yaml).
extends_documentation_fragment:
  - wasmbed.edge.kube
  - ansible.builtin.constructed
options:
  plugin:
    description: Marks a file as one of this plugin.
    required: true
    choices: [wasmbed.edge.edge_devices]
  kubeconfig:
    env:
      - name: KUBECONFIG
  namespace:
    description: Only those of this namespace. Without it those of all namespaces.
    type: str
  label_selector:
    description: Only those whose labels match, in the notation of C(kubectl -l).
    type: str
    default: ""
  vehicles_only:
    description: Only those that state the system id of an autopilot.
    type: bool
    default: false
  group:
    description: The group that all of them are in.
    type: str
    default: edge_devices
requirements:
  - kubernetes >= 28 on the control machine
"""

EXAMPLES = r"""
# fleet.edge_devices.yml: the vehicles of a site, by label and by gateway; the gateways are in the site's inventory:
#   ansible-playbook -i inventory/my-site -i fleet.edge_devices.yml playbooks/configure_vehicles.yml
plugin: wasmbed.edge.edge_devices
kubeconfig: build/site/admin.kubeconfig
label_selector: mission=patrol
vehicles_only: true
group: vehicles
keyed_groups:
  - prefix: gateway
    key: edge_device.gateway
  - prefix: phase
    key: edge_device.phase
groups:
  quadcopters: edge_device.labels['drone-type'] | default('') == 'quadcopter'
"""

from ansible.errors import AnsibleParserError
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    EDGE_DEVICE,
    KUBERNETES_ERROR,
    KUBERNETES_REQUIREMENT,
    KubeApi,
    KubeError,
)


def device_variables(item: dict) -> dict:
    """Return what the cluster knows of an EdgeDevice."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    found = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "labels": metadata.get("labels", {}),
        "device_type": spec["deviceType"],
        "device_class": status.get("deviceClass", ""),
        "capabilities": spec.get("capabilities", []),
        "gateway": status.get("gateway", ""),
        "phase": status.get("phase", "Pending"),
    }
    system_id = spec.get("px4", {}).get("systemId")
    if system_id is not None:
        found["system_id"] = system_id
    if "vehicle" in status:
        found["vehicle"] = status["vehicle"]
    return found


def unique_by_name(devices: list[dict]) -> dict[str, dict]:
    """Return devices by name. Raises ValueError for two of the same name in different namespaces."""
    found: dict[str, dict] = {}
    for device in devices:
        other = found.setdefault(device["name"], device)
        if other is not device:
            raise ValueError(
                f"{device['name']} is in the namespaces {other['namespace']} and {device['namespace']}, and a host has "
                "one name; give the option namespace, and each namespace a file of its own"
            )
    return found


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Reads the cluster once a run."""

    NAME = "wasmbed.edge.edge_devices"

    def verify_file(self, path):
        """Whether the file is one of this plugin."""
        return super().verify_file(path) and path.endswith(("edge_devices.yml", "edge_devices.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Read the EdgeDevices and make hosts of them."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        if KUBERNETES_ERROR is not None:
            raise AnsibleParserError(missing_required_lib(KUBERNETES_REQUIREMENT))
        try:
            api = KubeApi.connect(self.get_option("kubeconfig"), self.get_option("context"))
            items = api.list(EDGE_DEVICE, self.get_option("namespace"), labels=self.get_option("label_selector"))
            devices = unique_by_name([device_variables(item) for item in items])
        except (KubeError, ValueError) as error:
            raise AnsibleParserError(f"{path}: {error}") from error
        group = self.inventory.add_group(self.get_option("group"))
        strict = self.get_option("strict")
        for name, device in sorted(devices.items()):
            if self.get_option("vehicles_only") and "system_id" not in device:
                continue
            self.inventory.add_host(name, group=group)
            self.inventory.set_variable(name, "edge_device", device)
            variables = {"edge_device": device, "inventory_hostname": name}
            self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
