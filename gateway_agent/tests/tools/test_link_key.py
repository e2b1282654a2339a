"""`wasmbed link-key`: one key for good, for its owner's eyes only."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from wasmbed.link import noise
from wasmbed.tools import link_key

if TYPE_CHECKING:
    from pathlib import Path


def test_a_key_is_made_once_and_its_public_half_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "link.key"
    public = link_key.make(file)
    assert link_key.make(file) == public
    private = base64.b64decode(file.read_text().strip())
    assert base64.b64decode(public) == noise.public_key(private)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link.key.pub").read_text() == f"{public}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"link.key", "link.key.pub"}


@pytest.mark.parametrize("content", ["", "AAAA", "not base64!", "é"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "link.key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(link_key.LinkKeyError, match="remove it"):
        link_key.make(file)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "link.key"
    link_key.make(file)
    file.chmod(0o640)
    with pytest.raises(link_key.LinkKeyError, match="chmod 600"):
        link_key.make(file)
