#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_acceptance
short_description: Measure every GPU of a host and the links between them
description:
  - Runs the acceptance program as the user of the service, with the torch of an environment.
  - P(baremetal.sglang.acceptance_report#filter) judges what it measured; a GPU that fails is a result, not a failure of
    the task.
  - Refuses GPUs that a process uses.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  environment:
    description: The folder of an environment that holds torch.
    type: path
    required: true
  user:
    description: User of the service.
    type: str
    required: true
  cache:
    description: A folder of root that takes the program and what it writes while it runs.
    type: path
    required: true
  program:
    description: The program, as text.
    type: str
    required: true
  device:
    description: What is measured; V(cpu) tries the program without a GPU.
    type: str
    choices: [cuda, cpu]
    default: cuda
  settings:
    description: C(run) of C(files/acceptance.yml).
    type: dict
    default: {}
  record:
    description: File of the last result on the host.
    type: path
    required: true
  once:
    description: Does nothing where O(record) holds an accepted result of the same GPUs and driver, or where the GPUs are in use.
    type: bool
    default: false
attributes:
  check_mode:
    description: Measures nothing.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Measure the GPUs
  baremetal.sglang.gpu_acceptance:
    environment: /opt/sglang/envs/0123456789abcdef
    user: sglang
    cache: /var/cache/sglang
    program: "{{ lookup('ansible.builtin.file', 'acceptance.py') }}"
    record: /opt/sglang/releases/.accepted.json
"""

RETURN = r"""
measured:
  description: What the program printed; empty where nothing was measured.
  returned: always
  type: dict
identity:
  description: UUIDs of the GPUs and version of the driver that the result belongs to.
  returned: always
  type: dict
reason:
  description: Why nothing was measured.
  returned: always
  type: str
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.acceptance import host
from ansible_collections.baremetal.sglang.plugins.module_utils.service.user_host import UserError


def asked(module: AnsibleModule, query: str) -> list:
    path = module.get_bin_path("nvidia-smi", opt_dirs=["/usr/local/nvidia/bin"])
    if not path:
        return []
    rc, out, _unused = module.run_command([path, query, "--format=csv,noheader"])
    return [[cell.strip() for cell in line.split(",")] for line in out.splitlines()] if rc == 0 else []


def identity_of(module: AnsibleModule) -> dict:
    rows = [row for row in asked(module, "--query-gpu=uuid,driver_version") if len(row) == 2]
    return {"gpus": sorted(row[0] for row in rows), "driver": rows[0][1] if rows else ""}


def accepted(path: str, identity: dict) -> bool:
    try:
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("passed") is True and record.get("identity") == identity


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "environment": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "cache": {"type": "path", "required": True},
            "program": {"type": "str", "required": True},
            "device": {"type": "str", "choices": ["cuda", "cpu"], "default": "cuda"},
            "settings": {"type": "dict", "default": {}},
            "record": {"type": "path", "required": True},
            "once": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    on_gpus = params["device"] == "cuda"
    identity = identity_of(module) if on_gpus else {"gpus": [], "driver": ""}
    users = (
        sorted({row[0] for row in asked(module, "--query-compute-apps=pid") if row[0].isdigit()})
        if on_gpus
        else []
    )
    reason = ""
    if module.check_mode:
        reason = "check mode: nothing is measured"
    elif params["once"] and accepted(params["record"], identity):
        reason = "these GPUs were accepted with this driver before"
    elif users and params["once"]:
        reason = f"the GPUs are used by process {', '.join(users)}"
    if reason:
        module.exit_json(changed=False, measured={}, identity=identity, reason=reason)
    if users:
        module.fail_json(
            msg=f"REFUSED  the GPUs are used by process {', '.join(users)}: a test would disturb it and measure too little; "
            "stop what serves first: ansible-playbook playbooks/stop.yml",
            identity=identity,
        )
    settings = params["settings"]
    # Three phases at most, and a minute for imports.
    seconds = 3 * float(settings.get("limit_seconds", 600)) + 60
    try:
        measured = host.measure(
            params["program"],
            params["environment"].rstrip("/"),
            params["cache"].rstrip("/"),
            params["user"],
            host.options(params["device"], settings),
            seconds,
        )
    except (UserError, OSError, KeyError) as error:
        module.fail_json(msg=f"{params['environment']}: {error}", identity=identity)
    module.exit_json(changed=False, measured=measured, identity=identity, reason="")


if __name__ == "__main__":
    main()
