#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Apply a WasmApplication and wait until it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_application
short_description: Apply a WasmApplication and wait until it runs
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Applies the application by server-side apply as the field manager C(wasmbed-ansible), and waits for its phase.
  - While it waits, each change of phase, counts or reason is printed as it happens when the module runs on the control
    machine (C(connection) is C(local), not C(async)); it is returned in RV(progress) in any case.
  - Fails with the cluster's reason and message and the failing devices. A module that is invalid fails at once, an
    image that cannot be pulled after 15 seconds, anything else when O(wait_timeout) is over.
extends_documentation_fragment:
  - wasmbed.edge.kube
  - wasmbed.edge.attributes
  - wasmbed.edge.attributes.edge_group
  - wasmbed.edge.application_spec
options:
  state:
    description:
      - V(present) creates or changes the application.
      - V(absent) deletes it, by name alone, and waits until its modules stopped and it is gone.
    type: str
    choices: [present, absent]
    default: present
  definition:
    description: The application as a manifest.
    type: dict
  src:
    description: A YAML file with the manifest, and nothing else, where the module runs.
    type: path
  name:
    description: Name of the application, when there is no manifest.
    type: str
  namespace:
    description:
      - Namespace, when the manifest names none. Without it that of the kubeconfig's context, else V(default).
    type: str
  labels:
    description: Labels of the application, when there is no manifest.
    type: dict
  annotations:
    description: Annotations of the application, when there is no manifest.
    type: dict
  wait:
    description: Wait for O(wait_phase), or with O(state=absent) until it is gone.
    type: bool
    default: true
  wait_phase:
    description: The phase to wait for.
    type: str
    choices: [Pending, Deploying, Running, Degraded, Failed]
    default: Running
  wait_timeout:
    description: How long to wait, in seconds.
    type: float
    default: 120
  force_conflicts:
    description: Take over fields that another manager holds with another value, for example after C(kubectl edit).
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    details: The API server checks the application in a dry run; nothing is waited for.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: wasmbed.edge.wasm_application_info
  - module: wasmbed.edge.wasm_artifact
"""

EXAMPLES = r"""
- name: Deploy an application from its manifest and wait until it runs
  wasmbed.edge.wasm_application:
    kubeconfig: build/site/admin.kubeconfig
    src: examples/hello/application.yaml
    namespace: default

- name: Deploy the very bytes that were pushed
  wasmbed.edge.wasm_application:
    name: hello
    spec:
      wasmImage: "{{ pushed.pinned_ref }}"
      targetDevices:
        - deviceType: drone
          selector:
            matchLabels:
              drone-type: quadcopter
      resources:
        limits:
          memory: 16Mi
    wait_timeout: 60

- name: Remove it and wait until its modules stopped
  wasmbed.edge.wasm_application:
    name: hello
    state: absent
"""

RETURN = r"""
application:
  description: The application as last seen, with its status, without C(metadata.managedFields).
  returned: when it exists, outside check mode
  type: dict
  sample:
    apiVersion: wasmbed.io/v1
    kind: WasmApplication
    metadata: {"name": "hello", "namespace": "default"}
    status: {"phase": "Running", "resolvedDigest": "sha256:9f86d0"}
phase:
  description: Its phase; V(Pending) until the controller has taken up the present spec.
  returned: when it exists, outside check mode
  type: str
  sample: Running
progress:
  description:
    - What was seen while waiting, each with the seconds since the apply. The last 200 when there are more.
  returned: when it was waited for a phase
  type: list
  elements: dict
  sample:
    - at_s: 1.27
      phase: Running
      reason: ""
      message: ""
      counts: {"selected": 1, "running": 1, "failed": 0, "pending": 0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wasmbed.edge.plugins.module_utils import application_wait, kube_info, manifests
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    KUBE_ARGUMENTS,
    WASM_APPLICATION,
    KubeApi,
    KubeError,
)
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_objects import (
    Outcome,
    Reconciler,
    key,
    without_managed_fields,
)


def route_options() -> dict:
    """Options of the routes of ROS 2."""

    def choice(*words: str) -> dict:
        return {"type": "str", "choices": list(words)}

    text = {"type": "str"}
    required = {"type": "str", "required": True}
    number = {"type": "int"}
    real = {"type": "float"}
    common = {
        "type": required,
        "name": text,
        "encoding": choice("cbor", "json", "cdr"),
        "maxRateHz": real,
        "queue": number,
        "queueBytes": number,
        "drop": choice("oldest", "newest"),
    }
    quality = {
        "profile": choice("default", "sensor_data", "services", "parameters", "parameter_events", "rosout", "latched"),
        "reliability": choice("reliable", "best_effort"),
        "durability": choice("transient_local", "volatile"),
        "history": choice("keep_last", "keep_all"),
        "depth": number,
        "deadline": real,
        "lifespan": real,
    }

    def routes(directions: tuple[str, str], **options: dict) -> dict:
        direction = {**choice(*directions), "required": True}
        return {"type": "list", "elements": "dict", "options": {**common, "direction": direction, **options}}

    return {
        "topics": routes(
            ("subscribe", "publish"),
            topic=required,
            qos={"type": "dict", "options": quality},
            fields={"type": "list", "elements": "str"},
        ),
        "services": routes(("call", "serve"), service=required, timeoutSeconds=real),
        "actions": routes(("call", "serve"), action=required, timeoutSeconds=real),
    }


