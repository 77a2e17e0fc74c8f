#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a host; the authority works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Manage certificates of a host, signed by the authority on the controller
version_added: 0.1.0
description:
  - Makes keys on the host, signs certificates for them on the controller, and installs them with the authority's certificate
    and its revocation list.
  - Owner, role and names come from O(certificates), which role plan made. A host sends a request that proves that it has the
    key; nothing else in the request is looked at.
  - A certificate is replaced, with a new key, where it is missing, ends soon, is revoked, is for other names, or was asked for
    with C(-e renew=NAME).
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  action:
    description: Has a corresponding action plugin.
    support: full
  check_mode:
    description: Tells what would be issued; makes no key and signs nothing.
    support: full
  diff_mode:
    description: Shows the reason for each new certificate.
    support: full
options:
  folder:
    description: Folder on the host with C(ROLE.key), C(ROLE.crt), C(ca.crt) and C(crl.pem). It must exist.
    type: path
    required: true
  certificates:
    description: What the plan wants, each with C(role), C(owner) and C(names).
    type: list
    elements: dict
    default: []
  state:
    description: V(present) issues what is needed. V(trusted) installs only the authority's certificate and its revocation list,
      where O(folder) exists.
    type: str
    choices: [present, trusted]
    default: present
  authority:
    description: Folder of the authority on the controller; empty is one below C(~/.local/share) for each inventory.
    type: path
    default: ""
  settings:
    description: Lifetimes, C(gateway.certificate) of the policy.
    type: dict
    default: {}
  replace_authority:
    description: Accept that the host trusts another authority, whose key is not on this controller.
    type: bool
    default: false
  on_controller:
    description: Make the key in O(folder) on the controller instead of a host.
    type: bool
    default: false
  group:
    description: A group of the host that may read the keys.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Install the certificates of the gateway
  baremetal.sglang.certificate:
    folder: /etc/sglang/gateway/tls
    certificates: "{{ plan_gateway.certificates }}"
    settings: "{{ plan_gateway.certificate }}"
"""

RETURN = r"""
issued:
  description: Reason of each new certificate by role.
  returned: success
  type: dict
"""
