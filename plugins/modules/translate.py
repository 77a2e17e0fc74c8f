#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Translates launch commands; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: translate
short_description: Translate launch commands of an engine into entries of serve
version_added: 0.1.0
description:
  - Finds the commands that launch an engine in a text, and prints each as an entry of C(serve) with what was changed,
    what was left out, and which options a release does not take.
  - With O(hardware), plans each entry on such hosts too and prints what the planner refuses and warns of.
  - Contacts no host and changes nothing.
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
  command:
    description: The command, or a text with several.
    type: str
    default: ""
  command_file:
    description: A file on the controller with such a text, instead of O(command).
    type: path
    default: ""
  hosts:
    description: Names of hosts for the entries, in the order of ranks; V(host-1) and so on when empty.
    type: list
    elements: str
    default: []
  hardware:
    description: What each of the hosts is, as C(declared_hardware) describes it.
    type: raw
  catalogue_dirs:
    description: The user's own catalogues beside those of the collection.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Translate a command
  baremetal.sglang.translate:
    command: python3 -m sglang.launch_server --model-path zai-org/GLM-4.7-FP8 --tp-size 8

- name: Translate all commands of a document for eight H200
  baremetal.sglang.translate:
    command_file: notes.md
    hardware: {gpus: {model: h200, count: 8}, driver: "580.95.05", arch: x86_64, os: ubuntu-24.04}
"""

RETURN = r"""
serve:
  description: The entries by their names; each is meant to be used alone.
  returned: success
  type: dict
lines:
  description: What was printed.
  returned: always
  type: list
  elements: str
refusals:
  description: What cannot be translated, and with O(hardware) what the planner refuses.
  returned: always
  type: list
  elements: dict
"""
