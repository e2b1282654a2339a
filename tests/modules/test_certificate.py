"""certificate with the provider ownca, as tasks. Signing through the API needs a controller-manager: see molecule."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.pki import Authority

if TYPE_CHECKING:
    from tests.modules.conftest import Play


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    authority = Authority(tmp_path, "site-ca")
    return {
        "path": str(tmp_path / "host.crt"),
        "key_path": str(tmp_path / "host.key"),
        "provider": "ownca",
        "ownca_certificate": authority.ca_file.read_text(),
        "ownca_key": authority.key_file.read_text(),
        "common_name": "registry.wasmbed.local",
        "dns_names": ["registry.wasmbed.local"],
        "ip_addresses": ["10.79.0.11"],
        # The test's authority ends in a day.
        "days": 0.5,
        "renew_before_days": 0.1,
    }


def task(options: dict[str, Any], check: bool = False, **changes: Any) -> dict[str, Any]:
    return {"wasmbed.edge.certificate": {**options, **changes}, "check_mode": check}


def test_a_pair_is_made_once_and_belongs_together(play: Play, options: dict[str, Any], tmp_path: Path) -> None:
    check, real, again = play.run(task(options, check=True), task(options), task(options))
    assert check["changed"] is real["changed"] is True
    assert check["reasons"] == real["reasons"]
    assert again["changed"] is False
    assert again["serial_number"] == real["serial_number"]
    assert (tmp_path / "host.key").stat().st_mode & 0o777 == 0o600
    authority = tmp_path / "authority.crt"
    authority.write_text(options["ownca_certificate"])
    verify = ["openssl", "verify", "-CAfile", str(authority), options["path"]]
    assert subprocess.run(verify, capture_output=True, text=True, check=False).stdout.endswith(": OK\n")


def test_check_mode_writes_nothing(play: Play, options: dict[str, Any]) -> None:
    play.run(task(options, check=True))
    assert not Path(options["path"]).exists()
    assert not Path(options["key_path"]).exists()


def test_another_name_or_authority_makes_a_new_pair(play: Play, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other-ca")
    first, renamed, resigned = play.run(
        task(options),
        task(options, dns_names=["other.wasmbed.local"]),
        task(
            options,
            dns_names=["other.wasmbed.local"],
            ownca_certificate=other.ca_file.read_text(),
            ownca_key=other.key_file.read_text(),
        ),
    )
    assert renamed["changed"] is resigned["changed"] is True
    assert len({result["serial_number"] for result in (first, renamed, resigned)}) == 3
    assert "other.wasmbed.local" in str(renamed["diff"]["after"])


def test_no_key_is_in_any_output(play: Play, options: dict[str, Any]) -> None:
    play.run(task(options), arguments=("-vvv",))
    secret_line = options["ownca_key"].splitlines()[1]
    assert secret_line not in play.output
    assert Path(options["key_path"]).read_text().splitlines()[1] not in play.output
