#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Certificates of the collection's own authority
description:
  - Three steps, so that no private key leaves the host that it was made on. O(state=requested) makes a key and a request, where a new
    certificate is needed. O(state=signed) runs on the host of the authority, and makes the authority once. O(state=installed)
    puts the answer in its place.
  - A certificate is new where it runs out soon, lacks a name, has another authority or another key.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description: Which step.
    type: str
    choices: [requested, signed, installed]
    required: true
  folder:
    description: Where NAME.key, NAME.crt and ca.crt lie; of the authority with O(state=signed).
    type: path
    required: true
  name:
    description: Name of the files.
    type: str
    default: inner
  owner:
    description: Who the certificate is for, its common name.
    type: str
    default: ""
  unit:
    description: What it may do, its organizational unit.
    type: str
    default: inner
  names:
    description: Host names and addresses that it is good for.
    type: list
    elements: str
    default: []
  group:
    description: A group that may read the key.
    type: str
    default: ""
  renew_days:
    description: A certificate with fewer days left is made anew.
    type: int
    default: 30
  days:
    description: How long a new certificate is good.
    type: int
    default: 397
  authority_days:
    description: How long the authority is good; it is renewed with its own key.
    type: int
    default: 3650
  requests:
    description: What O(state=requested) returned on each host.
    type: list
    elements: dict
    default: []
  certificate:
    description: The answer for this host; nothing is done where it is empty.
    type: str
    default: ""
  authority:
    description: The authority's certificate.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would be made, and makes nothing.
    support: full
  diff_mode:
    description: Nothing is shown but the reason.
    support: none
"""

EXAMPLES = r"""
- name: Ask for a certificate where one is needed
  baremetal.sglang.certificate:
    state: requested
    folder: /etc/sglang/gateway/tls
    owner: "{{ inventory_hostname }}"
    names: ["{{ inventory_hostname }}"]
  register: asked
"""

RETURN = r"""
request:
  description: With V(owner), V(names) and V(csr), which is empty where nothing is needed.
  returned: when O(state=requested)
  type: dict
why:
  description: Why a new certificate is needed.
  returned: when O(state=requested)
  type: str
certificates:
  description: Certificates by owner.
  returned: when O(state=signed)
  type: dict
authority:
  description: The authority's certificate.
  returned: when O(state=signed)
  type: str
"""

import grp
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates_host import (
    Openssl,
    OpensslError,
    publish,
)


def read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def allow(path: str, group: str) -> None:
    """The key for root, and for one group where one is named."""
    os.chown(path, 0, grp.getgrnam(group).gr_gid if group else 0)
    os.chmod(path, 0o640 if group else 0o600)


def requested(module: AnsibleModule, openssl: Openssl) -> None:
    given = module.params
    base = os.path.join(given["folder"], given["name"])
    key, certificate, authority = f"{base}.key", f"{base}.crt", os.path.join(given["folder"], "ca.crt")
    why = openssl.why_not(certificate, key, authority, given["names"], given["renew_days"])
    csr = ""
    if why and not module.check_mode:
        if not os.path.isdir(given["folder"]):
            module.fail_json(msg=f"{given['folder']} is not there")
        if not os.path.exists(key):
            openssl.make_key(key)
        allow(key, given["group"])
        csr = openssl.request(key, {"O": "baremetal.sglang", "OU": given["unit"], "CN": given["owner"]})
    request = {"owner": given["owner"], "names": given["names"], "csr": csr}
    module.exit_json(changed=bool(why), why=why, request=request)


def signed(module: AnsibleModule, openssl: Openssl) -> None:
    given, folder = module.params, module.params["folder"]
    path = os.path.join(folder, "ca.crt")
    asked = [item for item in given["requests"] if item.get("csr")]
    # The authority must outlive what it signs.
    old = (
        not os.path.exists(path) or openssl.days_left(path, time.time()) < given["days"] + given["renew_days"]
    )
    certificates = {}
    if not module.check_mode:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if old:
            name = f"baremetal.sglang authority of {given['owner'] or os.uname().nodename}"
            openssl.make_authority(folder, given["authority_days"], name)
        certificates = {
            item["owner"]: openssl.sign(folder, item["csr"], item["names"], given["days"]) for item in asked
        }
    module.exit_json(changed=bool(old or asked), certificates=certificates, authority=read(path))


def installed(module: AnsibleModule, openssl: Openssl) -> None:
    given = module.params
    base = os.path.join(given["folder"], given["name"])
    texts = {os.path.join(given["folder"], "ca.crt"): given["authority"], f"{base}.crt": given["certificate"]}
    differing = {path: text for path, text in texts.items() if text and read(path) != text}
    if not module.check_mode:
        for path, text in differing.items():
            publish(path, text, 0o644)
        openssl("verify", "-CAfile", os.path.join(given["folder"], "ca.crt"), f"{base}.crt")
    module.exit_json(changed=bool(differing))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "signed", "installed"], "required": True},
            "folder": {"type": "path", "required": True},
            "name": {"type": "str", "default": "inner"},
            "owner": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": "inner"},
            "names": {"type": "list", "elements": "str", "default": []},
            "group": {"type": "str", "default": ""},
            "renew_days": {"type": "int", "default": 30},
            "days": {"type": "int", "default": 397},
            "authority_days": {"type": "int", "default": 3650},
            "requests": {"type": "list", "elements": "dict", "default": []},
            "certificate": {"type": "str", "default": ""},
            "authority": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if module.get_bin_path("openssl") is None:
        if module.check_mode:
            module.exit_json(
                changed=True, why="openssl is not there yet", request={}, certificates={}, authority=""
            )
        module.fail_json(
            msg="this host has no program openssl: install the package openssl, or run the stage of packages"
        )
    steps = {"requested": requested, "signed": signed, "installed": installed}
    try:
        steps[module.params["state"]](module, Openssl(module.run_command))
    except (OpensslError, OSError, KeyError) as error:
        module.fail_json(msg=f"certificates in {module.params['folder']}: {error}")


if __name__ == "__main__":
    main()
