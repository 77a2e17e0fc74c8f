#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernels_loaded
short_description: Proves from the server's log which kernel tuning files it took
description:
  - Reads the journal of the unit since its present start, and compares what the server says about its MoE kernel files with
    what the plan expects. Default tiles, a file of another Triton version, or silence where a file was planned is a failure.
  - Ask for a token first. The server looks for its files when it runs the experts for the first time.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  unit:
    description: The instance's systemd unit.
    type: str
    required: true
  log:
    description: What the plan expects, C(kernels.log) of the instance. Empty means that the instance reads no such file.
    type: dict
    required: true
attributes:
  check_mode:
    description: Reads the log of a unit that runs already; another one is left in peace.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Which kernel file did it take?
  baremetal.sglang.kernels_loaded:
    unit: sglang-glm.service
    log: "{{ plan_of_host.instances.glm.kernels.log }}"
"""

RETURN = r"""
said:
  description: What the server said, each statement once.
  returned: when the unit runs
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.kernel_log import problems, read
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import Message
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import start_of_log


def journal(module: AnsibleModule, unit: str) -> list[str]:
    """Lines of the present start only: an older one may have taken other files."""
    show = ["systemctl", "show", unit, "--property=InvocationID", "--value"]
    rc, out, err = module.run_command(show)
    invocation = out.strip()
    if rc or not invocation:
        if module.check_mode:
            module.exit_json(changed=False, said=[], msg=f"{unit} does not run yet")
        module.fail_json(msg=f"{unit} does not run: {err.strip() or 'systemd knows no start of it'}")
    _rc, out, err = module.run_command(start_of_log(invocation))
    if err and not out:
        module.fail_json(msg=f"the journal of {unit} cannot be read: {err.strip()}")
    return out.splitlines()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "log": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    unit, log = module.params["unit"], module.params["log"]
    if not log:
        module.exit_json(changed=False, said=[])
    said = read(journal(module, unit), [Message(item["outcome"], item["text"]) for item in log["messages"]])
    wrong = problems(said, log)
    words = [one.words() for one in said]
    if wrong:
        module.fail_json(
            msg=f"{unit}: kernel files are not those of the plan: " + "; ".join(wrong), said=words
        )
    module.exit_json(changed=False, said=words)


if __name__ == "__main__":
    main()
