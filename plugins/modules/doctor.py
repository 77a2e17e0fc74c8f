#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Compare what a host should serve with what it does
description:
  - Compares the host with the plan of its current release. Checks the units and what they serve, the files of the release, the
    environments, the weights, the driver and the disks.
  - Changes nothing. The task does not fail where something is wrong; RV(findings) says what.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  name:
    description: Name of the host in the answers.
    type: str
    required: true
  quick:
    description: Looks at the instances only, and gives one line for each.
    type: bool
    default: false
  expected:
    description: Instances that the inventory serves on this host.
    type: list
    elements: str
    default: []
  root:
    description: Folder of the collection on the host.
    type: path
    default: /opt/sglang
  free_gib:
    description: A disk with less room than this is a problem.
    type: float
    default: 5
  certificate_days:
    description: A certificate with fewer days left is a problem, with O(quick=true).
    type: int
    default: 14
attributes:
  check_mode:
    description: Changes nothing in any case.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Examine the host
  baremetal.sglang.doctor:
    name: "{{ inventory_hostname }}"
  register: looked

- name: Show the findings
  ansible.builtin.debug:
    var: looked.findings
"""

RETURN = r"""
seen:
  description: What is on the host; with O(quick=true), its instances with their figures, disks, certificates and services.
  returned: always
  type: dict
findings:
  description: What differs, each with V(code), V(host), V(subject), V(what), V(fix), and V(severity), which is V(problem) or V(note).
  returned: when O(quick=false)
  type: list
  elements: dict
line:
  description: The host itself, in one line.
  returned: when O(quick=true)
  type: str
host_warnings:
  description: What its GPUs, their driver and its RDMA ports say against themselves, one line each with the cure.
  returned: when O(quick=true)
  type: list
  elements: str
problems:
  description: What is wrong with the host itself.
  returned: when O(quick=true)
  type: list
  elements: str
instances:
  description: One entry for each instance, with V(serving) and V(line).
  returned: when O(quick=true)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import diagnosis as doctor
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import host as doctor_look
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import status
from ansible_collections.baremetal.sglang.plugins.module_utils.release.host import Host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "quick": {"type": "bool", "default": False},
            "expected": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/opt/sglang"},
            "free_gib": {"type": "float", "default": 5},
            "certificate_days": {"type": "int", "default": 14},
        },
        supports_check_mode=True,
    )
    given = module.params
    host = Host(module.run_command, given["root"])
    try:
        if given["quick"]:
            looked = doctor_look.status(host)
            lines = doctor.status(given["name"], looked, given["expected"])
            problems = status.host_problems(
                looked, status.Limits(given["certificate_days"], given["free_gib"])
            )
            module.exit_json(
                changed=False,
                instances=[{"serving": serving, "line": line} for serving, line in lines],
                line=status.host_line(given["name"], looked, problems),
                host_warnings=[status.warning_line(given["name"], item) for item in looked["warnings"]],
                problems=[f"{given['name']}: {problem}" for problem in problems],
                seen=looked,
            )
        seen = doctor_look.everything(host)
    except OSError as error:
        module.fail_json(msg=f"{given['name']} could not be looked at: {error}")
    findings = doctor.judge(given["name"], seen, given["expected"], doctor.Limits(given["free_gib"]))
    module.exit_json(changed=False, seen=seen, findings=[item.to_dict() for item in findings])


if __name__ == "__main__":
    main()
