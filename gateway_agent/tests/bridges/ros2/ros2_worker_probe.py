"""The worker of the rclpy backend, as it is, with a command more that tells how many replies rclpy itself waits for."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

_spec = importlib.util.spec_from_file_location("worker", os.environ["WASMBED_TEST_WORKER"])
assert _spec is not None
assert _spec.loader is not None
worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(worker)


def waiting(self: Any) -> dict[str, Any]:
    return {"rclpy": sum(len(client._pending_requests) for client in self.node.clients), "ours": len(self.pending)}


worker.Worker.waiting = waiting
worker.main()
