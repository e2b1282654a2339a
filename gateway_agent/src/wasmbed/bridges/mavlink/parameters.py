"""The parameter protocol, client side: read one, read all, write one.

A write is acknowledged by PARAM_VALUE with the new value, also when the vehicle refused it, so the value decides. When
nothing comes (ArduPilot does not always answer) the parameter is read again and that decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.operations import Ids, Operation
from wasmbed.bridges.mavlink.parameter_values import (
    Encoding,
    Number,
    Parameter,
    decode_value,
    encode_value,
    same,
)

ANSWER_TIMEOUT_S = 1.0
RETRIES = 5
_LIST_SILENCE_S = 0.8
_LIST_RETRIES = 10
_LOOK_AGAIN_S = 0.3
_LOOKS = 3
_ASK_AT_ONCE = 20
HASH_CHECK = "_HASH_CHECK"
_NO_INDEX = frozenset({0x7FFF, 0xFFFF})
"""PX4 sends its hash, and answers that belong to no list, with such an index."""


class ParameterOutcome(StrEnum):
    """How a parameter operation ended."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown parameter"
    NO_ANSWER = "no answer"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class ParameterResult:
    """The outcome and, when the vehicle said it, the parameter as it is on the vehicle now."""

    name: str
    outcome: ParameterOutcome
    parameter: Parameter | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.outcome is ParameterOutcome.DONE

    def __str__(self) -> str:
        text = f"parameter {self.name}: {self.outcome}"
        if self.outcome is ParameterOutcome.REFUSED and self.parameter is not None:
            text += f", it stays {self.parameter.value}"
        return f"{text} ({self.reason})" if self.reason else text


