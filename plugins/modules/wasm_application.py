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
  spec:
    description: What is to run, where, and within which limits, when there is no manifest.
    type: dict
    suboptions:
      wasmImage:
        description: OCI reference of the module, C(host/repository:tag) or C(host/repository@sha256:digest).
        type: str
        required: true
      targetDevices:
        description: The devices, as the union of these targets.
        type: list
        elements: dict
        required: true
        suboptions:
          deviceType:
            description: C(spec.deviceType) of the devices.
            type: str
            required: true
          selector:
            description: Chooses some of the type by their labels. Without it all are chosen.
            type: dict
            suboptions:
              matchLabels:
                description: Labels that a device must have.
                type: dict
              matchExpressions:
                description: Requirements on labels, all of which must hold.
                type: list
                elements: dict
                suboptions:
                  key:
                    description: The label's key.
                    type: str
                    required: true
                  operator:
                    description: How the label is compared.
                    type: str
                    choices: [In, NotIn, Exists, DoesNotExist]
                    required: true
                  values:
                    description: The values to compare with.
                    type: list
                    elements: str
      resources:
        description: What one instance may use.
        type: dict
        suboptions:
          limits:
            description: Upper limits.
            type: dict
            suboptions:
              memory:
                description: Linear memory, a quantity.
                type: str
              cpu:
                description: Share of a CPU in the mean, a quantity.
                type: str
      runtime:
        description: How the module is run.
        type: dict
        suboptions:
          type:
            description: The engine.
            type: str
            choices: [wasmtime]
          isolation:
            description: V(dedicated) gives the application a process of its own on each gateway and Linux device.
            type: str
            choices: [shared, dedicated]
          config:
            description: Limits of the engine, which can lower those of the device's class.
            type: dict
            suboptions:
              maxMemory:
                description: Linear memory in bytes.
                type: int
              maxStack:
                description: Stack in bytes.
                type: int
              maxCpuMillisPerCall:
                description: CPU time of one call into the module, in milliseconds.
                type: int
      communication:
        description: What the module may talk to.
        type: dict
        suboptions:
          ros2:
            description: Topics of ROS 2.
            type: dict
            suboptions:
              enabled:
                description: Grants C(wasmbed:ros2).
                type: bool
              domainId:
                description: DDS domain.
                type: int
              topics:
                description: Topics the application reads and writes.
                type: list
                elements: dict
                suboptions:
                  topic:
                    description: >-
                      Name of the topic. In it {device} stands for the device's name, with _ for what ROS names do not
                      allow.
                    type: str
                    required: true
                  type:
                    description: Interface type, package/Name or package/msg/Name.
                    type: str
                    required: true
                  direction:
                    description: Whether the application reads or writes.
                    type: str
                    required: true
                    choices: [subscribe, publish]
                  name:
                    description: >-
                      What the application calls it in wasmbed:ros2 open, at most 64 bytes. The topic as it is written
                      here without it.
                    type: str
                  encoding:
                    description: >-
                      What the application reads and writes, cbor without it. cdr is the serialized form of ROS.
                    type: str
                    choices: [cbor, json, cdr]
                  qos:
                    description: Quality of service, a profile of ROS with changes to it.
                    type: dict
                    suboptions:
                      profile:
                        description: The profile, default without it.
                        type: str
                        choices: [default, sensor_data, services, parameters, parameter_events, rosout, latched]
                      reliability:
                        description: Whether lost messages are sent again.
                        type: str
                        choices: [reliable, best_effort]
                      durability:
                        description: Whether subscriptions that come late get what was published before.
                        type: str
                        choices: [transient_local, volatile]
                      history:
                        description: Whether all messages are kept or the last depth.
                        type: str
                        choices: [keep_last, keep_all]
                      depth:
                        description: Messages kept with keep_last.
                        type: int
                      deadline:
                        description: Longest time between two messages, in seconds.
                        type: float
                      lifespan:
                        description: Time after which a message is not delivered any more, in seconds.
                        type: float
                  fields:
                    description: Only these fields of a message, for example header.stamp. All without it.
                    type: list
                    elements: str
                  maxRateHz:
                    description: >-
                      Most messages a second. More are dropped when they come from ROS, and refused when the
                      application sends them.
                    type: float
                  queue:
                    description: Messages that may wait for the application, 64 without it.
                    type: int
                  queueBytes:
                    description: Bytes that may wait for the application, 8388608 without it.
                    type: int
                  drop:
                    description: Which message is dropped when the queue is full, oldest without it.
                    type: str
                    choices: [oldest, newest]
              services:
                description: Services it calls and serves.
                type: list
                elements: dict
                suboptions:
                  service:
                    description: >-
                      Name of the service. In it {device} stands for the device's name, with _ for what ROS names do
                      not allow.
                    type: str
                    required: true
                  type:
                    description: Interface type, package/Name or package/srv/Name.
                    type: str
                    required: true
                  direction:
                    description: Whether the application calls the service or answers the calls.
                    type: str
                    required: true
                    choices: [call, serve]
                  name:
                    description: >-
                      What the application calls it in wasmbed:ros2 open, at most 64 bytes. The service as it is
                      written here without it.
                    type: str
                  encoding:
                    description: >-
                      What the application reads and writes, cbor without it. cdr is the serialized form of ROS.
                    type: str
                    choices: [cbor, json, cdr]
                  timeoutSeconds:
                    description: Time for the other side to answer, 5 s without it.
                    type: float
                  maxRateHz:
                    description: Most messages a second. Calls of the application above it are refused.
                    type: float
                  queue:
                    description: Messages that may wait for the application, 64 without it.
                    type: int
                  queueBytes:
                    description: Bytes that may wait for the application, 8388608 without it.
                    type: int
                  drop:
                    description: Which message is dropped when the queue is full, oldest without it.
                    type: str
                    choices: [oldest, newest]
              actions:
                description: Actions it sends goals to and serves.
                type: list
                elements: dict
                suboptions:
                  action:
                    description: >-
                      Name of the action. In it {device} stands for the device's name, with _ for what ROS names do
                      not allow.
                    type: str
                    required: true
                  type:
                    description: Interface type, package/Name or package/action/Name.
                    type: str
                    required: true
                  direction:
                    description: Whether the application sends goals or carries them out.
                    type: str
                    required: true
                    choices: [call, serve]
                  name:
                    description: >-
                      What the application calls it in wasmbed:ros2 open, at most 64 bytes. The action as it is
                      written here without it.
                    type: str
                  encoding:
                    description: >-
                      What the application reads and writes, cbor without it. cdr is the serialized form of ROS.
                    type: str
                    choices: [cbor, json, cdr]
                  timeoutSeconds:
                    description: Time for the other side to answer, 600 s without it.
                    type: float
                  maxRateHz:
                    description: Most messages a second. Calls of the application above it are refused.
                    type: float
                  queue:
                    description: Messages that may wait for the application, 64 without it.
                    type: int
                  queueBytes:
                    description: Bytes that may wait for the application, 8388608 without it.
                    type: int
                  drop:
                    description: Which message is dropped when the queue is full, oldest without it.
                    type: str
                    choices: [oldest, newest]
          px4:
            description: The autopilot of the device.
            type: dict
            suboptions:
              enabled:
                description: Grants C(wasmbed:px4).
                type: bool
              systemId:
                description: MAVLink system id where the device does not state its own.
                type: int
              componentId:
                description: MAVLink component id.
                type: int
              rights:
                description: What it may do beyond reading. The server names what there is.
                type: list
                elements: str
      allowInFlight:
        description: Lets it be started and updated while the device's vehicle is armed or in the air.
        type: bool
      env:
        description: Values that the module reads. They are stored in the clear, so they must not be secrets.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the value.
            type: str
            required: true
          value:
            description: The value.
            type: str
            required: true
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
