"""What can go wrong in the bridge; every message says what to change."""

from __future__ import annotations

from typing import ClassVar


class Ros2Error(Exception):
    """Base of the errors of the ROS 2 bridge; `code` is what an application gets (docs/abi.md, error codes)."""

    code: ClassVar[int] = -5


class DefinitionError(Ros2Error):
    """An interface definition is malformed; the message has the file and the line."""


class UnknownTypeError(Ros2Error):
    """No source of definitions has this type."""


class CdrError(Ros2Error):
    """Bytes that are not a serialized message of the type, or a message that cannot be one."""

    code = -22


class ValidationError(Ros2Error):
    """A value does not fit its field; the message begins with the path of the field."""

    code = -22


class ConfigurationError(Ros2Error):
    """The bridge's configuration is wrong; the message begins with the key."""


class NameRejectedError(Ros2Error):
    """A topic, service, node or namespace is not a valid ROS name."""


class IncompatiblePeerError(Ros2Error):
    """A peer that cannot be served this way; the message says what it expects."""

    code = -19


class CallError(Ros2Error):
    """A service call or a goal was not answered."""

    code = -62


class NoReplyError(Ros2Error):
    """A request is left without a reply on purpose; who does so has counted it, so that it needs no line of the log."""

    code = -62


class NotGrantedError(Ros2Error):
    """An application used a route it has not."""

    code = -1


class BusyError(Ros2Error):
    """Too fast or too much at once: the message was not taken; try again later."""

    code = -11
