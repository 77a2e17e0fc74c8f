#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_source_info
short_description: List the weights of the plans that the controller has
description:
  - Looks for each planned model below O(weights_dir), then in the bundle, and checks sizes and headers there.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  plans:
    description: Plans of hosts, as M(baremetal.sglang.plan) returns them.
    type: dict
    required: true
  weights_dir:
    description: Folder that M(baremetal.sglang.weights_fetch) filled.
    type: path
    default: ""
  bundle_dir:
    description: A finished bundle. Its manifest is verified also where no weights are taken from it; a damaged one is refused.
    type: path
    default: ""
  allowed_signers:
    description:
      - File with the keys whose signature of a bundle is accepted, in the form that C(ssh-keygen -Y) reads. Any bundle when empty.
    type: path
    default: ""
  signer:
    description: Who in O(allowed_signers) must have signed; anybody when empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Looks all the same.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Check for the weights on the controller
  baremetal.sglang.weights_source_info:
    plans: "{{ plan_result.plans }}"
    weights_dir: /media/disk/weights
"""

RETURN = r"""
offers:
  description: C(source), C(manifest) and C(manifest_sha256) for each model and revision that is there.
  returned: success
  type: dict
"""
