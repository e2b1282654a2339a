# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""A gateway's key for sealed messages, derived of the site's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from ansible.errors import AnsibleFilterError

KEY_BYTES = 32


def sealing_key(site_key: str, gateway: str) -> str:
    """Return the key in base64 (HKDF-SHA256, RFC 5869, no salt), nothing for a site without one.

    C(wasmbed unseal --gateway) derives the same one.
    """
    if not site_key.strip():
        return ""
    try:
        key = base64.b64decode(site_key.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise AnsibleFilterError(
            "the site's sealing key is not 32 bytes in base64; make one: head -c 32 /dev/urandom | base64"
        )
    extracted = hmac.new(bytes(KEY_BYTES), key, hashlib.sha256).digest()
    info = f"wasmbed gateway 1|{gateway}".encode()
    return base64.b64encode(hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()).decode()


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        return {"sealing_key": sealing_key}
