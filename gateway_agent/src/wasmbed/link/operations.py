"""What can be asked of a microcontroller: the operations of wasmbed.runtime.RuntimeClient, its records and its keys."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wasmbed.link import records, smp
from wasmbed.link.exchange import Priority
from wasmbed.link.smp import Id, Op, ResultError, SmpError
from wasmbed.link.upload import Upload
from wasmbed.runtime import RequestRefused, RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.link.exchange import Exchange
    from wasmbed.link.records import Crash, McuInfo
    from wasmbed.runtime import InstanceStatus, Provision, Secret, StartRequest

_T = TypeVar("_T")

# A start makes an instance and runs the module's first call; a stop runs its last one.
START_S: Final = 3.0
STOP_S: Final = 3.0
# Flash is erased, or a key pair made.
SLOW_S: Final = 10.0
_MOST_ROWS: Final = 64


class InstanceNames:
    """Names of instances on the wire: without the device's own, which is always the same; a long one by its digest."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, device: str) -> None:
        """Another device (namespace/name) is there."""
        self._suffix = f"/{device}"
        self._long: dict[str, str] = {}
        self.applications: dict[str, str] = {}

    def to_wire(self, instance: str) -> str:
        """The name on the wire, at most 64 bytes."""
        name = instance.removesuffix(self._suffix)
        if name == instance:
            name = f"={instance}"
        if len(name.encode()) > records.NAME_BYTES:
            name = f"#{hashlib.sha256(instance.encode()).hexdigest()[:32]}"
            self._long[name] = instance
        return name

    def from_wire(self, name: str) -> str:
        """The instance of a name; of a long one that was never asked for, the name itself."""
        if name.startswith("="):
            return name[1:]
        return self._long.get(name, name if name.startswith("#") else name + self._suffix)

    def application(self, instance: str) -> str:
        """namespace/name of its application, empty when it is not known."""
        return self.applications.get(instance, "")


