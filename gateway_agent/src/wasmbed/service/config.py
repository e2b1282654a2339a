"""Configuration files: YAML into frozen dataclasses, every mistake named with its file, field and remedy."""

import dataclasses
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

MAX_CONFIG_BYTES = 64 * 1024

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


class ConfigError(Exception):
    """A configuration file that cannot be used; the message names the file, the field and what to change."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without the silent loss of a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"field {key!r} is there twice; remove one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path, cls: type[T], *, parts: Path | None = None) -> T:
    """Read `path` (YAML, at most 64 KiB) into the dataclass `cls`, nested dataclasses included.

    The files `*.yaml` of the folder `parts`, if there is one, add fields, each of which may be in one file only.

    A field without a default is required. Raises ConfigError for a file that cannot be read, an unknown or missing
    field and a value of another type; a ValueError of a dataclass' `__post_init__` becomes one too.
    """
    value = _read(path)
    for part in sorted(parts.glob("*.yaml")) if parts is not None else ():
        more = _read(part)
        if not isinstance(value, dict) or not isinstance(more, dict):
            raise ConfigError(f"{part}: must be a mapping of fields, as {path} must")
        if both := value.keys() & more.keys():
            raise ConfigError(f"{part}: field {min(map(str, both))} is in another file too; remove one")
        value |= more
    result: T = _dataclass(value, cls, str(path), "")
    return result


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; create it or pass --config") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; a configuration file is a few lines")
    try:
        # _Loader is a SafeLoader: it makes plain values only.
        return yaml.load(data, _Loader)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _dataclass(value: object, cls: Any, source: str, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{source}: {where or 'the file'} must be a mapping of fields, not {_shown(value)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in value:
        if key not in fields:
            raise ConfigError(
                f"{source}: unknown field {_join(where, str(key))}; remove it or use one of: {', '.join(fields)}"
            )
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _convert(value[name], hints[name], source, _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: field {_join(where, name)} is missing; add it")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ConfigError(f"{source}: {where + ': ' if where else ''}{error}") from error


def _convert(value: object, hint: Any, source: str, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(value, arguments, source, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, hint, source, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{source}: {where} must be one of {', '.join(map(str, arguments))}, not {_shown(value)}")
    if origin in (list, tuple, frozenset):
        if not isinstance(value, list):
            raise ConfigError(f"{source}: {where} must be a list, not {_shown(value)}")
        return origin(_convert(item, arguments[0], source, f"{where}[{at}]") for at, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {where} must be a mapping, not {_shown(value)}")
        return {
            _convert(key, arguments[0], source, f"the key {key!r} of {where}"): _convert(
                item, arguments[1], source, _join(where, str(key))
            )
            for key, item in value.items()
        }
    return _scalar(value, hint, source, where)


def _union(value: object, arguments: tuple[Any, ...], source: str, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [argument for argument in arguments if argument is not type(None)]
    for choice in choices[:-1]:
        try:
            return _convert(value, choice, source, where)
        except ConfigError:
            continue
    return _convert(value, choices[-1], source, where)


def _scalar(value: object, hint: Any, source: str, where: str) -> Any:
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is Any:  # a field that the dataclass judges itself
        return value
    # bool is a subclass of int, and `yes` where a number belongs is a mistake.
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{source}: {where} must be {_NAMES.get(hint, str(hint))}, not {_shown(value)}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
