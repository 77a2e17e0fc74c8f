#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_files
short_description: Manage the certificate files on a host for module certificate
description:
  - Makes keys and requests on a host, and installs the certificates that the authority on the controller signed.
  - Knows no name and no role of a certificate but that of its files. Used by M(baremetal.sglang.certificate); no need to call it.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description: V(read) returns what is there, V(requested) makes new keys, V(installed) puts certificates in place.
    type: str
    choices: [read, requested, installed]
    required: true
  folder:
    description: Folder of the files.
    type: path
    required: true
  names:
    description: Names of the certificates, without an ending.
    type: list
    elements: str
    default: []
  certificates:
    description: New certificates by name, with O(state=installed).
    type: dict
    default: {}
  trust:
    description: Content of C(ca.crt); nothing is written where it is empty.
    type: str
    default: ""
  revocations:
    description: Content of C(crl.pem); nothing is written where it is empty.
    type: str
    default: ""
  group:
    description: A group that may read the keys.
    type: str
    default: ""
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Module certificate shows the difference.
    support: none
"""

EXAMPLES = r"""
- name: Read the certificates of a host
  baremetal.sglang.certificate_files:
    state: read
    folder: /etc/sglang/gateway/tls
    names: [internal]
  register: certificates_there
"""

RETURN = r"""
there:
  description: Whether the folder exists.
  returned: when O(state=read)
  type: bool
certificates:
  description: Certificates by name.
  returned: when O(state=read)
  type: dict
fitting:
  description: Names of the certificates that belong to their keys.
  returned: when O(state=read)
  type: list
  elements: str
trust:
  description: Content of C(ca.crt).
  returned: when O(state=read)
  type: str
revocations:
  description: Content of C(crl.pem).
  returned: when O(state=read)
  type: str
requests:
  description: Certificate requests by name.
  returned: when O(state=requested)
  type: dict
"""

import grp
import os
import re

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


def state_read(module: AnsibleModule, openssl: Openssl) -> None:
    folder, names = module.params["folder"], module.params["names"]
    certificates = {name: read(os.path.join(folder, f"{name}.crt")) for name in names}
    fitting = [
        name
        for name in names
        if certificates[name]
        and openssl.fits(os.path.join(folder, f"{name}.crt"), os.path.join(folder, f"{name}.key"))
    ]
    module.exit_json(
        changed=False,
        there=os.path.isdir(folder),
        certificates=certificates,
        fitting=fitting,
        trust=read(os.path.join(folder, "ca.crt")),
        revocations=read(os.path.join(folder, "crl.pem")),
    )


def state_requested(module: AnsibleModule, openssl: Openssl) -> None:
    """New keys lie beside those in use until their certificates are there."""
    requests = {}
    for name in module.params["names"]:
        key = os.path.join(module.params["folder"], f"{name}.key.new")
        openssl.make_key(key)
        requests[name] = openssl.request(key)
    module.exit_json(changed=bool(requests), requests=requests)


def state_installed(module: AnsibleModule, openssl: Openssl) -> None:
    given, folder = module.params, module.params["folder"]
    group = grp.getgrnam(given["group"]).gr_gid if given["group"] else os.getegid()
    changed = False
    for name, text in (("ca.crt", given["trust"]), ("crl.pem", given["revocations"])):
        path = os.path.join(folder, name)
        if text and read(path) != text:
            publish(path, text, 0o644)
            changed = True
    for name, text in given["certificates"].items():
        base = os.path.join(folder, name)
        publish(f"{base}.crt.new", text, 0o644)
        openssl("verify", "-CAfile", os.path.join(folder, "ca.crt"), f"{base}.crt.new")
        if not openssl.fits(f"{base}.crt.new", f"{base}.key.new"):
            module.fail_json(msg=f"the certificate for {base}.key.new belongs to another key: run again")
        os.chown(f"{base}.key.new", os.geteuid(), group)
        os.chmod(f"{base}.key.new", 0o640 if given["group"] else 0o600)
        # Where the machine stops between these two, the next run finds that they do not fit and asks for another.
        os.rename(f"{base}.key.new", f"{base}.key")
        os.rename(f"{base}.crt.new", f"{base}.crt")
        changed = True
    module.exit_json(changed=changed)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "requested", "installed"], "required": True},
            "folder": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "certificates": {"type": "dict", "default": {}},
            "trust": {"type": "str", "default": ""},
            "revocations": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    wrong = [name for name in (*given["names"], *given["certificates"]) if not re.fullmatch("[a-z]+", name)]
    if wrong:
        module.fail_json(msg=f"invalid names of certificates: {wrong}")
    if module.get_bin_path("openssl") is None:
        if module.check_mode or (given["state"] == "read" and not os.path.isdir(given["folder"])):
            module.exit_json(
                changed=False, there=False, certificates={}, fitting=[], trust="", revocations="", requests={}
            )
        module.fail_json(
            msg="this host has no program openssl: install the package openssl, or run the stage of packages"
        )
    if module.check_mode and given["state"] != "read":
        module.exit_json(changed=True, requests={})
    steps = {"read": state_read, "requested": state_requested, "installed": state_installed}
    try:
        steps[given["state"]](module, Openssl(module.run_command))
    except (OpensslError, OSError, KeyError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"certificates in {given['folder']}: {error}")


if __name__ == "__main__":
    main()
