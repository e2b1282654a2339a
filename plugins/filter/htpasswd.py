# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Lines of an htpasswd file with bcrypt hashes that stay the same as long as their password does."""

from __future__ import annotations

import base64
import hashlib

from ansible.errors import AnsibleFilterError

try:
    import bcrypt
except ImportError:
    bcrypt = None

# The passwords are long and random, so a guess costs enough; the registry checks one with every request.
ROUNDS = 5
STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def salt(user: str, password: str) -> bytes:
    """Return a 128-bit bcrypt salt that follows from user and password, in bcrypt's own base64."""
    digest = hashlib.sha256(f"htpasswd\0{user}\0{password}".encode()).digest()[:16]
    text = base64.b64encode(digest).rstrip(b"=").translate(bytes.maketrans(STANDARD, BCRYPT))
    return b"$2b$%02d$%s" % (ROUNDS, text)


def htpasswd(users: dict[str, str]) -> str:
    """Return an htpasswd file of user name to password, in the order of the names."""
    if bcrypt is None:
        raise AnsibleFilterError("htpasswd needs the Python package bcrypt on the control machine; install it")
    lines = []
    for user, password in sorted(users.items()):
        if len(password) < 16:
            raise AnsibleFilterError(f"the password of {user} is shorter than 16 characters; give a longer one")
        if ":" in user or len(password.encode()) > 72:
            raise AnsibleFilterError(f"{user}: no colon in the name, and at most 72 bytes of password")
        lines.append(f"{user}:{bcrypt.hashpw(password.encode(), salt(user, password)).decode()}\n")
    return "".join(lines)


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        return {"htpasswd": htpasswd}
