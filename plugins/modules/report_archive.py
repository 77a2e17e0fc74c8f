#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report_archive
short_description: Write the reports of all hosts into one archive
description:
  - Writes what M(baremetal.sglang.report_info) collected on each host into one C(.tar.gz) on the controller.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The archive on the controller; it must not be there yet.
    type: path
    required: true
  hosts:
    description: Name of a host, and its texts by name. A host without texts is listed as one that gave nothing.
    type: dict
    required: true
  names:
    description: What stands in the archive in place of the names of hosts.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says what would be written.
    support: full
  diff_mode:
    description: The archive is new, so there is nothing to compare with.
    support: none
"""

EXAMPLES = r"""
- name: Write the archive
  baremetal.sglang.report_archive:
    dest: report.tar.gz
    hosts: {host-1: {plan.json: "{}"}}
"""

RETURN = r"""
summary:
  description: What the archive holds, one line for each host.
  returned: success
  type: list
  elements: str
"""
