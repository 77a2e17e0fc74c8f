#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_agent
short_description: Start, watch and stop the swarm agent of a host
description:
  - Starts the agent as a transient unit of systemd, tells how far it is, and ends it.
  - The agent speaks to the planned addresses on one port only, and ends by itself when all hosts are complete or its time is over.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  name:
    description: Name of the swarm.
    type: str
    required: true
  files:
    description: The files, each relative to the folder.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Name relative to the folder.
        type: str
        required: true
      size:
        description: Bytes.
        type: int
        required: true
      sha256:
        description: SHA-256 of the content.
        type: str
        required: true
      source_path:
        description: Its name where it comes from, when that is another one.
        type: str
        default: ""
  folder:
    description: Folder on the host that holds the files, or is to hold them.
    type: path
    required: true
  state_directory:
    description: Where descriptions and proofs are kept on the host.
    type: path
    default: /var/lib/sglang-swarm
  state:
    description:
      - V(started) starts the agent. V(complete) waits until every piece is here and tells how far it is; a failure is returned
        in RV(problem) and does not end the play, so that the others can be served and ended. V(stopped) ends the agent.
    type: str
    choices: [started, complete, stopped]
    required: true
  part:
    description: What this host does, as P(baremetal.sglang.swarm_plan#filter) says.
    type: dict
    default: {}
  description:
    description: The description of the files in base64, from M(baremetal.sglang.swarm_content).
    type: str
    default: ""
  agent:
    description: The agent's program on the host.
    type: path
  wheel:
    description: The wheel of libtorrent on the host.
    type: path
  wheel_hashes:
    description: The SHA-256 that the wheel may have.
    type: list
    elements: str
    default: []
  user:
    description: The user as whom the agent runs, who owns nothing but what is on its way.
    type: str
    default: sglang-swarm
  port:
    description: The port that all agents of this swarm listen on.
    type: int
    default: 0
  rate_limit:
    description: Bytes a second in each direction; 0 means unlimited.
    type: int
    default: 0
  lifetime:
    description: Seconds after which the agent ends in any case.
    type: int
    default: 43200
  patience:
    description: Seconds without a byte after which the agent gives up.
    type: int
    default: 300
attributes:
  check_mode:
    description: Starts and ends nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Stop the agent
  baremetal.sglang.swarm_agent:
    name: glm-4.7-tiny
    files: "{{ swarm_files }}"
    folder: /opt/sglang/weights/glm-4.7-tiny/first.partial
    state: stopped
"""

RETURN = r"""
home:
  description: The folder of the agent.
  returned: always
  type: str
unit:
  description: The unit of the agent.
  returned: always
  type: str
status:
  description: The last thing that the agent said.
  returned: when it said something
  type: dict
problem:
  description: Why the files are not complete here; empty when they are.
  returned: when O(state=complete)
  type: str
seconds:
  description: How long it was waited for.
  returned: when O(state=complete)
  type: float
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import unit_host as swarm_unit
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.arguments import COMMON
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.handover_host import HandoverError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **COMMON,
            "state": {"type": "str", "choices": ["started", "complete", "stopped"], "required": True},
            "part": {"type": "dict", "default": {}},
            "description": {"type": "str", "default": ""},
            "agent": {"type": "path"},
            "wheel": {"type": "path"},
            "wheel_hashes": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": "sglang-swarm"},
            "port": {"type": "int", "default": 0},
            "rate_limit": {"type": "int", "default": 0},
            "lifetime": {"type": "int", "default": 43200},
            "patience": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    asked = module.params
    home = host.home_of(asked["state_directory"], asked["name"], asked["files"])
    unit = swarm_unit.SwarmUnit(home, module.run_command)
    result = {"home": home, "unit": unit.name, "changed": asked["state"] != "complete"}
    if module.check_mode:
        module.exit_json(**result)
    try:
        if asked["state"] == "started":
            os.makedirs(asked["folder"], mode=0o700, exist_ok=True)
            problems = host.unsafe_names(asked["files"]) or host.links_below(asked["folder"], asked["files"])
            if problems:
                raise host.HostError("; ".join(problems))
            unit.start(asked)
        elif asked["state"] == "stopped":
            result["changed"], result["status"] = unit.stop(asked["folder"], asked["files"], asked["user"])
        else:
            result["status"] = unit.status()
    except (OSError, host.HostError, HandoverError, swarm_unit.UnitError) as error:
        module.fail_json(msg=f"the agent of {asked['name']}: {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
