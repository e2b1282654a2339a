# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What the modules that only read Kubernetes objects share."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    KUBE_ARGUMENTS,
    KUBERNETES_ERROR,
    KUBERNETES_REQUIREMENT,
    Kind,
    KubeApi,
    KubeError,
)
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_objects import key, without_managed_fields


def check_requirements(module: AnsibleModule) -> None:
    """Fail with the name of the package when it is missing."""
    if KUBERNETES_ERROR is not None:
        module.fail_json(msg=missing_required_lib(KUBERNETES_REQUIREMENT), exception=KUBERNETES_ERROR)


def argument_spec() -> dict:
    """Return the options of an information module."""
    return {
        **KUBE_ARGUMENTS,
        "name": {"type": "str"},
        "namespace": {"type": "str"},
        "label_selector": {"type": "str"},
    }


def run(kind: Kind, result: str) -> None:
    """Run an information module that returns objects of one kind under the name C(result)."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    check_requirements(module)
    params = module.params
    fields = f"metadata.name={params['name']}" if params["name"] else ""
    try:
        api = KubeApi.connect(params["kubeconfig"], params["context"])
        items = api.list(kind, params["namespace"], labels=params["label_selector"] or "", fields=fields)
    except KubeError as error:
        module.fail_json(msg=f"{kind.plural}: {error}")
    typed = [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in sorted(items, key=key)]
    module.exit_json(changed=False, **{result: [without_managed_fields(item) for item in typed]})
