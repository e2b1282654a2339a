"""The site's authorities."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from lab_site import check_mode_changes, playbook

if TYPE_CHECKING:
    from pathlib import Path

    from lab_site import Site

AUTHORITIES = ("kubernetes-ca", "etcd-ca", "site-ca", "device-ca")


@pytest.fixture(scope="module")
def folder(site: Site) -> Path:
    return site.directory / "pki"


def test_authorities_sign_and_do_nothing_else(folder: Path) -> None:
    for name in AUTHORITIES:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_cert_sign
        assert not usage.digital_signature
        left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert left > datetime.timedelta(days=365)


def test_no_authority_stands_for_another(folder: Path) -> None:
    for name in AUTHORITIES:
        for other in AUTHORITIES:
            result = subprocess.run(
                ["openssl", "verify", "-CAfile", folder / f"{other}.crt", folder / f"{name}.crt"],
                capture_output=True,
                check=False,
            )
            assert (result.returncode == 0) is (name == other)


def test_keys_and_secrets_are_read_by_the_operator_alone(site: Site, folder: Path) -> None:
    for place in (folder, site.directory / "secrets"):
        assert place.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in place.iterdir() if path.is_file() and path.stat().st_mode & 0o077} == set()


def test_a_lost_key_is_not_made_anew(folder: Path, tmp_path: Path) -> None:
    """A new key under an old certificate would leave every host with a certificate nobody can renew."""
    copy = tmp_path / "pki"
    shutil.copytree(folder, copy)
    (copy / "site-ca.key").unlink()
    result = playbook("molecule/pki/converge.yml", f"--extra-vars=pki_dir={copy}")
    assert result.returncode != 0
    assert "put its key back" in " ".join(result.stdout.split())
    assert not (copy / "site-ca.key").exists()


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("pki") == {}
