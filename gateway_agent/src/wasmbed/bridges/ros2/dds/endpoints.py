"""Publishers and subscriptions of serialized messages."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.backend import EndpointStatistics
from wasmbed.bridges.ros2.dds import binding
from wasmbed.bridges.ros2.errors import CdrError, Ros2Error
from wasmbed.bridges.ros2.qos import POLICIES
from wasmbed.bridges.ros2.types.cdr import check_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.bridges.ros2.backend import BatchCallback
    from wasmbed.bridges.ros2.dds.context import Context
    from wasmbed.bridges.ros2.qos import QosProfile

log = logging.getLogger(__name__)

# Samples that wait for our thread in the reader's own cache, whose overflow DDS does not count: deeper than asked for,
# so that a busy machine loses nothing there, and less deep for types of any size.
CACHE: Final = 512
LARGE_CACHE: Final = 64
# Samples taken before other readers have their turn: all of a cache, to see whether it was full, unless it is deeper.
BATCH: Final = 128
MAX_BATCH: Final = 1024
MAX_MESSAGE: Final = 64 << 20
# When nobody has room for the messages of a topic, the next ones are taken this much later and so more at a time, which
# leaves more of the processor to who is to take them.
PAUSE_S: Final = 0.001
# Messages that come quicker than this, in the mean of so many takes, are taken together a little later: being woken for
# each costs more than reading it. Two nodes that answer each other at once are slower.
QUICK_S: Final = 60e-6
TAKES: Final = 16
TOGETHER_S: Final = 500e-6
_STATUS: Final = binding.core.DDSStatus
# Big and little endian.
_PLAIN_CDR: Final = (b"\0\0", b"\0\1")


class _Endpoint:
    """What a reader and a writer have in common: a topic entity, statistics, statuses that become problems."""

    def __init__(self, context: Context, topic: str, data_type: Any) -> None:
        self.context = context
        self.topic = topic
        self.statistics = EndpointStatistics()
        self._topic = binding.topic.Topic(context.participant, topic, data_type)
        self._status_number = 0
        self._closed = False
        self.entity: Any = None

    def _watch_status(self, mask: int) -> None:
        self.entity.set_status_mask(mask)
        self._status_number = self.context.watch(self.entity, self._on_status)
        self._on_status()

    def _on_status(self) -> None:
        raise NotImplementedError

    def _incompatible(self, status: Any, direction: str) -> None:
        if status.total_count_change:
            policy = POLICIES.get(status.last_policy_id, f"policy {status.last_policy_id}")
            text = f"incompatible QoS with a {direction}: {policy}"
            self.statistics.problem(text)
            log.warning("%s topic=%s", text, self.topic)

    @property
    def gid(self) -> bytes:
        """The 16 bytes of the entity's GUID."""
        return bytes(self.entity.get_guid().bytes)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._status_number:
            self.context.unwatch(self.entity, self._status_number)
        self.context.delete(self.entity)
        self.context.delete(self._topic)


class DdsPublisher(_Endpoint):
    """Writes serialized messages; what the DDS queues refuse is dropped and counted."""

    def __init__(self, context: Context, topic: str, data_type: Any, qos: QosProfile, user_data: bytes = b"") -> None:
        super().__init__(context, topic, data_type)
        self.entity = binding.pub.DataWriter(
            context.participant, self._topic, binding.endpoint_qos(qos, user_data, writer=True)
        )
        self._watch_status(_STATUS.OfferedIncompatibleQos | _STATUS.PublicationMatched)

    def publish(self, data: bytes) -> bool:
        """False when the message was dropped; raises CdrError for bytes that are not plain CDR of the type."""
        statistics = self.statistics
        if len(data) < 4 or data[0] or data[1] > 1:  # Cyclone does not look at the encapsulation
            statistics.malformed += 1
            check_header(data)
        try:
            binding.write(self.entity, data)
        except binding.FullError:
            statistics.dropped += 1
            return False
        except CdrError:
            statistics.malformed += 1
            raise
        statistics.messages += 1
        statistics.payload_bytes += len(data)
        return True

    def _on_status(self) -> None:
        if self._closed:
            return
        self._incompatible(self.entity.get_offered_incompatible_qos_status(), "subscription")
        self.statistics.matched = self.entity.get_publication_matched_status().current_count


class DdsSubscription(_Endpoint):
    """Takes serialized messages in batches and hands them to a callback, on the context's thread."""

    def __init__(
        self,
        context: Context,
        topic: str,
        data_type: Any,
        qos: QosProfile,
        callback: BatchCallback,
        user_data: bytes = b"",
        cache: int = CACHE,
    ) -> None:
        super().__init__(context, topic, data_type)
        self._callback = callback
        self._in_vain = False
        self._taken_at = 0.0
        self._between_s = 1.0  # messages, in the mean
        self._batch, self._counted = BATCH, False
        # Latched topics keep what was asked for: there the last ones alone are wanted.
        if not qos.keep_all and not qos.transient_local:
            qos = replace(qos, depth=max(qos.depth + 1, cache))
            if qos.depth <= MAX_BATCH:
                self._batch, self._counted = qos.depth, True
        self.entity = binding.sub.DataReader(
            context.participant, self._topic, binding.endpoint_qos(qos, user_data, writer=False)
        )
        state = binding.core
        self._condition = state.ReadCondition(
            self.entity, state.SampleState.NotRead | state.ViewState.Any | state.InstanceState.Any
        )
        self._data_number = context.watch(self._condition, self._on_data)
        self._watch_status(
            _STATUS.RequestedIncompatibleQos | _STATUS.SubscriptionMatched | _STATUS.SampleLost | _STATUS.SampleRejected
        )

    def _on_data(self) -> None:
        try:
            samples = binding.take(self.entity, self._batch)
        except Ros2Error:
            if self._closed or self.context.closing:
                return
            raise
        statistics = self.statistics
        if self._counted and len(samples) == self._batch:
            statistics.overruns += 1
        sound = [
            sample
            for sample in samples
            if sample[0][:2] in _PLAIN_CDR and 4 <= len(sample[0]) <= MAX_MESSAGE and sample[1].valid_data
        ]
        if len(sound) < len(samples):
            statistics.malformed += sum(info.valid_data for _, info in samples) - len(sound)
        statistics.messages += len(sound)
        statistics.payload_bytes += sum([len(data) for data, _ in sound])
        if sound:
            self._deliver(sound)
        now = time.monotonic()
        self._between_s += ((now - self._taken_at) / max(1, len(samples)) - self._between_s) / TAKES
        self._taken_at = now
        if self._in_vain:
            self.context.pause(self._condition, self._data_number, PAUSE_S)
        elif self._between_s < QUICK_S:
            self.context.pause(self._condition, self._data_number, TOGETHER_S)

    def _deliver(self, samples: Sequence[tuple[bytes, Any]]) -> None:
        self._in_vain = self._callback([(data, info.source_timestamp) for data, info in samples]) is True

    def _on_status(self) -> None:
        if self._closed:
            return
        entity = self.entity
        self._incompatible(entity.get_requested_incompatible_qos_status(), "publisher")
        self.statistics.matched = entity.get_subscription_matched_status().current_count
        self.statistics.lost = entity.get_sample_lost_status().total_count
        rejected = entity.get_sample_rejected_status().total_count
        self.statistics.dropped = max(self.statistics.dropped, rejected)

    def close(self) -> None:
        if not self._closed:
            self.context.unwatch(self._condition, self._data_number)
            self.context.delete(self._condition)
        super().close()
