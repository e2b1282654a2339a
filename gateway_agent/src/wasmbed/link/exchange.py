"""Requests and answers over one device's secure link: priorities, what is on its way at once, repetitions."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from wasmbed.link import smp
from wasmbed.link.noise import NoiseError
from wasmbed.link.secure import Counters, Ends, Lost, Message, SecureLink, Stranger, Up
from wasmbed.runtime import RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wasmbed.link.line import Line

# What a frame adds to an SMP message on the wire, at most: delimiters, COBS, type, counter, tag, CRC.
FRAME_BYTES: Final = 36
# For the device to work on a request and for this side to notice, beside the time on the wire.
ANSWER_S: Final = 0.6
ATTEMPTS: Final = 5
_BACK_OFF: Final = 1.6


class Priority(IntEnum):
    """Who goes first on the wire."""

    COMMAND = 0
    EVENT = 1
    UPLOAD = 2


@dataclass
class Traffic:
    """Counts since the exchange was made; times in seconds."""

    requests: int = 0
    repeated: int = 0
    unanswered: int = 0
    ignored: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    last_trip_s: float = 0.0
    secure: Counters = field(default_factory=Counters)


class UnansweredError(Exception):
    """One attempt of a request got no answer in time."""


@dataclass(order=True)
class _Turn:
    priority: int
    number: int
    size: int = field(compare=False)
    future: asyncio.Future[None] = field(compare=False)


class Exchange:
    """One device's messages, on the event loop. `tick` must be called again after the seconds it returns."""

    def __init__(
        self,
        candidates: Callable[[], Iterable[Ends]],
        *,
        baud: int,
        on_up: Callable[[Up], None],
        on_lost: Callable[[str], None],
        on_own: Callable[[smp.Message], None],
        on_stranger: Callable[[Stranger], None],
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        self._secure = SecureLink(candidates, self._clock())
        self._byte_s = 10.0 / baud
        self._on_up, self._on_lost, self._on_own, self._on_stranger = on_up, on_lost, on_own, on_stranger
        self._line: Line | None = None
        self._waiting: dict[tuple[int, int, int], asyncio.Future[bytes]] = {}
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._seq = itertools.count()
        self._in_flight = 0
        self.frame_bytes = 96
        self.traffic = Traffic(secure=self._secure.counters)

    @property
    def up(self) -> bool:
        """There is a session."""
        return self._secure.up and self._line is not None

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for the line or for an answer."""
        waiting = sum(turn.size for turn in self._turns)
        return waiting + self._in_flight + (0 if self._line is None else self._line.backlog_bytes)

    def set_lost_after(self, seconds: float) -> None:
        """How long the device may be silent."""
        self._secure.lost_after_s = seconds

    # ---- the line ---------------------------------------------------------------------------------------------

    def attach(self, line: Line) -> None:
        """Use an open line from now on."""
        self._line = line
        self.tick()

    def detach(self, why: str) -> None:
        """The line is gone."""
        self._line = None
        self._end(self._secure.drop(why))

    def received(self, data: bytes) -> None:
        """Take bytes of the line."""
        self.traffic.bytes_in += len(data)
        for event in self._secure.feed(data, self._clock()):
            match event:
                case Up():
                    self._fail("the device has a new session")
                    self._on_up(event)
                case Message():
                    self._take(event.data)
                case Stranger():
                    self._on_stranger(event)
                case Lost():
                    self._end([event])
        self._flush()

    def tick(self) -> float:
        """Do what is due; the seconds until something is due again."""
        self._end(self._secure.poll(self._clock()))
        self._flush()
        return max(0.05, self._secure.due(self._clock()))

    def drop(self, why: str) -> None:
        """Give the session up."""
        self._end(self._secure.drop(why))

    def renew(self) -> None:
        """Ask the device for a new handshake."""
        self._secure.renew(self._clock())
        self._flush()

    def _flush(self) -> None:
        data = self._secure.take()
        if data and self._line is not None:
            self.traffic.bytes_out += len(data)
            self._line.write(data)

    def _end(self, events: list[Any]) -> None:
        for event in events:
            self._fail(event.reason)
            self._on_lost(event.reason)

    def _fail(self, why: str) -> None:
        """End everything that waits."""
        waiting, self._waiting = self._waiting, {}
        turns, self._turns = self._turns, []
        self._in_flight = 0
        futures: list[asyncio.Future[Any]] = [*waiting.values(), *(turn.future for turn in turns)]
        for future in futures:
            if not future.done():
                future.set_exception(RuntimeGone(why))

    # ---- messages ---------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        try:
            op, group, seq, command = smp.header(data)
            if op in (smp.Op.READ_ANSWER, smp.Op.WRITE_ANSWER):
                future = self._waiting.get((group, seq, command))
                if future is None or future.done():
                    self.traffic.ignored += 1
                else:
                    future.set_result(data)
            elif group == smp.GROUP_WASMBED:
                self._on_own(smp.decode(data))
            else:
                self.traffic.ignored += 1
        except smp.SmpError:
            self.traffic.ignored += 1

    def tell(self, op: int, seq: int, command: int, body: dict[Any, Any]) -> None:
        """Send an answer of the Wasmbed group; nothing happens without a session."""
        try:
            self._secure.send(smp.encode(op, smp.GROUP_WASMBED, seq, command, body))
        except NoiseError:
            return
        self._flush()

    async def ask(
        self,
        op: smp.Op,
        command: int,
        body: dict[Any, Any],
        *,
        group: int = smp.GROUP_WASMBED,
        priority: Priority = Priority.COMMAND,
        answer_s: float = ANSWER_S,
        attempts: int = ATTEMPTS,
    ) -> dict[Any, Any]:
        """Ask a request and return its answer.

        Raises RuntimeGone without a session or answer, ResultError for a refusal; with one attempt UnansweredError
        instead of RuntimeGone.
        """
        seq = next(self._seq) % 256
        message = smp.encode(op, group, seq, command, body)
        answer = await self.ask_bytes(message, priority=priority, answer_s=answer_s, attempts=attempts)
        try:
            found = smp.decode(answer).body
            smp.raise_result(found)
        except smp.SmpError as error:
            raise RuntimeGone(f"the device's answer is not readable: {error}") from error
        return found

    async def ask_bytes(
        self, message: bytes, *, priority: Priority, answer_s: float = ANSWER_S, attempts: int = ATTEMPTS
    ) -> bytes:
        """Ask with a whole message, repeated with the same sequence number, and return the answer's bytes."""
        _, group, seq, command = smp.header(message)
        key = (group, seq, command)
        self.traffic.requests += 1
        for attempt in range(attempts):
            self.traffic.repeated += attempt > 0
            try:
                return await self._attempt(message, key, priority, answer_s * _BACK_OFF**attempt)
            except UnansweredError:
                if attempts == 1:
                    raise
        self.traffic.unanswered += 1
        why = f"the device did not answer {attempts} times"
        self._end(self._secure.drop(why))
        self.tick()
        raise RuntimeGone(why)

    async def _attempt(self, message: bytes, key: tuple[int, int, int], priority: Priority, answer_s: float) -> bytes:
        size = len(message) + FRAME_BYTES
        await self._turn(priority, size)
        began = self._clock()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self.up or key in self._waiting:
            self._in_flight = max(0, self._in_flight - size)
            raise RuntimeGone("there is no session" if not self.up else "a request of this number is on its way")
        self._waiting[key] = future
        try:
            self._secure.send(message)
            self._flush()
            # All that was sent before goes first, and the answer takes its time too.
            wire_s = (self._in_flight + 2 * self.frame_bytes) * self._byte_s
            async with asyncio.timeout(answer_s + wire_s):
                answer = await future
        except TimeoutError:
            raise UnansweredError from None
        finally:
            if self._waiting.get(key) is future:
                del self._waiting[key]
                self._in_flight = max(0, self._in_flight - size)
                self._next_turn()
        self.traffic.last_trip_s = self._clock() - began
        return answer

    async def _turn(self, priority: Priority, size: int) -> None:
        """Wait until these bytes may go: two frames are on their way at most, the most urgent go next."""
        if not self.up:
            raise RuntimeGone("there is no session with the device")
        turn = _Turn(priority, next(self._numbers), size, asyncio.get_running_loop().create_future())
        heapq.heappush(self._turns, turn)
        self._next_turn()
        try:
            await turn.future
        except asyncio.CancelledError:
            if turn in self._turns:
                self._turns.remove(turn)
                heapq.heapify(self._turns)
            elif turn.future.done() and not turn.future.cancelled():
                self._in_flight = max(0, self._in_flight - size)
                self._next_turn()
            raise

    def _next_turn(self) -> None:
        room = 2 * (self.frame_bytes + FRAME_BYTES)
        while self._turns and (self._in_flight == 0 or self._in_flight + self._turns[0].size <= room):
            turn = heapq.heappop(self._turns)
            if not turn.future.done():
                self._in_flight += turn.size
                turn.future.set_result(None)
