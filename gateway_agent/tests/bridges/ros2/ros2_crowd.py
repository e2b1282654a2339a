"""Ten or so nodes in one process, each in a participant of its own, of our backend or of rclpy; ends with its input.

Usage: ros2_crowd.py dds|rclpy DOMAIN PREFIX COUNT MAX_PARTICIPANTS
"""

from __future__ import annotations

import sys
from typing import Any


def ours(domain_id: int, names: list[str], limit: int) -> list[Any]:
    from wasmbed.bridges.ros2.dds import DdsBackend, Discovery  # noqa: PLC0415 - not there where rclpy is
    from wasmbed.bridges.ros2.types import CodecFactory, TypeStore  # noqa: PLC0415

    codecs = CodecFactory(TypeStore.of("jazzy"))
    discovery = Discovery(interfaces=("lo",), max_participants=limit)
    return [DdsBackend(codecs, domain_id=domain_id, node=name, discovery=discovery) for name in names]


def theirs(domain_id: int, names: list[str]) -> list[Any]:
    import rclpy  # noqa: PLC0415
    from rclpy.context import Context  # noqa: PLC0415

    found = []
    for name in names:
        context = Context()
        rclpy.init(context=context, domain_id=domain_id)
        found.append(rclpy.create_node(name, context=context))
    return found


def main() -> None:
    kind, domain_id, prefix, count, limit = sys.argv[1:]
    names = [f"{prefix}{number}" for number in range(int(count))]
    try:
        made = ours(int(domain_id), names, int(limit)) if kind == "dds" else theirs(int(domain_id), names)
    except Exception as error:
        print(f"failed {error}", flush=True)
        return
    print(f"ready {len(made)}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
