"""The device's own sensors for its applications, with the link to the gateway and without."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from wasmbed.hostcalls import Ended, HostCall, HostInstance, Outcome, Status
from wasmbed.hostcalls.model import BadCallError, Instance
from wasmbed.runtime import Delivery, ProtocolError, Provision
from wasmbed.runtime.abi import EventType
from wasmbed.sensors import SensorBackend

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from wasmbed.device.keeper import Keeper
    from wasmbed.hostcalls import Peer
    from wasmbed.runtime import HostRequest, Secret
    from wasmbed.sensors import SensorConfig

_log = logging.getLogger(__name__)

MAX_WAITING: Final = 1024


class OwnSensors:
    """Answers the requests of the module `sensor`, and gives their samples to the instances that want them."""

    def __init__(self, device: str, configs: Sequence[SensorConfig], keeper: Keeper) -> None:
        self._device = device
        self._configs = tuple(configs)
        self._keeper = keeper
        self._instances: dict[str, Instance] = {}
        self._gone: set[str] = set()
        self._requests: asyncio.Queue[HostRequest] = asyncio.Queue(MAX_WAITING)
        self._changed = asyncio.Event()
        self._changed.set()

    async def run(self) -> None:
        """Read and answer until cancelled."""
        async with SensorBackend.running(self._configs) as backend, asyncio.TaskGroup() as tasks:
            backend.attach(self)
            # Known before any instance asks: the capabilities that the sensors name are the device's.
            await backend.open(self._instance(""))
            tasks.create_task(self._answer(backend))
            while True:
                await self._changed.wait()
                self._changed.clear()
                for name in self._gone & self._instances.keys():
                    await backend.close(self._instances.pop(name), Ended.STOPPED)
                self._gone.clear()
                available = ("sensor",) if backend.available(self._device) else ()
                sensors = tuple(backend.sensors(self._device))
                await self._keeper.set_own(Provision(self._device, available, sensors=sensors))

    def submit(self, request: HostRequest) -> None:
        """Take a request of an instance; never waits."""
        if self._requests.full():
            self._result(request, Outcome(Status.AGAIN))
        else:
            self._requests.put_nowait(request)

    def keep(self, names: Set[str]) -> None:
        """Forget the instances that are not among these."""
        self._gone = self._instances.keys() - names - {""}
        if self._gone:
            self._changed.set()

    # What the backend asks for

    def changed(self, device: str | None = None) -> None:
        """A sensor works again, or does not."""
        self._changed.set()

    def dropped(self, module: str, count: int = 1) -> None:
        """Samples that were not sent; the runtime keeps the newest."""
        _log.debug("samples dropped count=%d", count)

    @property
    def backlog_bytes(self) -> int:
        """Nothing waits here: the runtime is on this machine."""
        return 0

    def deliver(self, events: Sequence[Delivery]) -> None:
        """Give events to instances."""
        self._keeper.deliver(events)

    async def provide(self, provision: Provision) -> None:
        """What there is is told by `run`."""

    async def secret(self, secret: Secret) -> None:
        """Sensors have no keys."""

    async def _answer(self, backend: SensorBackend) -> None:
        while True:
            request = await self._requests.get()
            instance = self._instances.get(request.instance)
            if instance is None:
                instance = self._instance(request.instance)
                await backend.open(instance)
            try:
                call = HostCall(instance, request.op, request.args, request.data or b"", request.token)
                outcome = backend.handle(call) if request.op in backend.operations else Outcome(Status.INVALID)
                if not isinstance(outcome, Outcome):
                    outcome = await outcome
            except (BadCallError, ProtocolError) as error:
                _log.debug("bad call instance=%s error=%s", request.instance, error)
                outcome = Outcome(Status.INVALID)
            self._result(request, outcome)

    def _instance(self, name: str) -> Instance:
        capabilities = frozenset(config.capability for config in self._configs if config.capability)
        spec = HostInstance(name, "", "", self._device, frozenset({"wasmbed:sensor"}), capabilities=capabilities)
        peer: Peer = self
        instance = Instance(spec, peer, self._keeper.deliver)
        self._instances[name] = instance
        return instance

    def _result(self, request: HostRequest, outcome: Outcome) -> None:
        if request.token:
            data = int(outcome.status).to_bytes(4, "little", signed=True) + outcome.detail
            self._keeper.deliver([Delivery(request.instance, EventType.RESULT, request.token, data)])
