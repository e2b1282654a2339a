"""`wasmbed:secure`: messages sealed for the cloud with the application's own key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi, sealing
from wasmbed.runtime.abi import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.host.context import Context
    from wasmbed.runtime.sealing import Sealer

MODULE: Final = "secure"


class SecureFunctions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = context.memory
        self._data_max = abi.message_max(context.request.device_class)
        self._asked_at_left = -1

    def handlers(self) -> dict[str, Callable[..., int]]:
        return {"seal": self._seal, "unseal": self._unseal, "send": self._send}

    def _sealer(self) -> Sealer | None:
        return self._context.backends.sealer(self._context.request.application, self._context.request.device)

    def _sealed(self, pointer: int, length: int) -> bytes | Code:
        """Return the envelope of a range of memory, or why there is none."""
        self._memory.at(pointer, length)
        if length > self._data_max:
            return Code.TOOBIG
        sealer = self._sealer()
        if sealer is None:
            return Code.UNAVAILABLE
        envelope = sealer.seal(self._memory.get(pointer, length))
        left = sealer.left
        if left <= sealing.LOW and self._asked_at_left != left and left % (sealing.LOW // 2) == 0:
            # Twice before the last one and once at it: what got lost is asked for again.
            request = self._context.request
            self._context.calls.must_tell(MODULE, "sequence", request.application, request.device)
        self._asked_at_left = left
        return Code.AGAIN if envelope is None else envelope

    def _seal(self, pointer: int, length: int, buffer: int, capacity: int) -> int:
        self._memory.at(buffer, capacity)
        sealed = self._sealed(pointer, length)
        return sealed if isinstance(sealed, Code) else self._memory.put(buffer, capacity, sealed)

    def _unseal(self, pointer: int, length: int, buffer: int, capacity: int) -> int:
        self._memory.at(pointer, length)
        self._memory.at(buffer, capacity)
        if length > self._data_max + abi.ENVELOPE_MAX:
            return Code.TOOBIG
        sealer = self._sealer()
        if sealer is None:
            return Code.UNAVAILABLE
        content = sealer.unseal(self._memory.get(pointer, length))
        return Code.INVALID if content is None else self._memory.put(buffer, capacity, content)

    def _send(self, pointer: int, length: int) -> int:
        self._memory.at(pointer, length)
        if not self._context.available(MODULE):
            return Code.UNAVAILABLE
        sealed = self._sealed(pointer, length)
        return sealed if isinstance(sealed, Code) else self._context.calls.ask(MODULE, "send", data=sealed)
