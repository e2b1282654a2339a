# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Keys, certificates and when they are made anew; the pair of files that is swapped in one step."""

from __future__ import annotations

import datetime

import pytest

pytest.importorskip("cryptography")

from ansible_collections.wasmbed.edge.plugins.module_utils import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

PROFILE = certificates.Profile(
    "api", ("group",), ("localhost", "api.example.org"), ("127.0.0.1", "fd00::1"), ("server", "client")
)
KEEP = datetime.timedelta(days=30)
MODES = (0o600, 0o644)
NOBODY = (-1, -1)


def authority(days=3650.0):
    """Return certificate and key of a new authority, both in PEM."""
    key = certificates.new_key("ecdsa-p256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    now = certificates.utc_now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), certificates.key_pem(key)


CA, CA_KEY = authority()


def pair(profile=PROFILE, kind="ecdsa-p256", days=365.0, signer=(CA, CA_KEY)):
    key = certificates.new_key(kind)
    chain = certificates.sign(profile, key.public_key(), *signer, days)
    return certificates.Pair(key, x509.load_pem_x509_certificate(chain))


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519", "rsa-3072"])
def test_pair_that_says_what_is_wanted_stays(kind):
    made = pair(kind=kind)
    assert certificates.key_kind(made.key) == kind
    assert made.reasons_to_renew(PROFILE, kind, CA, KEEP) == []


def test_certificate_is_no_authority_and_says_for_what_it_is():
    certificate = pair().certificate
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificates.describe(certificate) == PROFILE.describe()
    assert certificates.signed_by(certificate, x509.load_pem_x509_certificate(CA))


@pytest.mark.parametrize(
    ("profile", "word"),
    [
        (certificates.Profile("other", *list(vars(PROFILE).values())[1:]), "subject"),
        (certificates.Profile("api", ("group",), ("localhost",), PROFILE.ip_addresses, PROFILE.usages), "dns_names"),
        (certificates.Profile("api", ("group",), PROFILE.dns_names, ("10.0.0.1",), PROFILE.usages), "ip_addresses"),
        (certificates.Profile("api", ("group",), PROFILE.dns_names, PROFILE.ip_addresses, ("client",)), "usages"),
    ],
)
def test_pair_that_says_something_else_is_made_anew(profile, word):
    (reason,) = pair().reasons_to_renew(profile, "ecdsa-p256", CA, KEEP)
    assert reason.startswith(word)


def test_pair_near_its_end_is_made_anew():
    (reason,) = pair(days=29.9).reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP)
    assert "renewal window" in reason


def test_pair_of_another_authority_is_made_anew():
    made = pair(signer=authority())
    assert made.reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP) == ["it was signed by another authority"]


def test_key_and_certificate_of_different_pairs_are_made_anew():
    mixed = certificates.Pair(pair().key, pair().certificate)
    assert mixed.reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP) == ["key and certificate do not belong together"]


def test_key_of_another_kind_is_made_anew():
    reasons = pair(kind="ed25519").reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP)
    assert reasons == ["the key is ed25519, wanted ecdsa-p256"]


def test_certificate_does_not_outlive_its_authority():
    signer = authority(days=10)
    made = pair(days=365, signer=signer)
    end = certificates.not_after(x509.load_pem_x509_certificate(signer[0]))
    assert certificates.not_after(made.certificate) <= end


def test_authority_that_ended_signs_nothing():
    with pytest.raises(certificates.CertificateError, match="role pki"):
        pair(signer=authority(days=-0.5))


def test_authority_with_the_key_of_another_is_refused():
    with pytest.raises(certificates.CertificateError, match="do not belong together"):
        pair(signer=(CA, authority()[1]))


def write(folder, name="a"):
    """Write a new pair into a folder; return its certificate."""
    made = pair()
    chain = made.certificate.public_bytes(serialization.Encoding.PEM)
    paths = str(folder / f"{name}.key"), str(folder / f"{name}.crt")
    certificates.write_pair(*paths, certificates.key_pem(made.key), chain, MODES, NOBODY)
    return made.certificate


def test_written_pair_is_read_back_with_its_modes(tmp_path):
    certificate = write(tmp_path)
    read = certificates.load_pair(str(tmp_path / "a.key"), str(tmp_path / "a.crt"))
    assert read.certificate == certificate
    assert read.reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP) == []
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.crt").stat().st_mode & 0o777 == 0o644


def test_second_pair_replaces_the_first_by_one_link_and_leaves_nothing_of_it(tmp_path):
    write(tmp_path)
    first = (tmp_path / ".a.crt.pair").readlink()
    certificate = write(tmp_path)
    assert (tmp_path / ".a.crt.pair").readlink() != first
    assert not (tmp_path / first).exists()
    read = certificates.load_pair(str(tmp_path / "a.key"), str(tmp_path / "a.crt"))
    assert read.certificate == certificate


def test_pairs_beside_each_other_do_not_touch(tmp_path):
    certificate = write(tmp_path, "a")
    write(tmp_path, "b")
    write(tmp_path, "b")
    read = certificates.load_pair(str(tmp_path / "a.key"), str(tmp_path / "a.crt"))
    assert read.certificate == certificate


def test_folder_of_a_pair_that_nobody_else_may_read_is_closed(tmp_path):
    made = pair()
    chain = made.certificate.public_bytes(serialization.Encoding.PEM)
    paths = str(tmp_path / "a.key"), str(tmp_path / "a.crt")
    certificates.write_pair(*paths, certificates.key_pem(made.key), chain, (0o600, 0o600), NOBODY)
    assert (tmp_path / ".a.crt.pair").stat().st_mode & 0o777 == 0o700


def test_unreadable_files_are_no_pair(tmp_path):
    (tmp_path / "a.key").write_text("no key")
    (tmp_path / "a.crt").write_text("no certificate")
    read = certificates.load_pair(str(tmp_path / "a.key"), str(tmp_path / "a.crt"))
    assert read.reasons_to_renew(PROFILE, "ecdsa-p256", CA, KEEP) == ["there is no readable pair"]


def test_key_elsewhere_than_its_certificate_is_refused(tmp_path):
    with pytest.raises(certificates.CertificateError, match="one folder"):
        certificates.write_pair(str(tmp_path / "x/a.key"), str(tmp_path / "a.crt"), b"", b"", MODES, NOBODY)


def test_owner_that_does_not_exist_is_named():
    with pytest.raises(certificates.CertificateError, match="no-such-user"):
        certificates.owner_ids("no-such-user", None)