def spec_options() -> dict:
    text = {"type": "str"}
    required = {"type": "str", "required": True}
    number = {"type": "int"}
    boolean = {"type": "bool"}

    def group(**options: dict) -> dict:
        return {"type": "dict", "options": options}

    def groups(**options: dict) -> dict:
        return {"type": "list", "elements": "dict", "options": options}

    strings = {"type": "list", "elements": "str"}
    expression = groups(
        key={"type": "str", "required": True, "no_log": False},
        operator={"type": "str", "choices": ["In", "NotIn", "Exists", "DoesNotExist"], "required": True},
        values=strings,
    )
    return group(
        wasmImage=required,
        targetDevices={
            **groups(deviceType=required, selector=group(matchLabels={"type": "dict"}, matchExpressions=expression)),
            "required": True,
        },
        resources=group(limits=group(memory=text, cpu=text)),
        runtime=group(
            type={"type": "str", "choices": ["wasmtime"]},
            isolation={"type": "str", "choices": ["shared", "dedicated"]},
            config=group(maxMemory=number, maxStack=number, maxCpuMillisPerCall=number),
        ),
        communication=group(
            ros2=group(enabled=boolean, domainId=number, **route_options()),
            px4=group(enabled=boolean, systemId=number, componentId=number, rights=strings),
        ),
        allowInFlight=boolean,
        env=groups(name=required, value=required),
    )


def argument_spec() -> dict:
    return {
        **KUBE_ARGUMENTS,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "definition": {"type": "dict"},
        "src": {"type": "path"},
        "name": {"type": "str"},
        "namespace": {"type": "str"},
        "labels": {"type": "dict"},
        "annotations": {"type": "dict"},
        "spec": spec_options(),
        "wait": {"type": "bool", "default": True},
        "wait_phase": {"type": "str", "choices": list(application_wait.PHASES), "default": "Running"},
        "wait_timeout": {"type": "float", "default": 120},
        "force_conflicts": {"type": "bool", "default": True},
    }


def desired_object(params: dict, namespace: str) -> dict:
    """Return the object to apply, or to delete, from whichever options describe it."""
    if params["src"]:
        manifest = manifests.load(params["src"])
    else:
        manifest = params["definition"] or manifests.from_options(WASM_APPLICATION, params)
    return manifests.desired(WASM_APPLICATION, manifest, namespace)


def run(module: AnsibleModule, api: KubeApi) -> tuple[Outcome, application_wait.Wait | None]:
    """Bring the application to its state; return what became of it, and the wait if there was one."""
    params = module.params
    item = desired_object(params, params["namespace"] or api.namespace)
    namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]

    def read() -> dict | None:
        return api.get(WASM_APPLICATION, namespace, name)

    reconciler = Reconciler(api, WASM_APPLICATION, dry_run=module.check_mode, force=params["force_conflicts"])
    found = reconciler.read([(namespace, name)])
    live = found.get(key(item))
    if params["state"] == "absent":
        outcome = reconciler.delete([live])[0] if live else Outcome(key(item), {}, {})
        if live and params["wait"] and not outcome.error and not module.check_mode:
            error = application_wait.wait_gone(read, key(item), params["wait_timeout"], live["metadata"]["uid"])
            return outcome, application_wait.Wait(None, [], error)
        return outcome, None
    outcome = reconciler.apply([item], found)[0]
    if not params["wait"] or outcome.error or module.check_mode:
        return outcome, None
    return outcome, application_wait.follow(read, key(item), params["wait_phase"], params["wait_timeout"])


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[
            ("definition", "src", "name"),
            *((manifest, field) for manifest in ("definition", "src") for field in ("spec", "labels", "annotations")),
        ],
        required_one_of=[("definition", "src", "name")],
        supports_check_mode=True,
    )
    kube_info.check_requirements(module)
    params = module.params
    if params["state"] == "present" and params["name"] and not params["spec"]:
        module.fail_json(msg=f"application {params['name']} has no spec; give one with wasmImage and targetDevices")
    try:
        api = KubeApi.connect(params["kubeconfig"], params["context"])
        outcome, wait = run(module, api)
    except KubeError as error:
        module.fail_json(msg=f"wasmapplications: {error}")
    result = {"changed": outcome.changed}
    if module._diff and outcome.changed:
        result["diff"] = outcome.diff()
    live = wait.item if wait else outcome.live
    if live and not module.check_mode:
        result["application"] = without_managed_fields(live)
        result["phase"] = application_wait.snapshot(live)["phase"]
    if wait and params["state"] == "present":
        result["progress"] = wait.progress
    if outcome.error:
        module.fail_json(msg=f"application {outcome.key} was refused: {outcome.error}", **result)
    if wait and wait.error:
        module.fail_json(msg=wait.error, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
