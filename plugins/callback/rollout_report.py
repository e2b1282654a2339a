# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Write what a playbook run did to each host as one JSON file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
type: aggregate
short_description: Write what a playbook run did to each host as a JSON file
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - After the run, writes the seconds it took, the number of host-tasks, the counters of each host and the names of the
    tasks that changed something. A pipeline or a person reads it to know whether a second run changed anything.
  - Does nothing while no path is set.
requirements:
  - to be listed in C(callbacks_enabled)
options:
  path:
    description: The file to write. It is replaced atomically.
    type: path
    env:
      - name: WASMBED_ROLLOUT_REPORT
    ini:
      - section: callback_rollout_report
        key: path
"""

import json
import os
import tempfile
import time

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Counts host-tasks and changes; writes the report when the run ends."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "wasmbed.edge.rollout_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display=None):
        super().__init__(display=display)
        self._started = time.monotonic()
        self._host_tasks = 0
        self._changed = []
        self._failed = []

    def _note(self, result, bucket=None):
        self._host_tasks += 1
        if bucket is not None:
            bucket.append({"host": result._host.get_name(), "task": result._task.get_name()})

    def v2_runner_on_ok(self, result):
        self._note(result, self._changed if result._result.get("changed") else None)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._note(result, self._failed)

    def v2_runner_on_unreachable(self, result):
        self._note(result, self._failed)

    def v2_runner_on_skipped(self, result):
        self._note(result)

    def v2_playbook_on_stats(self, stats):
        path = self.get_option("path")
        if not path:
            return
        report = {
            "seconds": round(time.monotonic() - self._started, 2),
            "host_tasks": self._host_tasks,
            "hosts": {host: stats.summarize(host) for host in sorted(stats.processed)},
            "changed": self._changed,
            "failed": self._failed,
        }
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".report-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
