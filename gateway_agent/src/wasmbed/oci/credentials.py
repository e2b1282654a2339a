"""Credentials of registries in a docker config.json (`auths` only: no helper program is ever started)."""

import base64
import binascii
import json
from pathlib import Path

from wasmbed.oci.errors import ImageError

MAX_CREDENTIALS_BYTES = 64 * 1024


def credentials_for(path: Path | None, hosts: tuple[str, ...]) -> tuple[str, str] | None:
    """User name and password for the first of `hosts` that `path` knows; None when it knows none or there is no file.

    Raises ImageError when the file cannot be read; what is in it is never part of the message.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CREDENTIALS_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}; correct its owner and mode") from error
    try:
        document = json.loads(data) if len(data) <= MAX_CREDENTIALS_BYTES else None
    except ValueError:
        document = None
    auths = document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise ImageError(f"{path}: is not a docker config.json with `auths`; write it anew")
    for host in hosts:
        for key in (host, f"https://{host}", f"https://{host}/v2/"):
            if isinstance(entry := auths.get(key), dict):
                return _decode(entry, path, host)
    return None


def _decode(entry: dict[str, object], path: Path, host: str) -> tuple[str, str]:
    username, password = entry.get("username"), entry.get("password")
    if isinstance(username, str) and isinstance(password, str):
        return username, password
    try:
        username, colon, password = base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise ImageError(f"{path}: the entry of {host} has no `auth` of base64(user:password); write it anew") from None
    return str(username), str(password)
