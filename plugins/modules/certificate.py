#!/usr/bin/python
# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""Keep a key and its certificate on a host, signed by a local authority or through the Kubernetes API."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Keep a key and its certificate on a host
version_added: 0.1.0
author:
  - Wasmbed contributors (@wasmbed)
description:
  - Makes the private key on the host, where it stays; has the certificate signed; puts both in place in one step, so
    that a kill at any moment leaves the old pair or the new one.
  - Makes a new pair when the existing one does not say what is asked for, does not belong together, was signed by
    another authority, or ends within O(renew_before_days).
requirements:
  - cryptography >= 38 on the host
extends_documentation_fragment:
  - wasmbed.edge.attributes
options:
  path:
    description:
      - The certificate. O(key_path) must be in the same folder, which is made with mode 0755 when it is missing.
    type: path
    required: true
  key_path:
    description: The private key in PEM, in the form of RFC 5958.
    type: path
    required: true
  provider:
    description:
      - V(ownca) signs with O(ownca_certificate) and O(ownca_key), which are used in memory and never written.
      - V(kubernetes) sends a request to certificates.k8s.io.
    type: str
    choices: [ownca, kubernetes]
    required: true
  common_name:
    description: Common name of the subject.
    type: str
    required: true
  organizations:
    description: Organizations of the subject; Kubernetes reads them as groups.
    type: list
    elements: str
    default: []
  dns_names:
    description: DNS names of the subject.
    type: list
    elements: str
    default: []
  ip_addresses:
    description: IP addresses of the subject.
    type: list
    elements: str
    default: []
  usages:
    description: What the certificate is for.
    type: list
    elements: str
    choices: [server, client]
    default: [server]
  key_type:
    description: Kind of key.
    type: str
    choices: [ecdsa-p256, ed25519, rsa-3072]
    default: ecdsa-p256
  keep_key:
    description:
      - Whether a new certificate is for the key that is there, when that is one of O(key_type). Otherwise it has a new
        key. For a key that is an identity, as that of a device.
    type: bool
    default: false
  days:
    description: How long a new certificate is valid, in days. The signer may lower it.
    type: float
    default: 365
  renew_before_days:
    description: A certificate that ends within this many days is made anew.
    type: float
    default: 30
  ownca_certificate:
    description: The authority's certificate in PEM. With O(provider=kubernetes) it may be given to check the signer.
    type: str
  ownca_key:
    description: The authority's private key in PEM.
    type: str
  signer_name:
    description: Signer of the request.
    type: str
    default: kubernetes.io/kube-apiserver-client
  kubeconfig:
    description: A parsed kubeconfig with its credentials inside, that may create the request.
    type: dict
  approver_kubeconfig:
    description: A parsed kubeconfig that may approve the request. Without it somebody else must.
    type: dict
  timeout:
    description: How long to wait for the certificate, in seconds.
    type: float
    default: 60
  owner:
    description: User that owns both files.
    type: str
  group:
    description: Group that owns both files.
    type: str
  key_mode:
    description: Mode of the key.
    type: str
    default: "0600"
  mode:
    description: Mode of the certificate.
    type: str
    default: "0644"
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Subject, names, usages and end are shown; never a key.
  idempotent:
    support: full
    details: Until the renewal window begins.
"""

EXAMPLES = r"""
- name: Give the registry its certificate
  wasmbed.edge.certificate:
    path: /etc/wasmbed/pki/registry.crt
    key_path: /etc/wasmbed/pki/registry.key
    provider: ownca
    ownca_certificate: "{{ lookup('ansible.builtin.file', 'pki/site.crt') }}"
    ownca_key: "{{ lookup('ansible.builtin.file', 'pki/site.key') }}"
    common_name: registry.wasmbed.local
    dns_names: [registry.wasmbed.local]

- name: Have the cluster sign the gateway's credential
  wasmbed.edge.certificate:
    path: /etc/wasmbed/pki/api.crt
    key_path: /etc/wasmbed/pki/api.key
    provider: kubernetes
    kubeconfig: "{{ lookup('ansible.builtin.file', 'admin.kubeconfig') | from_yaml }}"
    approver_kubeconfig: "{{ lookup('ansible.builtin.file', 'admin.kubeconfig') | from_yaml }}"
    common_name: wasmbed:gateway:gw1
    usages: [client]
"""

RETURN = r"""
reasons:
  description: Why a new pair was made.
  returned: success
  type: list
  elements: str
  sample: ["there is no readable pair"]
not_after:
  description: End of the certificate, UTC, ISO 8601. In check mode that of the existing one.
  returned: when there is a certificate
  type: str
  sample: "2027-11-24T12:00:00Z"
serial_number:
  description: Serial number, hexadecimal.
  returned: when there is a certificate
  type: str
  sample: 5d1f
fingerprint:
  description: SHA-256 of the certificate's DER form.
  returned: when there is a certificate
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
public_key:
  description: The public key, 32 bytes in base64, as C(spec.publicKey) of an EdgeDevice has it.
  returned: when there is a certificate with a key of type V(ed25519)
  type: str
  sample: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
