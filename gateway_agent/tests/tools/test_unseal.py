"""`wasmbed unseal` at the operator's desk."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from wasmbed.gateway.sealing_key import gateway_key
from wasmbed.runtime.sealing import UP, application_key, seal

if TYPE_CHECKING:
    from pathlib import Path

SITE = bytes(range(32))
KEY = application_key(gateway_key(SITE, "gw-1"), "default/app", "uid")
ENVELOPE = seal(KEY, "default/app", "default/one", UP, 7, b"42 degC\x00")


def unseal(folder: Path, data: bytes, *options: str, mode: int = 0o600) -> subprocess.CompletedProcess[bytes]:
    (folder / "site").write_bytes(base64.b64encode(SITE))
    (folder / "site").chmod(mode)
    (folder / "message").write_bytes(data)
    arguments = ["--key-file", str(folder / "site"), "--application", "default/app", "--uid", "uid", *options]
    command = [sys.executable, "-m", "wasmbed.tools.main", "unseal", *arguments, str(folder / "message")]
    return subprocess.run(command, capture_output=True, check=False)


@pytest.mark.parametrize("data", [ENVELOPE, base64.b64encode(ENVELOPE) + b"\n"], ids=["plain", "base64"])
def test_message_is_opened_with_the_key_of_the_site(tmp_path: Path, data: bytes) -> None:
    result = unseal(tmp_path, data, "--gateway", "gw-1")
    assert (result.returncode, result.stdout) == (0, b"42 degC\x00")
    assert b"device=default/one direction=up sequence=7 bytes=8" in result.stderr


@pytest.mark.parametrize(
    ("data", "options", "mode", "says"),
    [
        (ENVELOPE, ("--gateway", "gw-2"), 0o600, b"not authentic"),
        (ENVELOPE, (), 0o600, b"not authentic"),
        (ENVELOPE, ("--gateway", "gw-1", "--uid", "other"), 0o600, b"not authentic"),
        (ENVELOPE, ("--gateway", "gw-1"), 0o644, b"others may read it"),
        (ENVELOPE[:-1], ("--gateway", "gw-1"), 0o600, b"not a sealed message"),
        (bytes(100_000), ("--gateway", "gw-1"), 0o600, b"longer than"),
    ],
    ids=["gateway", "site", "uid", "mode", "damaged", "long"],
)
def test_what_cannot_be_opened_is_told_without_a_word_of_the_content(
    tmp_path: Path, data: bytes, options: tuple[str, ...], mode: int, says: bytes
) -> None:
    result = unseal(tmp_path, data, *options, mode=mode)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.startswith(b"wasmbed: ")
    assert says in result.stderr
    assert b"Traceback" not in result.stderr