class McuOperations:
    """Operations on one device. All raise RuntimeGone while there is no session or when the device does not answer, and
    RequestRefused when it refuses."""

    def __init__(self, exchange: Exchange, names: InstanceNames) -> None:
        self._exchange = exchange
        self._names = names
        self._info: McuInfo | None = None

    @property
    def exchange(self) -> Exchange:
        """The messages below, for other groups than ours."""
        return self._exchange

    async def _ask(self, op: Op, command: Id, body: dict[int, Any], **options: Any) -> dict[Any, Any]:
        try:
            return await self._exchange.ask(op, command, body, **options)
        except ResultError as error:
            raise records.refused(error) from error

    @staticmethod
    def _read(reader: Callable[[dict[Any, Any]], _T], body: dict[Any, Any]) -> _T:
        try:
            return reader(body)
        except SmpError as error:
            raise RuntimeGone(f"the device's answer is not readable: {error}") from error

    async def info(self) -> McuInfo:
        """Return what the device is, asked once a session."""
        if self._info is None:
            self._info = self._read(records.McuInfo.from_wire, await self._ask(Op.READ, Id.INFO, {}))
            self._exchange.frame_bytes = self._info.message_bytes
        return self._info

    # ---- modules ----------------------------------------------------------------------------------------------

    async def modules(self) -> dict[str, int]:
        """Return the modules the device holds: digest and bytes."""
        found: dict[str, int] = {}
        for index in range(_MOST_ROWS):
            body = await self._ask(Op.READ, Id.MODULES, {0: index})
            if 1 not in body:
                break
            digest = self._read(lambda row: smp.octets(row, 1, length=32), body)
            found[f"sha256:{digest.hex()}"] = self._read(lambda row: smp.number(row, 2), body)
        return found

    async def has(self, digest: str) -> bool:
        """Tell whether the device holds a module."""
        return digest in await self.modules()

    async def load(self, digest: str, wasm: bytes, *, progress: Callable[[int], None] = lambda _: None) -> None:
        """Bring a module to the device, which checks it; nothing happens when it has it already.

        Goes on where an earlier try broke off. progress is called with the bytes that have arrived. Raises
        RequestRefused with reason InvalidModule and its findings.
        """
        info = await self.info()
        if len(wasm) > info.module_bytes or not wasm:
            message = f"the module has {len(wasm)} bytes; {info.board} takes {info.module_bytes}"
            raise RequestRefused("InvalidModule", message, (message,))
        upload = Upload(self._exchange, records.digest_bytes(digest), wasm, info.message_bytes, progress)
        try:
            await upload.run()
        except ResultError as error:
            raise records.refused(error) from error

    async def remove(self, digest: str) -> None:
        """Erase a module; nothing happens when there is none."""
        try:
            await self._ask(Op.WRITE, Id.REMOVE, {0: records.digest_bytes(digest)}, answer_s=SLOW_S, attempts=3)
        except RequestRefused as refusal:
            if refusal.reason != "NotFound":
                raise

    # ---- instances --------------------------------------------------------------------------------------------

    async def _start_body(self, request: StartRequest) -> dict[int, Any]:
        body = records.start_body(request, self._names.to_wire(request.instance))
        size = len(smp.encode(Op.WRITE, smp.GROUP_WASMBED, 0, Id.START, body))
        info = await self.info()
        if size > info.message_bytes:
            raise RequestRefused(
                "BadRequest",
                f"the start request has {size} bytes; {info.board} takes {info.message_bytes}: shorten env or routes",
            )
        return body

    async def check(self, request: StartRequest) -> None:
        """Ask whether a start would be refused for its size; what the module asks for is seen when it is loaded."""
        await self._start_body(request)

    async def start(self, request: StartRequest) -> None:
        """Have an instance run from now on, across the device's restarts; its states follow as events.

        Raises RequestRefused: NotFound (digest not loaded), InvalidModule (imports that are not granted), BadRequest,
        DeviceError (no more room).
        """
        body = await self._start_body(request)
        self._names.applications[request.instance] = request.application
        await self._ask(Op.WRITE, Id.START, body, answer_s=START_S)

    async def stop(self, instance: str) -> None:
        """Stop an instance for good; nothing happens when there is none."""
        await self._ask(Op.WRITE, Id.STOP, {0: self._names.to_wire(instance)}, answer_s=STOP_S)
        self._names.applications.pop(instance, None)

    async def list(self) -> list[InstanceStatus]:
        """Return every instance with its state and the key of its start request."""
        rows: list[InstanceStatus] = []
        for index in range(_MOST_ROWS):
            body = await self._ask(Op.READ, Id.INSTANCES, {0: index})
            if 1 not in body:
                break
            instance = self._names.from_wire(self._read(lambda row: smp.text(row, 1, limit=64), body))
            rows.append(self._read(lambda row, name=instance: records.status_from(row, name), body))  # type: ignore[misc]
            if instance not in self._names.applications:
                detail = await self._ask(Op.READ, Id.INSTANCES, {0: index, 1: 1})
                application = self._read(lambda row: smp.text(row, 12, limit=317), detail) if 12 in detail else ""
                self._names.applications[instance] = application
        return rows

    async def provide(self, provision: Provision) -> None:
        """Tell what host modules have behind them at the gateway from now on."""
        await self._ask(Op.WRITE, Id.PROVIDE, {0: records.available_bits(provision.available)})

    async def secret(self, secret: Secret) -> None:
        """Hand over an application's sealing key and a block of sequence numbers."""
        await self._ask(Op.WRITE, Id.SECRET, {0: secret.application, 1: secret.key, 2: secret.sequence})

    async def feed_sensor(self, sensor: int, time_us: int, data: bytes) -> None:
        """Give a sample to a sensor that the gateway feeds; a lost one is not repeated often."""
        await self._ask(Op.WRITE, Id.SENSOR, {0: sensor, 1: time_us, 2: data}, priority=Priority.EVENT, attempts=2)

    # ---- records and control ----------------------------------------------------------------------------------

    async def device_statistics(self) -> dict[str, int]:
        """Return the device's own counters by name; those that have none here as `app_NUMBER`."""
        body = await self._ask(Op.READ, Id.STATISTICS, {})
        counters = body.get(0)
        if not isinstance(counters, list) or not all(type(value) is int for value in counters):
            raise RuntimeGone("the device's statistics are not readable")
        found = dict(zip(records.COUNTERS, counters, strict=False))
        names = dict(enumerate(records.APP_COUNTERS, records.FIRST_APP_COUNTER))
        for key, value in body.items():
            if type(key) is int and key != 0 and type(value) is int:
                found[names.get(key, f"app_{key}")] = value
        return found

    async def crash(self) -> Crash | None:
        """Return the record of the last crash, None when there is none."""
        try:
            return self._read(records.Crash.from_wire, await self._ask(Op.READ, Id.CRASH, {}))
        except RequestRefused as refusal:
            if refusal.reason == "NotFound":
                return None
            raise

    async def clear_crash(self) -> None:
        """Forget the record of the last crash."""
        await self._ask(Op.WRITE, Id.CRASH, {})

    async def time(self) -> tuple[int, int, int] | None:
        """Return the device's unix time in us, its age in ms and its bound in us; None before the first heartbeat."""
        try:
            body = await self._ask(Op.READ, Id.TIME, {})
        except RequestRefused as refusal:
            if refusal.reason == "NotFound":
                return None
            raise
        return self._read(lambda row: (smp.number(row, 0, most=1 << 62), smp.number(row, 1), smp.number(row, 2)), body)

    async def change_gateway_key(self, public: bytes) -> None:
        """Have the device accept another key of the gateway once it has proved it; its present one ends the change."""
        await self._ask(Op.WRITE, Id.GATEWAY_KEY, {0: public}, answer_s=SLOW_S, attempts=3)

    async def change_device_key(self) -> bytes:
        """Have the device make its next key pair; returns the public key, which it uses from the next handshake on."""
        body = await self._ask(Op.WRITE, Id.DEVICE_KEY, {}, answer_s=SLOW_S, attempts=3)
        return self._read(lambda row: smp.octets(row, 0, length=32), body)
