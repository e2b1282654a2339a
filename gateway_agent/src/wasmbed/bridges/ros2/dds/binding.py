"""The one module that touches the cyclonedds package: its private calls for raw CDR, and QoS in its terms.

Raw CDR uses `_clayer`, private to the pinned version 11; where it is missing, the typed calls do the same slower.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import CdrError, Ros2Error
from wasmbed.bridges.ros2.qos import INFINITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.bridges.ros2.qos import QosProfile

core: Any = importlib.import_module("cyclonedds.core")
domain: Any = importlib.import_module("cyclonedds.domain")
builtin: Any = importlib.import_module("cyclonedds.builtin")
pub: Any = importlib.import_module("cyclonedds.pub")
sub: Any = importlib.import_module("cyclonedds.sub")
topic: Any = importlib.import_module("cyclonedds.topic")
_internal: Any = importlib.import_module("cyclonedds.internal")
_clayer: Any = importlib.import_module("cyclonedds._clayer")
_qos: Any = importlib.import_module("cyclonedds.qos")
Policy: Any = _qos.Policy
Qos: Any = _qos.Qos
DDSException: Any = core.DDSException

RAW: Final = all(hasattr(_clayer, name) for name in ("ddspy_write", "ddspy_take"))
ANY_STATE: Final = int(core.SampleState.Any | core.ViewState.Any | core.InstanceState.Any)
_BAD_PARAMETER: Final = -3
_TIMEOUT: Final = -10
_INFINITE_NS: Final = int(_internal.dds_infinity)
# A reliable writer whose readers do not keep up waits this long for room; then the sample is dropped and counted.
MAX_BLOCKING_NS: Final = 10_000_000

_library: Any = _internal.DDS._dll_handle
_wait: Any = _library.dds_waitset_wait
_wait.restype = ctypes.c_int32
_wait.argtypes = [ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_int64]
_attach: Any = _library.dds_waitset_attach
_attach.restype = ctypes.c_int32
_attach.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
_detach: Any = _library.dds_waitset_detach
_detach.restype = ctypes.c_int32
_detach.argtypes = [ctypes.c_int32, ctypes.c_int32]
_delete: Any = _library.dds_delete
_delete.restype = ctypes.c_int32
_delete.argtypes = [ctypes.c_int32]
# Fatal and other errors alone: it warns of each malformed packet, with which a peer could fill the log.
_LOG_ERRORS: Final = 3
_library.dds_set_log_mask(ctypes.c_uint32(_LOG_ERRORS))


class FullError(Ros2Error):
    """A reliable writer had no room within MAX_BLOCKING_NS."""


def _ns(seconds: float) -> int:
    return _INFINITE_NS if seconds == INFINITE else int(seconds * 1e9)


def endpoint_qos(profile: QosProfile, user_data: bytes = b"", *, writer: bool) -> Any:
    """A profile in Cyclone's terms: XCDR1 alone is offered, as ROS does."""
    policies = [
        Policy.Reliability.Reliable(MAX_BLOCKING_NS) if profile.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if profile.transient_local else Policy.Durability.Volatile,
        Policy.History.KeepAll if profile.keep_all else Policy.History.KeepLast(profile.depth),
        Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
    ]
    if profile.keep_all:
        policies.append(Policy.ResourceLimits(max_samples=10_000, max_instances=-1, max_samples_per_instance=10_000))
    if profile.deadline_s != INFINITE:
        policies.append(Policy.Deadline(_ns(profile.deadline_s)))
    if profile.lease_s != INFINITE or profile.liveliness != "automatic":
        kind = (
            Policy.Liveliness.ManualByTopic if profile.liveliness == "manual_by_topic" else Policy.Liveliness.Automatic
        )
        policies.append(kind(_ns(profile.lease_s)))
    if writer and profile.lifespan_s != INFINITE:
        policies.append(Policy.Lifespan(_ns(profile.lifespan_s)))
    if writer and profile.transient_local:
        policies.append(
            Policy.DurabilityService(
                cleanup_delay=0,
                history=policies[2],
                max_samples=-1,
                max_instances=-1,
                max_samples_per_instance=-1,
            )
        )
    if user_data:
        policies.append(Policy.Userdata(user_data))
    return Qos(*policies)


def participant_qos(user_data: bytes, name: str) -> Any:
    return Qos(Policy.Userdata(user_data), Policy.EntityName(name))