@dataclass(frozen=True, slots=True)
class ParameterList:
    """All parameters by name, the vehicle's hash when it has one, and what is missing when it is not complete.

    `cached` ones were not transferred: the vehicle's hash said that they are still the same.
    """

    parameters: dict[str, Parameter]
    hash: int | None = None
    missing: tuple[int, ...] = ()
    outcome: ParameterOutcome = ParameterOutcome.DONE
    cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether it is complete."""
        return self.outcome is ParameterOutcome.DONE


def parse_value(item: Message, encoding: Encoding) -> Parameter | None:
    """The parameter in a PARAM_VALUE; None for one that cannot be read."""
    try:
        value = decode_value(item["param_value"], item["param_type"], encoding)
    except ValueError:
        return None
    index = item["param_index"]
    return Parameter(item["param_id"], value, item["param_type"], -1 if index in _NO_INDEX else index)


def _error_reason(item: Message) -> str:
    return default_dialect().entry("MAV_PARAM_ERROR", item["error"]).removeprefix("MAV_PARAM_ERROR_").lower()


class ReadParameter(Operation[ParameterResult]):
    """Read one parameter by its name."""

    def __init__(self, ids: Ids, name: str, encoding: Encoding) -> None:
        super().__init__(ids)
        _check_name(name)
        self._name = name
        self._encoding = encoding
        self._tries = 0

    def start(self, now: float) -> None:
        """Ask for it."""
        self._tries += 1
        self._send("PARAM_REQUEST_READ", param_id=self._name, param_index=-1)
        self.deadline = now + ANSWER_TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Look for its value, or for the vehicle's refusal."""
        if self.result is not None or not self.ids.sent_by_target(item) or item.get("param_id") != self._name:
            return
        if item.name == "PARAM_VALUE":
            found = parse_value(item, self._encoding)
            if found is not None:
                self._end(ParameterResult(self._name, ParameterOutcome.DONE, found))
        elif item.name == "PARAM_ERROR" and self.ids.is_for_us(item):
            reason = _error_reason(item)
            unknown = reason == "does_not_exist"
            outcome = ParameterOutcome.UNKNOWN if unknown else ParameterOutcome.REFUSED
            self._end(ParameterResult(self._name, outcome, reason=reason))

    def advance(self, now: float) -> None:
        """Ask again, or give up."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if self._tries > RETRIES:
            self._end(ParameterResult(self._name, ParameterOutcome.NO_ANSWER))
        else:
            self.start(now)


class WriteParameter(Operation[ParameterResult]):
    """Write one parameter and find out what the vehicle made of it.

    A value that is already the vehicle's is no different from one that was written: writing is idempotent, so it is
    sent again until the vehicle shows it; a refusal is another value shown after each of `_LOOKS` writings.
    """

    def __init__(self, ids: Ids, name: str, value: Number, kind: int, encoding: Encoding) -> None:
        super().__init__(ids)
        _check_name(name)
        self._name = name
        self._value = value
        self._kind = kind
        self._encoding = encoding
        self._wire = encode_value(value, kind, encoding)
        self._tries = 0
        self._asking = False
        self._shown: Parameter | None = None
        self._last: Parameter | None = None
        self._looks = 0

    def start(self, now: float) -> None:
        """Send the value."""
        self._tries += 1
        self._asking = False
        self._send("PARAM_SET", param_id=self._name, param_value=self._wire, param_type=self._kind)
        self.deadline = now + ANSWER_TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Compare what the vehicle shows with what was written."""
        if self.result is not None or not self.ids.sent_by_target(item) or item.get("param_id") != self._name:
            return
        if item.name == "PARAM_ERROR" and self.ids.is_for_us(item):
            reason = _error_reason(item)
            unknown = reason == "does_not_exist"
            outcome = ParameterOutcome.UNKNOWN if unknown else ParameterOutcome.REFUSED
            self._end(ParameterResult(self._name, outcome, self._shown, reason))
        elif item.name == "PARAM_VALUE":
            shown = parse_value(item, self._encoding)
            if shown is None:
                return
            if shown.type == self._kind and same(shown.value, self._value, self._kind):
                self._end(ParameterResult(self._name, ParameterOutcome.DONE, shown))
                return
            # An older value may have been on its way, or the writing lost: only writing and looking again tells.
            self._shown = shown
            self.deadline = min(self.deadline or now, now + _LOOK_AGAIN_S)

    def advance(self, now: float) -> None:
        """Without an answer: look, write again, look, and so on."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if not self._asking:
            self._ask(now)
            return
        if self._shown is not None:
            self._looks, self._last, self._shown = self._looks + 1, self._shown, None
        if self._looks >= _LOOKS or self._tries > RETRIES:
            outcome = ParameterOutcome.REFUSED if self._last is not None else ParameterOutcome.NO_ANSWER
            self._end(ParameterResult(self._name, outcome, self._last))
        else:
            self.start(now)

    def _ask(self, now: float) -> None:
        self._asking = True
        self._send("PARAM_REQUEST_READ", param_id=self._name, param_index=-1)
        self.deadline = now + ANSWER_TIMEOUT_S


@dataclass(slots=True)
class _Asked:
    tries: int = 0
    at: float = field(default=-1e9)


class ListParameters(Operation[ParameterList]):
    """Read all parameters: the vehicle sends them, what got lost is asked for one by one.

    `on_progress` gets how many there are and how many are here.
    """

    def __init__(self, ids: Ids, encoding: Encoding, on_progress: Callable[[int, int], None] | None = None) -> None:
        super().__init__(ids)
        self._encoding = encoding
        self._on_progress = on_progress
        self._found: dict[int, Parameter] = {}
        self._count: int | None = None
        self._hash: int | None = None
        self._tries = 0
        self._asked: dict[int, _Asked] = {}

    def start(self, now: float) -> None:
        """Ask for the list."""
        self._tries += 1
        self._send("PARAM_REQUEST_LIST")
        self.deadline = now + ANSWER_TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Take a parameter."""
        if self.result is not None or item.name != "PARAM_VALUE" or not self.ids.sent_by_target(item):
            return
        if item["param_id"] == HASH_CHECK:
            self._hash = int.from_bytes(item["param_value"], "little")
            return
        if item["param_index"] in _NO_INDEX:
            return
        found = parse_value(item, self._encoding)
        if found is None:
            return
        count = item["param_count"]
        if self._count is not None and count != self._count:
            # The list itself changed (PX4 grows it as modules start, a reboot starts it over), so do the indices.
            self._found.clear()
            self._asked.clear()
        self._count = count
        self._found[found.index] = found
        if self._on_progress is not None:
            self._on_progress(count, len(self._found))
        if len(self._found) >= count:
            self._finish()
            return
        waiting = self._asked and all(index in self._found for index in self._asked if self._asked[index].at > 0)
        self.deadline = now if waiting else now + _LIST_SILENCE_S

    def advance(self, now: float) -> None:
        """After a silence ask for what is missing."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if self._count is None:
            if self._tries > RETRIES:
                self._end(ParameterList({}, outcome=ParameterOutcome.NO_ANSWER))
            else:
                self.start(now)
            return
        missing = [index for index in range(self._count) if index not in self._found]
        asking = [index for index in missing if self._asked.setdefault(index, _Asked()).tries < _LIST_RETRIES]
        if not asking:
            self._finish(tuple(missing))
            return
        for index in asking[:_ASK_AT_ONCE]:
            asked = self._asked[index]
            asked.tries, asked.at = asked.tries + 1, now
            self._send("PARAM_REQUEST_READ", param_id="", param_index=index)
        self.deadline = now + _LIST_SILENCE_S

    def _finish(self, missing: tuple[int, ...] = ()) -> None:
        outcome = ParameterOutcome.INCOMPLETE if missing else ParameterOutcome.DONE
        self._end(ParameterList({item.name: item for item in self._found.values()}, self._hash, missing, outcome))


class ReadHash(Operation[int]):
    """PX4's hash of all parameters; -1 for a vehicle that has none or does not answer."""

    def __init__(self, ids: Ids) -> None:
        super().__init__(ids)
        self._tries = 0

    def start(self, now: float) -> None:
        """Ask for it."""
        self._tries += 1
        self._send("PARAM_REQUEST_READ", param_id=HASH_CHECK, param_index=-1)
        self.deadline = now + ANSWER_TIMEOUT_S

    def receive(self, item: Message, now: float) -> None:
        """Look for it."""
        if item.get("param_id") != HASH_CHECK or not self.ids.sent_by_target(item):
            return
        if item.name == "PARAM_VALUE":
            self._end(int.from_bytes(item["param_value"], "little"))
        elif item.name == "PARAM_ERROR":
            self._end(-1)

    def advance(self, now: float) -> None:
        """Ask again, or give up."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if self._tries >= 3:
            self._end(-1)
        else:
            self.start(now)


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode()) <= 16:
        raise ValueError(f"{name!r} is not a parameter name: it has 1 to 16 characters")
