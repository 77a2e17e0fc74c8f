#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_fetch
short_description: Fetch the weights of the plans to the controller
description:
  - Takes each model of the plans from the first of its sources that can give it, whole, and compares every file with what the source
    publishes about it.
  - Proves that index, shards, configuration and tokenizer belong together and are the model that was planned with; then writes a manifest
    and makes the folder visible by one rename.
  - A run that was cut off is taken up where it stopped.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: Folder on the controller; each model gets C(MODEL/REVISION) below it.
    type: path
    required: true
  plans:
    description: Plans of hosts, as M(baremetal.sglang.plan) returns them.
    type: dict
    required: true
  sources:
    description:
      - A list of sources for each model key, asked in this order; models without one are taken from the hubs of the catalogue.
      - Each has a C(type), one of C(modelscope), C(huggingface), C(http), C(directory) and C(bundle).
    type: raw
    default: {}
  catalogue_dirs:
    description: The user's own catalogues beside ours.
    type: list
    elements: path
    default: []
  settings:
    description: Replaces thresholds of C(weights.fetch) in files/policy.yml.
    type: dict
    default: {}
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
    description: Asks the sources, says what would be fetched, and fetches nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Fetch the weights that the planned hosts need
  baremetal.sglang.weights_fetch:
    dest: /media/disk/weights
    plans: "{{ plan_result.plans }}"
    sources:
      glm-4.7-awq:
        - type: modelscope
          token_env: HUB_TOKEN
        - type: directory
          path: /mnt/models/glm-4.7-awq
"""

RETURN = r"""
report:
  description: A line a model, with bytes, rate and source.
  returned: success
  type: list
  elements: str
"""