def user_data_of(qos: Any) -> bytes:
    """The user data of a discovered entity."""
    policy = qos[Policy.Userdata] if qos is not None and Policy.Userdata in qos else None
    return bytes(policy.data) if policy is not None else b""


def describe_qos(qos: Any) -> str:
    """Reliability and durability of a discovered endpoint."""
    words = []
    if Policy.Reliability in qos:
        words.append("best effort" if qos[Policy.Reliability] == Policy.Reliability.BestEffort else "reliable")
    if Policy.Durability in qos:
        words.append("volatile" if qos[Policy.Durability] == Policy.Durability.Volatile else "transient local")
    return ", ".join(words)


# Reading discovery data calls Python in between, and two threads in it at once corrupt the package's memory.
_discovery: Final = threading.Lock()


def take_discovered(reader: Any, count: int) -> Sequence[Any]:
    """Take up to `count` samples of a built-in topic."""
    with _discovery:
        found: Sequence[Any] = reader.take(count)
        return found


def writer_data(reader: Any, handle: int) -> Any:
    """What discovery told of a writer that matches a reader, None when it is gone."""
    with _discovery:
        return reader.get_matched_publication_data(handle)


def matched_readers(writer: Any) -> list[Any]:
    """What discovery told of the readers that match a writer."""
    with _discovery:
        found = [writer.get_matched_subscription_data(handle) for handle in writer.get_matched_subscriptions()]
    return [data for data in found if data is not None]


def write(writer: Any, data: bytes) -> None:
    """Write serialized data.

    Raises:
        CdrError: Cyclone refuses the bytes for the writer's type.
        FullError: no room.
        Ros2Error: the writer is gone.
    """
    if not RAW:
        write_typed(writer, data)
        return
    code = _clayer.ddspy_write(writer._ref, data)
    if code < 0:
        _raise(code)


def write_typed(writer: Any, data: bytes) -> None:
    """What `write` does, by the public calls."""
    try:
        writer.write(writer.topic.data_type.deserialize(data))
    except DDSException as error:
        _raise(error.code)
    except Exception as error:  # the package's deserializer raises what it meets
        raise CdrError(f"not a message of the writer's type: {error}") from None


def take(reader: Any, count: int) -> Sequence[tuple[bytes, Any]]:
    """Take up to `count` samples as (serialized data, sample info); raises Ros2Error when the reader is gone."""
    if not RAW:
        return take_typed(reader, count)
    found = _clayer.ddspy_take(reader._ref, ANY_STATE, count)
    if isinstance(found, int):
        _raise(found)
    return found  # type: ignore[no-any-return]


def take_typed(reader: Any, count: int) -> Sequence[tuple[bytes, Any]]:
    """What `take` does, by the public calls."""
    samples = reader.take(count)
    return [
        (sample.serialize(use_version_2=False), sample.sample_info)
        for sample in samples
        if not isinstance(sample, _internal.InvalidSample)
    ]


def _raise(code: int) -> None:
    if code == _BAD_PARAMETER:
        raise CdrError("the bytes are not a message of the writer's type")
    if code == _TIMEOUT:
        raise FullError("the readers do not keep up")
    raise Ros2Error(f"cyclonedds: {DDSException(code)}")


class WaitSet:
    """Waits for any of several entities and says which by the number they were attached with (1 and above)."""

    def __init__(self, participant: Any, capacity: int = 4096) -> None:
        self._set = core.WaitSet(participant)
        self._found = (ctypes.c_void_p * capacity)()
        self._capacity = capacity

    def attach(self, entity: Any, number: int) -> None:
        if _attach(self._set._ref, entity._ref, number) < 0:
            raise Ros2Error("cyclonedds: an entity could not be attached to the waitset")

    def detach(self, entity: Any) -> None:
        _detach(self._set._ref, entity._ref)

    def wait(self, timeout_ns: int) -> list[int]:
        """The numbers of the entities that have something, none after the timeout."""
        count = _wait(self._set._ref, self._found, self._capacity, timeout_ns)
        if count < 0:
            raise Ros2Error(f"cyclonedds: {DDSException(count)}")
        return [number for number in self._found[: min(count, self._capacity)] if number]


def delete(entity: Any) -> None:
    """Delete an entity now instead of when it is collected."""
    reference, entity._ref = entity._ref, 0
    if reference:
        _delete(reference)
