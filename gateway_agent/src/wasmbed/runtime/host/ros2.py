"""`wasmbed:ros2`: the routes that the manifest declares; a route's handle is its place among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.host.context import Context

MODULE: Final = "ros2"


class Ros2Functions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = context.memory
        self._aliases = {alias.encode(): handle for handle, (alias, _, _) in enumerate(context.request.routes)}
        self._data_max = abi.ros2_max(context.request.device_class)

    def handlers(self) -> dict[str, Callable[..., int]]:
        return {
            "open": self._open,
            "close": self._close,
            "publish": self._publish,
            "call": self._call,
            "respond": self._respond,
            "feedback": self._feedback,
            "cancel": self._cancel,
        }

    def _open(self, pointer: int, length: int) -> int:
        self._memory.at(pointer, length)
        alias = self._memory.get(pointer, length) if length <= 4 * abi.ALIAS_MAX else b""
        handle = self._aliases.get(alias)
        if handle is None:
            return Code.NOTFOUND
        context = self._context
        if not context.available(MODULE):
            return Code.UNAVAILABLE
        if handle not in context.open_routes:
            # Before its first event can come.
            context.open_routes.add(handle)
            if context.calls.stand(MODULE, "open", handle, alias.decode(), handle) < 0:
                context.open_routes.discard(handle)
                return Code.AGAIN
        return handle

    def _close(self, handle: int) -> int:
        context = self._context
        if handle not in context.open_routes:
            return Code.NOTFOUND
        context.open_routes.discard(handle)
        context.calls.drop_standing(MODULE, "open", handle)
        context.calls.must_tell(MODULE, "close", handle)
        return 0

    def _data(self, handle: int, pointer: int, length: int) -> bytes | Code:
        """Return the bytes to send, or why not."""
        self._memory.at(pointer, length)
        if handle not in self._context.open_routes:
            return Code.NOTFOUND
        if length > self._data_max:
            return Code.TOOBIG
        if not self._context.available(MODULE):
            return Code.UNAVAILABLE
        return self._memory.get(pointer, length)

    def _publish(self, handle: int, pointer: int, length: int) -> int:
        data = self._data(handle, pointer, length)
        return data if isinstance(data, Code) else self._context.calls.tell(MODULE, "publish", handle, data=data)

    def _call(self, handle: int, pointer: int, length: int) -> int:
        data = self._data(handle, pointer, length)
        return data if isinstance(data, Code) else self._context.calls.ask(MODULE, "call", handle, data=data)

    def _respond(self, handle: int, token: int, status: int, pointer: int, length: int) -> int:
        data = self._data(handle, pointer, length)
        if isinstance(data, Code):
            return data
        return self._context.calls.tell(MODULE, "respond", handle, token, status, data=data)

    def _feedback(self, handle: int, token: int, pointer: int, length: int) -> int:
        data = self._data(handle, pointer, length)
        return (
            data if isinstance(data, Code) else self._context.calls.tell(MODULE, "feedback", handle, token, data=data)
        )

    def _cancel(self, handle: int, token: int) -> int:
        if handle not in self._context.open_routes:
            return Code.NOTFOUND
        if not self._context.available(MODULE):
            return Code.UNAVAILABLE
        return self._context.calls.tell(MODULE, "cancel", handle, token)
