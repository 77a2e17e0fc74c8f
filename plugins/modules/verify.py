#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Check that an instance does what its plan says
description:
  - Runs the checks that P(baremetal.sglang.planned_checks#filter) derived from the plan, on the host that serves, with the host's own
    Python. Engines that listen on loopback only are reached, and nothing is installed.
  - A check that fails is a result, not a failure of the task; P(baremetal.sglang.verify_report#filter) judges all hosts together.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  instance:
    description: What to check and what to expect, one entry of P(baremetal.sglang.planned_checks#filter).
    type: dict
    required: true
  record:
    description: A file that keeps the last result of each instance for monitoring; none, when empty or when its folder is not there.
    type: path
    default: ""
attributes:
  check_mode:
    description: Asks only what serves already; a host without the unit is left in peace.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check each instance
  baremetal.sglang.verify:
    instance: "{{ item }}"
  loop: "{{ plan_of_host | baremetal.sglang.planned_checks(data, ['api', 'tools'], false) }}"
"""

RETURN = r"""
results:
  description: For each check its tag, name, status (passed, failed, known, skipped), what was seen, the fix, and the seconds.
  returned: when the unit was asked
  type: list
  elements: dict
identity:
  description: What must be the same on all hosts of the instance.
  returned: when the unit was asked
  type: dict
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.installed import parse_properties
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server
from ansible_collections.baremetal.sglang.plugins.module_utils.release import folder_host as folder
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import start_of_log
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.check_context import CheckContext
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.host import unit_processes
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.record import recorded
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.run import run


def keep(path: str, instance: str, results: list) -> None:
    if not path or not os.path.isdir(os.path.dirname(path)):
        return
    try:
        with open(path, encoding="utf-8") as stream:
            before = stream.read()
    except (OSError, ValueError):
        before = ""
    folder.write(path, recorded(before, instance, results, time.time()))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "dict", "required": True},
            "record": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params["instance"]
    unit, expected = given["unit"], given["expected"]
    properties = "--property=ActiveState,InvocationID,ControlGroup"
    _unused, out, _unused = module.run_command(["systemctl", "show", unit, properties])
    state = parse_properties(out)
    if module.check_mode and state.get("ActiveState") != "active":
        module.exit_json(changed=False, skipped=True, msg=f"{unit} is not there yet: nothing to ask")

    def log() -> list[str]:
        _rc, lines, _err = module.run_command(start_of_log(state.get("InvocationID", "")))
        return str(lines).splitlines()

    context = CheckContext(
        Server(
            f"http://127.0.0.1:{given['port']}",
            silence=expected["request_seconds"],
            limit=expected["request_seconds"],
        ),
        given["serves"],
        unit,
        expected,
        module.run_command,
        log,
        lambda: unit_processes(state.get("ControlGroup", "")) if state.get("ControlGroup") else [],
    )
    results = run(context, given["checks"])
    if not module.check_mode:
        try:
            keep(module.params["record"], given["instance"], results)
        except OSError as error:
            module.warn(f"the result is not kept for monitoring: {error}")
    module.exit_json(
        changed=False,
        instance=given["instance"],
        nnodes=expected["parallel"][1],
        results=results,
        identity=context.identity,
    )


if __name__ == "__main__":
    main()
