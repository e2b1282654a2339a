# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Print how a WasmApplication comes up while it is waited for: a module itself can only answer once."""

from __future__ import annotations

import os

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.wasmbed.edge.plugins.module_utils import application_wait
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_api import (
    KUBERNETES_ERROR,
    WASM_APPLICATION,
    KubeApi,
    KubeError,
)
from ansible_collections.wasmbed.edge.plugins.module_utils.kube_objects import without_managed_fields

MODULE = "wasmbed.edge.wasm_application"
display = Display()


class ActionModule(ActionBase):
    """Runs the module without its wait and waits here, when here is where the module runs."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        live = self._waits_here(args)
        if live:
            args["wait"] = False
        result.update(
            self._execute_module(
                module_name=MODULE, module_args=args, task_vars=task_vars, wrap_async=bool(self._task.async_val)
            )
        )
        if not self._task.async_val:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if live and not result.get("failed") and not result.get("skipped"):
            result["invocation"]["module_args"]["wait"] = True
            self._follow(result)
        return result

    def _waits_here(self, args: dict) -> bool:
        """Tell whether to follow here: there is something to wait for, and the module would run in this place."""
        if self._task.async_val or self._task.check_mode or self._connection.become or KUBERNETES_ERROR is not None:
            return False
        try:
            wanted = boolean(args.get("wait", True))
        except TypeError:
            return False
        return wanted and args.get("state", "present") == "present" and self._connection.transport == "local"

    def _follow(self, result: dict) -> None:
        """Wait for the phase, printing each change, and complete the module's result."""
        params = result["invocation"]["module_args"]
        metadata = result["application"]["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        label = f"{namespace}/{name}"
        quiet = self._task.no_log
        kubeconfig = params["kubeconfig"]
        if kubeconfig:
            # Modules run in the playbook's folder, this process where it was started.
            base = os.fsdecode(getattr(self._connection, "cwd", None) or "")
            kubeconfig = os.pathsep.join(os.path.join(base, path) for path in kubeconfig.split(os.pathsep))

        def report(entry: dict, item: dict) -> None:
            if not quiet:
                # Standard error, so that callbacks that write a document to standard output stay whole.
                display.display(f"{label} {entry['at_s']:5.1f} s: {application_wait.describe(item)}", stderr=True)

        try:
            api = KubeApi.connect(kubeconfig, params["context"])
            wait = application_wait.follow(
                lambda: api.get(WASM_APPLICATION, namespace, name),
                label,
                params["wait_phase"],
                params["wait_timeout"],
                report,
            )
        except KubeError as error:
            result.update(failed=True, msg=f"wasmapplications: {error}")
            return
        result["progress"] = wait.progress
        if wait.item is not None:
            result["application"] = without_managed_fields(wait.item)
            result["phase"] = application_wait.snapshot(wait.item)["phase"]
        if wait.error:
            result.update(failed=True, msg=wait.error)
