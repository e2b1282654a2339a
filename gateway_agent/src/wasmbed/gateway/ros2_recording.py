"""Recording as agent.yaml asks for it: a folder for each start of a bridge, the oldest deleted at the limit of all."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.interrupted import unless_held
from wasmbed.bridges.ros2.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wasmbed.bridges.ros2 import Bridge
    from wasmbed.bridges.ros2.recording import RecordingStatistics
    from wasmbed.gateway.ros2_config import Ros2Config

log = logging.getLogger(__name__)

_PRUNE_S: Final = 10.0


@contextlib.contextmanager
def recording(
    section: Ros2Config, state_directory: Path, bridge: Bridge, domain: int
) -> Iterator[RecordingStatistics | None]:
    """Record the topics of a domain within the context; what cannot be recorded is logged and left out."""
    wanted = section.recording
    topics = [
        item
        for item in (wanted.topics if wanted is not None else ())
        if (section.domain if item.domain is None else item.domain) == domain
    ]
    if wanted is None or not topics:
        yield None
        return
    folder = wanted.folder or state_directory / "recordings"
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 1_000_000_000:09d}-domain{domain}"
    most = wanted.max_total_bytes

    def make_room(size: int) -> bool:
        return prune(folder, folder / name, most - size)

    try:
        recorder = Recorder(folder, name, bridge.node.codecs.store, wanted.limits(), make_room)
    except Ros2Error as error:
        log.error("nothing is recorded error=%s", error)
        yield None
        return
    for item in topics:
        try:
            recorder.subscribe(bridge.node, item.topic, item.full_type, item.profile())
        except Ros2Error as error:
            log.error("topic not recorded topic=%s error=%s", item.topic, error)
    log.info("recording folder=%s topics=%d", recorder.folder, len(topics))
    ended = threading.Event()
    pruner = threading.Thread(target=_prune_until, args=(ended, folder, recorder.folder, most), daemon=True)
    pruner.start()
    try:
        yield recorder.statistics
    finally:
        ended.set()
        pruner.join()
        recorder.close()


def _prune_until(ended: threading.Event, folder: Path, current: Path, limit: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            prune(folder, current, limit)
        if ended.wait(_PRUNE_S):
            return


def prune(folder: Path, current: Path, limit_bytes: int) -> bool:
    """Delete the oldest recordings that nobody writes until all files together are within the limit; whether they are.

    The current one is not deleted, nor is one that is held.
    """
    sizes = {
        path: sum(file.stat().st_size for file in path.iterdir())
        for path in sorted(folder.iterdir())
        if (path / "metadata.yaml").is_file() or path == current
    }
    total = sum(sizes.values())
    for path, size in sizes.items():
        if total <= limit_bytes:
            break
        with unless_held(path) as ours:
            if path != current and ours:
                shutil.rmtree(path)
                total -= size
                log.info("recording deleted for room folder=%s bytes=%d", path, size)
    return total <= limit_bytes
