# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Documentation of a WasmApplication's spec, as wasm_application.spec_options() has it."""

from __future__ import annotations


class ModuleDocFragment:
    """The option spec. What all routes of ROS 2 have is written once and referred to."""

    DOCUMENTATION = r"""
options:
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
                  name: &name
                    description: >-
                      What the application calls it in wasmbed:ros2 open, at most 64 bytes. As it is written here
                      without it.
                    type: str
                  encoding: &encoding
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
                  queue: &queue
                    description: Messages that may wait for the application, 64 without it.
                    type: int
                  queueBytes: &queue_bytes
                    description: Bytes that may wait for the application, 8388608 without it.
                    type: int
                  drop: &drop
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
                  name: *name
                  encoding: *encoding
                  timeoutSeconds:
                    description: Time for the other side to answer, 5 s without it.
                    type: float
                  maxRateHz:
                    description: Most messages a second. Calls of the application above it are refused.
                    type: float
                  queue: *queue
                  queueBytes: *queue_bytes
                  drop: *drop
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
                  name: *name
                  encoding: *encoding
                  timeoutSeconds:
                    description: Time for the other side to answer, 600 s without it.
                    type: float
                  maxRateHz:
                    description: Most messages a second. Calls of the application above it are refused.
                    type: float
                  queue: *queue
                  queueBytes: *queue_bytes
                  drop: *drop
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
"""
