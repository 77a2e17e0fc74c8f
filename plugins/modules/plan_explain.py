#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells why not another release or model; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_explain
short_description: Explain why a release or a model fits or does not fit
version_added: 0.1.0
description:
  - Plans each instance again with another release or model, and tells what comes of it.
  - Without O(release), tells of each release of the catalogue why it is not the chosen one.
  - Contacts no host and changes nothing. Takes facts from where M(baremetal.sglang.plan) does.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  action:
    description: Has a corresponding action plugin.
    support: full
  check_mode:
    description: Can run in check mode and tell the same as without it.
    support: full
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: none
  platform:
    description: Operating systems of the controller.
    support: full
    platforms: posix
options:
  serve:
    description: What is to be served, one mapping for each model.
    type: raw
  release:
    description: The release to ask about.
    type: str
    default: ""
  model:
    description: The model to ask about.
    type: str
    default: ""
  facts_dir:
    description: Directory on the controller with facts files.
    type: path
    default: ""
  catalogue_dirs:
    description: The user's own catalogues beside those of the collection.
    type: list
    elements: path
    default: []
  python_kits:
    description: Minor versions of Python that the bundle carries.
    type: list
    elements: str
    default: []
  engine_wheels:
    description: >-
      Engine to the path of its wheel on the controller, for engines that no package index has, such as
      V({lightllm: /srv/lightllm-1.2.0-py3-none-any.whl}).
    type: raw
  runtime_backend:
    description: What makes environments.
    type: str
    choices: [uv, pixi]
    default: uv
"""

EXAMPLES = r"""
- name: Explain why the newest release was not chosen
  baremetal.sglang.plan_explain:
    serve: "{{ serve }}"
    release: 0.5.23
  run_once: true
"""

RETURN = r"""
lines:
  description: The answer, one line after the other.
  returned: success
  type: list
  elements: str
"""
