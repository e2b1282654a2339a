"""Bringing a module to a microcontroller: two parts on their way and one that waits, so that the line never rests.

The device takes parts in order and answers with the offset it wants next; a gap or a repetition writes nothing. An
upload that broke off goes on where the device says.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from wasmbed.link import smp
from wasmbed.link.exchange import Priority, UnansweredError
from wasmbed.link.smp import Id, Op
from wasmbed.runtime import RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.link.exchange import Exchange

# Before the first part the device erases flash; after the last one it checks and translates the module.
BEGIN_S: Final = 10.0
END_S: Final = 20.0
PART_S: Final = 1.0
# CBOR around a part: {0: offset, 1: data}.
PART_BYTES: Final = 12
_WINDOW: Final = 3
# Parts unanswered one after the other until the upload is given up, and fresh starts after restarts in between.
_FAILURES: Final = 10
_STARTS: Final = 5


class Upload:
    """One upload of a module; `run` it once."""

    def __init__(
        self, exchange: Exchange, digest: bytes, wasm: bytes, message_bytes: int, progress: Callable[[int], None]
    ) -> None:
        """message_bytes: longest SMP message the device takes; progress is called with offsets."""
        self._exchange = exchange
        self._digest, self._wasm = digest, wasm
        self._part = message_bytes - smp.HEADER.size - PART_BYTES
        self._progress = progress
        self._failures = 0

    async def run(self) -> None:
        """Bring it over; raises RuntimeGone, and ResultError when the device refuses the module."""
        for start in range(_STARTS):
            begin = {0: 0, 1: b"", 2: len(self._wasm), 3: self._digest, 4: hashlib.sha256(self._wasm).digest()}
            answer = await self._ask(begin, BEGIN_S, attempts=3)
            offset, whole = self._answer(answer)
            try:
                if whole or await self._parts(offset):
                    return
            except smp.ResultError as error:
                # The device restarted: it knows the parts but not that they are being brought.
                if error.result != smp.Result.BAD_STATE or start == _STARTS - 1:
                    raise
        raise RuntimeGone("the device begins the upload anew each time")

    def _answer(self, answer: dict[Any, Any]) -> tuple[int, bool]:
        try:
            offset = smp.number(answer, 0, most=len(self._wasm))
        except smp.SmpError as error:
            raise RuntimeGone(f"the device's answer to a part is not readable: {error}") from error
        self._progress(offset)
        return offset, answer.get(1) is True

    async def _ask(self, body: dict[int, Any], answer_s: float, attempts: int = 1) -> dict[Any, Any]:
        return await self._exchange.ask(
            Op.WRITE, Id.UPLOAD, body, priority=Priority.UPLOAD, answer_s=answer_s, attempts=attempts
        )

    async def _parts(self, offset: int) -> bool:
        """Bring the rest from an offset; False when the device lost its place."""
        under_way: deque[tuple[int, asyncio.Task[dict[Any, Any]]]] = deque()
        wanted = following = offset
        window = _WINDOW
        try:
            while True:
                while len(under_way) < window and following < len(self._wasm):
                    end = min(following + self._part, len(self._wasm))
                    body = {0: following, 1: self._wasm[following:end]}
                    answer_s = END_S if end == len(self._wasm) else PART_S
                    under_way.append((end, asyncio.create_task(self._ask(body, answer_s))))
                    following = end
                if not under_way:
                    return False
                await asyncio.wait([task for _, task in under_way], return_when=asyncio.FIRST_COMPLETED)
                ready = next(index for index, (_, task) in enumerate(under_way) if task.done())
                end, task = under_way[ready]
                del under_way[ready]
                try:
                    wanted, whole = self._answer(task.result())
                except UnansweredError:
                    self._failures += 1
                    if self._failures >= _FAILURES:
                        raise RuntimeGone(f"the device did not take a part of the module {_FAILURES} times") from None
                    # Less at once for a while: it may be slower than the line.
                    window = 1
                    following = await self._drop(under_way, wanted)
                    continue
                if whole:
                    return True
                if wanted < end:
                    # A part before this one was lost on the line.
                    following = await self._drop(under_way, wanted)
                    continue
                self._failures = 0
                window = _WINDOW
        finally:
            await self._drop(under_way, 0)

    @staticmethod
    async def _drop(under_way: deque[tuple[int, asyncio.Task[dict[Any, Any]]]], wanted: int) -> int:
        """Wait for nothing that is under way any more."""
        tasks = [task for _, task in under_way]
        under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return wanted
