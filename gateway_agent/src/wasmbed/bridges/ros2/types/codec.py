"""Codecs of messages: encode to and decode from plain CDR, generated from definitions when first asked for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NoReturn

from wasmbed.bridges.ros2.errors import CdrError
from wasmbed.bridges.ros2.types import cdr
from wasmbed.bridges.ros2.types.classes import Value, make_class
from wasmbed.bridges.ros2.types.emit import CheckEmitter, ReadEmitter, WriteEmitter
from wasmbed.bridges.ros2.types.model import PRIMITIVE_SIZES, STRINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.ros2.types.model import Message
    from wasmbed.bridges.ros2.types.store import TypeStore

# What struct, bytes, str and missing attributes raise for values that do not fit.
_ENCODE_ERRORS = (struct.error, TypeError, ValueError, OverflowError, AttributeError)
_DECODE_ERRORS = (struct.error, ValueError, IndexError)


class Codec:
    """Encodes and decodes one type.

    encode and decode are generated functions without the translation of errors, for those who translate themselves;
    `dumps`, `loads` and `check` raise CdrError alone.
    """

    __slots__ = ("cls", "decode", "decode_slack", "definition", "encode", "least", "name", "pass_over")

    def __init__(
        self,
        definition: Message,
        cls: type[Any],
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        decode_slack: Callable[[bytes], Any],
        pass_over: Callable[[bytes], Any],
        least: int,
    ) -> None:
        self.name = definition.name
        self.definition = definition
        self.cls = cls
        self.encode = encode
        self.decode = decode
        self.decode_slack = decode_slack
        self.pass_over = pass_over
        self.least = least

    def dumps(self, message: Value) -> bytes:
        """Serialize as little-endian CDR with its encapsulation header; raises CdrError."""
        if type(message) is not self.cls:
            raise CdrError(f"{self.name}: got a {type(message).__name__}")
        try:
            return self.encode(message)
        except CdrError as error:
            raise CdrError(f"{self.name}: {error}") from None
        except _ENCODE_ERRORS as error:
            raise CdrError(f"{self.name}: {error}") from error

    def loads(self, data: bytes, *, slack: bool = False) -> Any:
        """Read CDR of either byte order; raises CdrError for anything that is not one whole message.

        With slack, bytes may follow it: rclpy's serializer leaves what it had estimated too much.
        """
        try:
            return self.decode_slack(data) if slack else self.decode(data)
        except CdrError as error:
            raise CdrError(f"{self.name}: {error}") from None
        except _DECODE_ERRORS as error:
            raise CdrError(f"{self.name}: {error}") from error

    def check(self, data: bytes) -> None:
        """Raise CdrError where `loads` would, in less time: nothing is made of the message."""
        try:
            self.pass_over(data)
        except CdrError as error:
            raise CdrError(f"{self.name}: {error}") from None
        except _DECODE_ERRORS as error:
            raise CdrError(f"{self.name}: {error}") from error


class CodecFactory:
    """Makes codecs and message classes of the types of a store; each once."""

    def __init__(self, store: TypeStore) -> None:
        self.store = store
        self._classes: dict[str, type[Any]] = {}
        self._codecs: dict[str, Codec] = {}
        self._functions: dict[tuple[str, str], Callable[..., Any]] = {}
        self._least: dict[str, int] = {}

    def codec(self, name: str) -> Codec:
        """The codec of `package/msg/Name`; raises UnknownTypeError or DefinitionError."""
        found = self._codecs.get(name)
        if found is None:
            message = self.store.message(name)
            self.store.closure(message.name)  # refuses cycles
            scope = self._scope()
            emitter = WriteEmitter(self, scope, top=True)
            encode = _compile(emitter.source("encode", message), "encode", scope)
            found = Codec(
                message,
                self.cls(message.name),
                encode,
                self._decoder(message),
                self._late(lambda: self._decoder(message, check_end=lambda _data, _offset: None)),
                self._late(lambda: self._decoder(message, emitter=CheckEmitter)),
                self.least(message.name),
            )
            self._codecs[name] = self._codecs[message.name] = found
        return found

    def cls(self, name: str) -> type[Any]:
        """The class of the messages of a type, a subclass of Value; its fields are known at run time alone."""
        found = self._classes.get(name)
        if found is None:
            message = self.store.message(name)
            nested = {field.type.base: self.cls(field.type.base) for field in message.fields if field.type.nested}
            found = self._classes[name] = make_class(message, nested)
        return found

    def message(self, name: str) -> Message:
        return self.store.message(name)

    def least(self, name: str) -> int:
        """The bytes a message has at least, padding not counted."""
        if name not in self._least:
            total = 0
            for field in self.store.message(name).wire_fields:
                kind = field.type
                if kind.kind == "sequence":
                    total += 4
                    continue
                element = 4 if kind.base in STRINGS else PRIMITIVE_SIZES.get(kind.base) or self.least(kind.base)
                total += element * (kind.size if kind.kind == "array" else 1)
            self._least[name] = total
        return self._least[name]

    def class_name(self, scope: dict[str, Any], name: str) -> str:
        """Bind the class in a scope and return its name there."""
        bound = f"C_{name.replace('/', '_')}"
        scope[bound] = self.cls(name)
        return bound

    def reader(self, scope: dict[str, Any], order: str, name: str) -> str:
        return self._nested("r", ReadEmitter, scope, order, name)

    def checker(self, scope: dict[str, Any], order: str, name: str) -> str:
        return self._nested("k", CheckEmitter, scope, order, name)

    def _nested(self, letter: str, emitter: type[ReadEmitter], scope: dict[str, Any], order: str, name: str) -> str:
        bound, key = f"{letter}_{name.replace('/', '_')}", (letter + order, name)
        if key not in self._functions:
            inner = self._scope()
            source = emitter(self, inner, order, top=False).source("read", self.store.message(name))
            self._functions[key] = _compile(source, "read", inner)
        scope[bound] = self._functions[key]
        return bound

    def writer(self, scope: dict[str, Any], name: str) -> str:
        bound = f"w_{name.replace('/', '_')}"
        if ("write", name) not in self._functions:
            inner = self._scope()
            source = WriteEmitter(self, inner, top=False).source("write", self.store.message(name))
            self._functions["write", name] = _compile(source, "write", inner)
        scope[bound] = self._functions["write", name]
        return bound

    @staticmethod
    def _late(make: Callable[[], Callable[[bytes], Any]]) -> Callable[[bytes], Any]:
        """A decoder that is made when it is first used."""
        made: list[Callable[[bytes], Any]] = []

        def decode(data: bytes) -> Any:
            if not made:
                made.append(make())
            return made[0](data)

        return decode

    def _decoder(
        self,
        message: Message,
        check_end: Callable[[bytes, int], None] = cdr.check_end,
        emitter: type[ReadEmitter] = ReadEmitter,
    ) -> Callable[[bytes], Any]:
        """The little-endian decoder; big-endian data makes the other one when it first comes."""
        swapped: list[Callable[[bytes], Any]] = []

        def other(data: bytes) -> Any:
            if cdr.check_header(data) != ">":
                raise CdrError("the encapsulation header is damaged")
            if not swapped:
                scope = self._scope() | {"other": damaged, "check_end": check_end}
                source = emitter(self, scope, ">", top=True).source("decode", message)
                swapped.append(_compile(source, "decode", scope))
            return swapped[0](data)

        def damaged(data: bytes) -> NoReturn:
            raise CdrError(f"encapsulation {data[:2].hex()} is not plain CDR (0000 or 0001)")

        scope = self._scope() | {"other": other, "check_end": check_end}
        return _compile(emitter(self, scope, "<", top=True).source("decode", message), "decode", scope)

    @staticmethod
    def _scope() -> dict[str, Any]:
        names = (
            "HEADER",
            "PAD",
            "check_bound",
            "check_count",
            "check_end",
            "check_length",
            "number_bytes",
            "read_bools",
            "read_numbers",
            "read_octets",
            "read_text",
            "read_texts",
            "read_wide",
            "skip_numbers",
            "text_bytes",
            "wide_bytes",
            "write_texts",
        )
        return {name: getattr(cdr, name) for name in names} | {"wrong_class": _wrong_class}


def _wrong_class(value: object, expected: str, name: str) -> NoReturn:
    raise CdrError(f"{name}: got a {getattr(value, 'type_name', type(value).__name__)}, expected {expected}")


def _compile(source: str, name: str, scope: dict[str, Any]) -> Callable[..., Any]:
    exec(compile(source, f"<codec {name}>", "exec"), scope)  # noqa: S102 - our own source, names checked by the parser
    function: Callable[..., Any] = scope[name]
    return function
