"""`wasmbed unseal`: opens sealed messages at the operator's desk."""

from __future__ import annotations

import base64
import binascii
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wasmbed.gateway.sealing_key import KeyFileError, gateway_key, read_key
from wasmbed.runtime.sealing import DOWN, SealError, application_key, unseal

if TYPE_CHECKING:
    import argparse

MAX_FILE_BYTES = 64 * 1024


class UnsealError(Exception):
    """The message cannot be opened; the message says why."""


def open_message(data: bytes, key: bytes, application: str) -> tuple[str, bytes]:
    """What is known of a message in words, and its content; the message is an envelope as it is or in base64.

    Raises:
        UnsealError: it is none, or of another key or application.
    """
    try:
        envelope = unseal(key, data)
    except SealError as first:
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise UnsealError(str(first)) from None
        try:
            envelope = unseal(key, data)
        except SealError as error:
            raise UnsealError(str(error)) from None
    if envelope.application != application:
        raise UnsealError(f"the message is of {envelope.application}, not of {application}")
    direction = "down" if envelope.direction == DOWN else "up"
    words = f"application={envelope.application} device={envelope.device} direction={direction}"
    return f"{words} sequence={envelope.sequence} bytes={len(envelope.content)}", envelope.content


def run(arguments: argparse.Namespace) -> int:
    """Write the content to stdout and the rest to stderr; 1 when the message cannot be opened."""
    path: Path = arguments.message
    try:
        key = read_key(arguments.key_file)
        if arguments.gateway is not None:
            key = gateway_key(key, arguments.gateway)
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UnsealError(f"{path}: longer than {MAX_FILE_BYTES} bytes")
        key = application_key(key, arguments.application, arguments.uid)
        words, content = open_message(data, key, arguments.application)
    except (KeyFileError, UnsealError, OSError) as error:
        print(f"wasmbed: {error}", file=sys.stderr)
        return 1
    print(words, file=sys.stderr)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    return 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = commands.add_parser(
        "unseal",
        help="open a message that an application sealed",
        description="Writes the content to the standard output, application, device and number to the other one.",
    )
    command.add_argument("message", type=Path, metavar="FILE", help="the envelope, as it is or in base64; - for stdin")
    command.add_argument(
        "--key-file", type=Path, required=True, help="key of the gateway, or with --gateway the site's"
    )
    command.add_argument("--gateway", metavar="NAME", help="derive this gateway's key of that in the key file")
    command.add_argument("--application", required=True, metavar="NAMESPACE/NAME")
    command.add_argument("--uid", required=True, help="metadata.uid of the WasmApplication")
    command.set_defaults(action=run)
