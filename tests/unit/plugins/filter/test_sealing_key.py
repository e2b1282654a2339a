# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""A gateway's sealing key is the one that the operator's command derives."""

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.wasmbed.edge.plugins.filter.sealing_key import sealing_key
from wasmbed.gateway.sealing_key import gateway_key

SITE = bytes(range(32))


def test_the_key_is_that_of_wasmbed_unseal():
    text = base64.b64encode(SITE).decode() + "\n"
    assert base64.b64decode(sealing_key(text, "gw-1")) == gateway_key(SITE, "gw-1")
    assert sealing_key(text, "gw-1") != sealing_key(text, "gw-2")


def test_a_site_without_a_key_has_none():
    assert sealing_key("", "gw-1") == ""


@pytest.mark.parametrize("text", ["short", "????", base64.b64encode(bytes(31)).decode()])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(AnsibleFilterError, match="head -c 32"):
        sealing_key(text, "gw-1")
