#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Wait until an instance is healthy and request a token
description:
  - Watches the unit while its server loads; a unit that fails ends the wait at once, with the server's own last lines.
  - Then runs the probe with the environment's Python, which asks through the C(openai) client and counts the tokens that the
    server reports.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  python:
    description: Interpreter of the instance's environment.
    type: path
    required: true
  probe:
    description: The probe on the host.
    type: path
    required: true
  unit:
    description: The instance's systemd unit.
    type: str
    required: true
  base_url:
    description: Address of the server, without a path.
    type: str
    required: true
  model:
    description: Name under which the model is served.
    type: str
    required: true
  alive:
    description: Path that answers 200 once the server listens.
    type: str
    default: /health
  token:
    description: Path that answers 200 only when a token was made.
    type: str
    default: /health
  prompt:
    description: What is asked.
    type: str
    required: true
  max_tokens:
    description: How many tokens the answer may have.
    type: int
    default: 48
  timeout:
    description: Seconds until a server that gives no token counts as failed.
    type: int
    default: 300
attributes:
  check_mode:
    description: Asks only what is served already; a host without the unit is left in peace.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Request a token from the tiny model
  baremetal.sglang.probe:
    python: /opt/sglang/current/tiny/env/bin/python
    probe: /opt/sglang/probe.py
    unit: sglang-tiny.service
    base_url: http://127.0.0.1:30000
    model: tiny
    prompt: Say hi in one short sentence.
"""

RETURN = r"""
answer:
  description: What the probe found, with prompt, answer, token counts and times.
  returned: when it was asked
  type: dict
report:
  description: The same in lines for people.
  returned: when it was asked
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import (
    NotServingError,
    Question,
    Watch,
    report,
    unit_state,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "probe": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "alive": {"type": "str", "default": "/health"},
            "token": {"type": "str", "default": "/health", "no_log": False},
            "prompt": {"type": "str", "required": True},
            "max_tokens": {"type": "int", "default": 48, "no_log": False},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode and unit_state(module.run_command, given["unit"]).get("ActiveState") != "active":
        module.exit_json(changed=False, skipped=True, msg=f"{given['unit']} is not there yet: nothing to ask")
    command = [given["python"], given["probe"]]
    for option in ("base_url", "model", "alive", "token", "prompt", "max_tokens", "timeout"):
        command += [f"--{option.replace('_', '-')}", str(given[option])]
    question = Question(given["unit"], given["base_url"], tuple(command), given["alive"])
    try:
        answer = Watch(module.run_command, given["timeout"]).all([question])[question.unit]
    except NotServingError as error:
        module.fail_json(msg=str(error), last_lines=error.lines)
    module.exit_json(changed=False, answer=answer, report=report(answer))


if __name__ == "__main__":
    main()
