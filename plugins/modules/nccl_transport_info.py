#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nccl_transport_info
short_description: Check in the engine's log that NCCL uses RDMA
description:
  - Reads the journal of the unit since its present start, and compares what NCCL says about its transport with the devices
    of the plan. Sockets where RDMA was planned are a failure, and so is a log that proves nothing.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  unit:
    description: The instance's systemd unit.
    type: str
    required: true
  devices:
    description: RDMA devices that were planned.
    type: list
    elements: str
    required: true
  sockets:
    description: Whether the inventory allows a start on sockets.
    type: bool
    default: false
attributes:
  check_mode:
    description: Only reads.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check that NCCL uses RDMA
  baremetal.sglang.nccl_transport_info:
    unit: sglang-glm.service
    devices: [rocep1s0f1, roceP2p1s0f1]
"""

RETURN = r"""
said:
  description: The transport, as NCCL names it.
  returned: when the unit runs
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.nccl_log import problems, read
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import start_of_log


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "devices": {"type": "list", "elements": "str", "required": True},
            "sockets": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    unit = module.params["unit"]
    rc, out, err = module.run_command(["systemctl", "show", unit, "--property=InvocationID", "--value"])
    if rc or not out.strip():
        module.fail_json(msg=f"{unit} does not run: {err.strip() or 'systemd knows no start of it'}")
    _rc, out, err = module.run_command(start_of_log(out.strip()))
    if err and not out:
        module.fail_json(msg=f"the journal of {unit} cannot be read: {err.strip()}")
    found = read(out.splitlines())
    wrong = problems(found, module.params["devices"], module.params["sockets"])
    if wrong:
        module.fail_json(msg=f"{unit}: {'; '.join(wrong)}", said=found.words())
    module.exit_json(changed=False, said=found.words())


if __name__ == "__main__":
    main()
