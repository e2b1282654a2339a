# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Documentation of the options in module_utils.kube_api.KUBE_ARGUMENTS."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that use the Kubernetes API."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - A kubeconfig file. Without it the environment variable E(KUBECONFIG) is used, then C(~/.kube/config).
    type: path
  context:
    description: The context of the kubeconfig. Without it the current one is used.
    type: str
requirements:
  - kubernetes >= 28 where the module runs, usually the control machine
"""