"""

import datetime
import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.wasmbed.edge.plugins.module_utils import certificates, csr_api


def argument_spec() -> dict:
    names = {"type": "list", "elements": "str", "default": []}
    return {
        "path": {"type": "path", "required": True},
        "key_path": {"type": "path", "required": True, "no_log": False},
        "provider": {"type": "str", "choices": ["ownca", "kubernetes"], "required": True},
        "common_name": {"type": "str", "required": True},
        "organizations": names,
        "dns_names": names,
        "ip_addresses": names,
        "usages": {"type": "list", "elements": "str", "choices": ["server", "client"], "default": ["server"]},
        "key_type": {
            "type": "str",
            "choices": ["ecdsa-p256", "ed25519", "rsa-3072"],
            "default": "ecdsa-p256",
            "no_log": False,
        },
        "keep_key": {"type": "bool", "default": False, "no_log": False},
        "days": {"type": "float", "default": 365},
        "renew_before_days": {"type": "float", "default": 30},
        "ownca_certificate": {"type": "str"},
        "ownca_key": {"type": "str", "no_log": True},
        "signer_name": {"type": "str", "default": "kubernetes.io/kube-apiserver-client"},
        "kubeconfig": {"type": "dict", "no_log": True},
        "approver_kubeconfig": {"type": "dict", "no_log": True},
        "timeout": {"type": "float", "default": 60},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "key_mode": {"type": "str", "default": "0600", "no_log": False},
        "mode": {"type": "str", "default": "0644"},
    }


def state(certificate) -> dict:
    """Return what is shown of a certificate, or an empty dictionary."""
    if certificate is None:
        return {}
    end = certificates.not_after(certificate)
    return {**certificates.describe(certificate), "not_after": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


def make_pair(module: AnsibleModule, profile: certificates.Profile, present) -> tuple[bytes, bytes]:
    """Return a key and its newly signed certificate, both in PEM; `present` is the key that is there, or None."""
    params = module.params
    keep = params["keep_key"] and present is not None and certificates.key_kind(present) == params["key_type"]
    key = present if keep else certificates.new_key(params["key_type"])
    if params["provider"] == "ownca":
        authority = params["ownca_certificate"].encode()
        chain = certificates.sign(profile, key.public_key(), authority, params["ownca_key"].encode(), params["days"])
    else:
        api = csr_api.Api(params["kubeconfig"], module.tmpdir)
        approver = csr_api.Api(params["approver_kubeconfig"], module.tmpdir) if params["approver_kubeconfig"] else None
        name = "".join(c if c.isalnum() else "-" for c in params["common_name"].lower()).strip("-")
        request = certificates.new_request(profile, key)
        body = csr_api.new_object(name, request, params["signer_name"], profile.usages, params["days"])
        chain = csr_api.obtain(api, approver, body, params["timeout"])
    return certificates.key_pem(key), chain


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[
            ("provider", "ownca", ("ownca_certificate", "ownca_key")),
            ("provider", "kubernetes", ("kubeconfig",)),
        ],
        supports_check_mode=True,
    )
    if certificates.CRYPTOGRAPHY_ERROR is not None and module.check_mode:
        # A task before this one would have installed it.
        reason = "cryptography is not installed yet, so there is no pair of this module"
        module.exit_json(changed=True, reasons=[reason], diff={"before": {}, "after": {}})
    if certificates.CRYPTOGRAPHY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography >= 38"), exception=certificates.CRYPTOGRAPHY_ERROR)
    params = module.params
    paths = params["key_path"], params["path"]
    modes = int(params["key_mode"], 8), int(params["mode"], 8)
    profile = certificates.Profile(
        params["common_name"],
        *(tuple(params[name]) for name in ("organizations", "dns_names", "ip_addresses", "usages")),
    )
    try:
        pair = certificates.load_pair(*paths)
        authority = params["ownca_certificate"].encode() if params["ownca_certificate"] else None
        window = datetime.timedelta(days=params["renew_before_days"])
        reasons = pair.reasons_to_renew(profile, params["key_type"], authority, window)
        # In check mode the user may not exist yet: a task before this one would have made it.
        ids = (-1, -1) if module.check_mode and reasons else certificates.owner_ids(params["owner"], params["group"])
        loose = [
            path for path, mode in zip(paths, modes, strict=True) if certificates.wrong_attributes(path, mode, ids)
        ]
        before = state(pair.certificate)
        if reasons and not module.check_mode:
            os.makedirs(os.path.dirname(params["path"]), mode=0o755, exist_ok=True)
            certificates.write_pair(*paths, *make_pair(module, profile, pair.key), modes, ids)
            pair = certificates.load_pair(*paths)
        elif not module.check_mode:
            for path, mode in zip(paths, modes, strict=True):
                certificates.set_attributes(path, mode, ids)
    except (certificates.CertificateError, OSError, ValueError) as error:
        module.fail_json(msg=f"certificate {params['path']}: {error}")
    after = profile.describe() if reasons and module.check_mode else state(pair.certificate)
    result = {"changed": bool(reasons or loose), "reasons": reasons, "diff": {"before": before, "after": after}}
    if pair.certificate is not None:
        der_hash = pair.certificate.fingerprint(certificates.hashes.SHA256())
        result.update(
            not_after=state(pair.certificate)["not_after"],
            serial_number=f"{pair.certificate.serial_number:x}",
            fingerprint=der_hash.hex(),
        )
        public_key = certificates.raw_ed25519(pair.certificate.public_key())
        if public_key:
            result["public_key"] = public_key
    module.exit_json(**result)


if __name__ == "__main__":
    main()
