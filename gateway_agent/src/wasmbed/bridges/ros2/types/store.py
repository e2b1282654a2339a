"""Finds definitions by name: shipped tables of one distribution and one PX4 release, and packages on disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2.errors import DefinitionError, UnknownTypeError
from wasmbed.bridges.ros2.types import tables
from wasmbed.bridges.ros2.types.derived import (
    action_messages,
    action_type,
    get_result,
    send_goal,
    service_messages,
    service_type,
)
from wasmbed.bridges.ros2.types.idl import Idl, to_text
from wasmbed.bridges.ros2.types.model import Action, Definition, Message, Service
from wasmbed.bridges.ros2.types.parser import MAX_TEXT, check_type_name, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FILES: Final = 10_000
MAX_DEPTH: Final = 32
_KINDS: Final = ("msg", "srv", "action")


class TypeStore:
    """Definitions by name, parsed when they are first asked for."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self._definitions: dict[str, Definition] = {}
        self._messages: dict[str, Message] = {}

    @classmethod
    def of(
        cls, distribution: str = "jazzy", px4_release: str | None = None, packages: Iterable[Path] = ()
    ) -> TypeStore:
        """The standard interfaces of a distribution, px4_msgs of a release, and user packages, which come last.

        Raises:
            ConfigurationError: an unknown distribution or release.
            DefinitionError: a package that cannot be read.
        """
        texts = dict(tables.standard(distribution).definitions)
        if px4_release is not None:
            texts |= tables.px4(px4_release).definitions
        for path in packages:
            texts |= read_packages(path)
        return cls(texts)

    def names(self) -> list[str]:
        """All interfaces, sorted."""
        return sorted(self._texts)

    def __contains__(self, name: str) -> bool:
        try:
            self.definition(name)
        except (UnknownTypeError, DefinitionError):
            return False
        return True

    def definition(self, name: str) -> Definition:
        """The definition of `package/kind/Name`.

        Raises:
            UnknownTypeError: no source has it.
            DefinitionError: it is malformed.
        """
        name = check_type_name(name)
        found = self._definitions.get(name)
        if found is None:
            text = self._texts.get(name)
            if text is None:
                raise UnknownTypeError(f"{name}: no definition; give the folder of its package in `packages`")
            found = self._definitions[name] = parse(name, to_text(name, text) if isinstance(text, Idl) else text)
        return found

    def service(self, name: str) -> Service:
        """A service, one of an action's services (`..._SendGoal`, `..._GetResult`) among them."""
        for suffix, derive in (("_SendGoal", send_goal), ("_GetResult", get_result)):
            if "/action/" in name and name.endswith(suffix):
                return derive(self.action(name.removesuffix(suffix)))
        found = self.definition(name)
        if not isinstance(found, Service):
            raise UnknownTypeError(f"{name} is not a service")
        return found

    def action(self, name: str) -> Action:
        found = self.definition(name)
        if not isinstance(found, Action):
            raise UnknownTypeError(f"{name} is not an action")
        return found

    def message(self, name: str) -> Message:
        """A message, or a part of a service or an action such as `std_srvs/srv/SetBool_Request`."""
        name = check_type_name(name)
        found = self._messages.get(name)
        if found is not None:
            return found
        if "/msg/" in name:
            definition = self.definition(name)
            assert isinstance(definition, Message)  # noqa: S101 - what parse makes of a name with /msg/
            self._messages[name] = definition
            return definition
        for prefix in _prefixes(name):
            if prefix in self._texts:
                definition = self.definition(prefix)
                if isinstance(definition, Service):
                    self._messages |= {message.name: message for message in service_messages(definition)}
                elif isinstance(definition, Action):
                    self._messages |= {message.name: message for message in action_messages(definition)}
                if name in self._messages:
                    return self._messages[name]
        raise UnknownTypeError(f"{name}: no such message, service part or action part")

    def described(self, name: str) -> Message:
        """As `message`, and for a service or an action the structure of its type description."""
        try:
            return self.message(name)
        except UnknownTypeError:
            if "/action/" in name and name.endswith(("_SendGoal", "_GetResult")):
                return service_type(self.service(name))
            found = self.definition(name)
            return service_type(found) if isinstance(found, Service) else action_type(self.action(name))

    def closure(self, name: str) -> dict[str, Message]:
        """The type and all it refers to, the type first; raises DefinitionError for a cycle."""
        found: dict[str, Message] = {}

        def visit(current: str, path: tuple[str, ...]) -> None:
            if current in path or len(path) > MAX_DEPTH:
                raise DefinitionError(f"{current} contains itself, or is nested deeper than {MAX_DEPTH}")
            if current in found:
                return
            found[current] = message = self.described(current)
            for field in message.fields:
                if field.type.nested:
                    visit(field.type.base, (*path, current))

        visit(check_type_name(name), ())
        return found


def _prefixes(name: str) -> list[str]:
    return [name[: match.start()] for match in re.finditer("_", name) if match.start() > name.rfind("/")]


def read_packages(root: Path) -> dict[str, str]:
    """Read every package under `root` (a package itself, or a workspace of several): name to text.

    Raises:
        DefinitionError: nothing is there, a file is too long or not UTF-8, or there are more than MAX_FILES.
    """
    texts: dict[str, str] = {}
    if not root.is_dir():
        raise DefinitionError(f"{root}: not a folder of interface packages")
    for folder, folders, files in os.walk(root):
        path = Path(folder)
        # What colcon builds and installs has copies of the definitions; it marks those folders so for itself.
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not (path / name / "COLCON_IGNORE").exists()
        )
        kind = path.name
        if kind not in _KINDS:
            continue
        package = _package_name(path.parent)
        for file in sorted(files):
            stem, dot, suffix = file.rpartition(".")
            # Packages that are installed have an .idl made of each .msg, .srv and .action.
            if not dot or suffix not in (kind, "idl") or (suffix == "idl" and f"{stem}.{kind}" in files):
                continue
            if len(texts) >= MAX_FILES:
                raise DefinitionError(f"{root}: more than {MAX_FILES} definitions")
            name = check_type_name(f"{package}/{kind}/{stem}")
            texts[name] = Idl(_read(path / file)) if suffix == "idl" else _read(path / file)
    if not texts:
        raise DefinitionError(f"{root}: no .msg, .srv, .action or .idl file in a folder msg, srv or action")
    return texts


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise DefinitionError(f"{path}: longer than {MAX_TEXT} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: {error}") from None


def _package_name(folder: Path) -> str:
    manifest = folder / "package.xml"
    if manifest.is_file():
        match = re.search(r"<name>\s*([a-z][a-z0-9_]*)\s*</name>", _read(manifest))
        if match:
            return match.group(1)
    return folder.name
