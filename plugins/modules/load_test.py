#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_test
short_description: Send load to a server and count the results
description:
  - Runs one point of a scenario on the host, beside the server, with the host's own Python. Tokens are what the server says
    (C(usage)), and are compared with the server's counters around the point.
  - Server metrics, host counters and C(nvidia-smi) are sampled by a process of its own meanwhile.
  - A server that dies does not fail the task. The results until then are returned, with the reason.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  url:
    description: Address of the server, without C(/v1).
    type: str
    required: true
  model:
    description: Name under which the model is served.
    type: str
    required: true
  point:
    description: Kind, lengths, concurrency or rate, number of requests, seed, as M(baremetal.sglang.bench) makes them.
    type: dict
    required: true
  thresholds:
    description: C(thresholds) of C(files/bench.yml).
    type: dict
    required: true
  questions:
    description: C(questions) of C(files/bench.yml).
    type: dict
    default: {}
  scale:
    description: Tokens of a prompt as C(fixed) plus C(each) for a word; measured when not given.
    type: dict
  unit:
    description: The server's systemd unit, so that its end can be told.
    type: str
    default: ""
  key_file:
    description: File on the host with the key of the gateway.
    type: path
    default: ""
  ca_file:
    description: Certificate on the host that signed the gateway's.
    type: path
    default: ""
  metrics:
    description: Path of the server's counters.
    type: str
    default: /metrics
  metric_names:
    description: What is counted, and the engine's name of it.
    type: dict
    default: {}
  sample_seconds:
    description: Between two samples; V(0) takes none.
    type: float
    default: 1.0
attributes:
  check_mode:
    description: Asks nothing.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Measure four streams
  baremetal.sglang.load_test:
    url: http://127.0.0.1:30000
    model: glm-4.7
    thresholds: "{{ data.thresholds }}"
    point: {kind: load, label: four, seed: 1, input: 1024, output: 128, concurrency: 4, requests: 16}
"""

RETURN = r"""
record:
  description: Requests, tokens, rates, times with their spread, the server's own counts, samples, and whether it is valid.
  returned: unless in check mode
  type: dict
"""

import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts, samples
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server, ask
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import (
    last_lines,
    unit_state,
)

OF_ONE_LIFE = ("ActiveState", "ExecMainStatus", "NRestarts", "MainPID", "InvocationID")


def life(module: AnsibleModule, unit: str) -> dict[str, str]:
    if not unit:
        return {}
    _unused, out, _unused = module.run_command(
        ["systemctl", "show", unit, f"--property={','.join(OF_ONE_LIFE)}"]
    )
    return dict(line.split("=", 1) for line in str(out).splitlines() if "=" in line)


def died(module: AnsibleModule, unit: str, before: dict[str, str]) -> str:
    """Why the server is not the one that it was; empty where it is."""
    after = life(module, unit)
    if not unit or after == before:
        return ""
    said = unit_state(module.run_command, unit).get("StatusText", "")
    lines = "\n".join(last_lines(module.run_command, unit)[-8:])
    return f"the server ended while it was measured: {said}\n{lines}".strip()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "point": {"type": "dict", "required": True},
            "thresholds": {"type": "dict", "required": True},
            "questions": {"type": "dict", "default": {}},
            "scale": {"type": "dict"},
            "unit": {"type": "str", "default": ""},
            "key_file": {"type": "path", "default": "", "no_log": False},
            "ca_file": {"type": "path", "default": ""},
            "sample_seconds": {"type": "float", "default": 1.0},
            "metrics": {"type": "str", "default": "/metrics"},
            "metric_names": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True)
    given = module.params
    key = ""
    if given["key_file"]:
        with open(given["key_file"], encoding="utf-8") as stream:
            key = stream.read().strip()
    smi = shutil.which("nvidia-smi")

    def look_at_gpus() -> str | None:
        if not smi:
            return None
        status, out, _unused = module.run_command(list(samples.GPU_QUERY))
        return None if status else str(out)

    thresholds = given["thresholds"]
    folder = tempfile.mkdtemp(dir=module.tmpdir)
    before = life(module, given["unit"])
    context = point.CheckContext(
        Server(
            given["url"],
            key=key,
            ca_file=given["ca_file"],
            silence=float(thresholds["silence_seconds"]),
            limit=float(thresholds["request_seconds"]),
        ),
        given["model"],
        thresholds,
        folder,
        given["sample_seconds"],
        look_at_gpus,
        prompts.Scale(**given["scale"]) if given["scale"] else None,
        given["questions"],
        given["metrics"],
        given["metric_names"],
    )
    try:
        record = point.run(context, given["point"])
    except point.PointError as error:
        record = {"valid": False, "error": str(error), "why": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    end = ""
    if not record["valid"]:
        end = died(module, given["unit"], before)
        if not end and ask(context.server, context.metrics).failure == "connect":
            end = f"nobody answers at {given['url']} any more"
    if end:
        record.update(died=end, valid=False, why=f"{record.get('why', '')}; {end}".strip("; "))
    module.exit_json(changed=False, record=record)


if __name__ == "__main__":
    main()
