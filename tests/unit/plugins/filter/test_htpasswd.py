# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""The registry's users."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wasmbed.edge.plugins.filter.htpasswd import htpasswd

bcrypt = pytest.importorskip("bcrypt")
PASSWORD = "a-long-and-random-password-0123"


def test_the_same_passwords_give_the_same_file():
    assert htpasswd({"push": PASSWORD, "pull": PASSWORD}) == htpasswd({"pull": PASSWORD, "push": PASSWORD})


def test_equal_passwords_of_two_users_have_different_hashes():
    first, second = htpasswd({"push": PASSWORD, "pull": PASSWORD}).splitlines()
    assert first.partition(":")[2] != second.partition(":")[2]


def test_the_hash_checks_the_password():
    stored = htpasswd({"push": PASSWORD}).strip().partition(":")[2].encode()
    assert bcrypt.checkpw(PASSWORD.encode(), stored)
    assert not bcrypt.checkpw(b"another-password-of-the-length", stored)


@pytest.mark.parametrize("users", [{"push": "short"}, {"a:b": PASSWORD}, {"push": "x" * 73}])
def test_what_htpasswd_cannot_hold_is_refused(users):
    with pytest.raises(AnsibleFilterError):
        htpasswd(users)
