#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the authority on the controller; contacts no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_authority
short_description: List, revoke and renew certificates of the authority on the controller
version_added: 0.1.0
description:
  - Changes the authority's record. M(baremetal.sglang.certificate) brings what follows from it to the hosts.
  - Contacts no host. Run it once for the whole inventory.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  action:
    description: Has a corresponding action plugin.
    support: full
  check_mode:
    description: Tells what would be revoked or renewed.
    support: full
  diff_mode:
    description: Shows the list before and after.
    support: full
options:
  authority:
    description: Folder of the authority on the controller; empty is one below C(~/.local/share) for each inventory.
    type: path
    default: ""
  settings:
    description: Lifetimes, C(gateway.certificate) of the policy.
    type: dict
    default: {}
  revoke:
    description: An owner or a serial. By owner, nothing is issued to it again before it is renewed.
    type: str
    default: ""
  renew:
    description: An owner that gets new keys and certificates with the next run of the roles.
    type: str
    default: ""
  rotate:
    description: A step of the authority's own new key.
    type: str
    choices: ["", begin, switch, finish]
    default: ""
"""

EXAMPLES = r"""
- name: Revoke the certificates of a host
  baremetal.sglang.certificate_authority:
    revoke: gpu-07
  run_once: true
"""

RETURN = r"""
certificates:
  description: All certificates, each with V(owner), V(role), V(names), V(serial), V(expires) and V(state).
  returned: success
  type: list
  elements: dict
table:
  description: The same as lines to print.
  returned: success
  type: list
  elements: str
revoked:
  description: Serials that this run revoked.
  returned: success
  type: list
  elements: str
folder:
  description: Where the authority lies on the controller.
  returned: success
  type: str
"""
