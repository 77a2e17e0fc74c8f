#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Waits until an instance is healthy and asks it for tokens
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
- name: A token from the tiny model
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

import json
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule

POLL_SECONDS = 1
LAST_LINES = 25
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def unit_state(module: AnsibleModule) -> dict[str, str]:
    command = [
        "systemctl",
        "show",
        module.params["unit"],
        "--property=ActiveState,SubState,NRestarts,Result,LoadState,StatusText",
    ]
    _unused, out, _unused = module.run_command(command)
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def last_lines(module: AnsibleModule) -> list[str]:
    command = [
        "journalctl",
        "--unit",
        module.params["unit"],
        "--lines",
        str(LAST_LINES),
        "--output",
        "cat",
        "--no-pager",
    ]
    _unused, out, _unused = module.run_command(command)
    return out.splitlines()


def healthy(base_url: str) -> bool:
    try:
        with DIRECT.open(f"{base_url}/health", timeout=30) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def give_up(module: AnsibleModule, why: str) -> None:
    lines = last_lines(module)
    status = unit_state(module).get("StatusText", "")
    says = f" (its status: {status})" if status else ""
    module.fail_json(
        msg=f"{module.params['unit']}: {why}{says}. Its last lines:\n"
        + "\n".join(f"  {line}" for line in lines),
        last_lines=lines,
    )


def wait(module: AnsibleModule) -> None:
    restarts = int(unit_state(module).get("NRestarts") or 0)
    end = time.monotonic() + module.params["timeout"]
    while not healthy(module.params["base_url"]):
        state = unit_state(module)
        if state.get("ActiveState") == "failed" or int(state.get("NRestarts") or 0) > restarts:
            give_up(module, f"the server ended while it started ({state.get('Result')})")
        if state.get("ActiveState") == "inactive":
            give_up(module, "the unit is not running: systemctl start it, or run site.yml --tags engine")
        if time.monotonic() > end:
            give_up(
                module,
                f"no healthy answer from {module.params['base_url']} within {module.params['timeout']} s",
            )
        time.sleep(POLL_SECONDS)


def report(answer: dict) -> list[str]:
    lines = [f"prompt   {answer['prompt']}", f"answer   {answer['answer'] or answer.get('reasoning')}"]
    tokens = f"tokens   {answer['completion_tokens']} (prompt {answer['prompt_tokens']})"
    times = f"first token after {answer['ttft_ms']:.0f} ms, {answer['tokens_per_second']:.1f} tokens/s"
    return [*lines, f"{tokens}, {times}"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "probe": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "prompt": {"type": "str", "required": True},
            "max_tokens": {"type": "int", "default": 48, "no_log": False},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    if module.check_mode and unit_state(module).get("ActiveState") != "active":
        module.exit_json(
            changed=False, skipped=True, msg=f"{module.params['unit']} is not there yet: nothing to ask"
        )
    wait(module)
    command = [module.params["python"], module.params["probe"]]
    for option in ("base_url", "model", "prompt", "max_tokens", "timeout"):
        command += [f"--{option.replace('_', '-')}", str(module.params[option])]
    _unused, out, err = module.run_command(command)
    try:
        answer = json.loads(out)
    except ValueError:
        give_up(module, f"the probe gave no result: {(err or out).strip()[-800:]}")
    if not answer["ok"]:
        error = answer.get("error") or {}
        give_up(module, f"no token: {error.get('what', 'unknown')}; {error.get('fix', '')}")
    module.exit_json(changed=False, answer=answer, report=report(answer))


if __name__ == "__main__":
    main()
