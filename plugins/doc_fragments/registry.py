# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Documentation of the options in module_utils.oci_registry.REGISTRY_ARGUMENTS."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that use an OCI registry."""

    DOCUMENTATION = r"""
options:
  ref:
    description: Reference of the artifact, C(host/repository:tag).
    type: str
    required: true
  username:
    description: User of the registry.
    type: str
  password:
    description: Password of the user.
    type: str
  ca_path:
    description: Certificates in PEM that may sign the registry's. Without it those of the system are used.
    type: path
  mirrors:
    description:
      - Where registries are really reached, from the host in O(ref) to C(host:port). Applications go on naming the
        registry as in O(ref).
    type: dict
    default: {}
requirements:
  - oras >= 0.2 where the module runs, usually the control machine
"""
