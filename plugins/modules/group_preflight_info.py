#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: group_preflight_info
short_description: Check that the members of a group reach each other and their clocks agree
description:
  - Tries a TCP connection from this host to each of the others. A port that is closed answers too, and is good.
  - Compares the clock of the host with that of the controller, so that hosts can be compared with each other.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  peers:
    description: The others, as P(baremetal.sglang.planned_peers#filter) gives them.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Name in the inventory.
        type: str
        required: true
      address:
        description: Where the group meets.
        type: str
        required: true
      port:
        description: Which port is tried.
        type: int
        required: true
      instance:
        description: The instance that they serve together.
        type: str
        required: true
  timeout:
    description: Seconds that one of them may take to answer.
    type: float
    default: 3
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check that the members reach each other
  baremetal.sglang.group_preflight_info:
    peers: "{{ plan_of_host | baremetal.sglang.planned_peers(inventory_hostname) }}"
  register: looked
"""

RETURN = r"""
unreachable:
  description: Those that did not answer, each with V(why).
  returned: always
  type: list
  elements: dict
offset:
  description: Seconds that the host's clock is ahead of the controller's; half of the time that the question took is its error.
  returned: always
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service import members_host as members

PEER = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "instance": {"type": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "peers": {"type": "list", "elements": "dict", "required": True, "options": PEER},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    clock = time.time()
    found = []
    for peer in module.params["peers"]:
        why = members.why_not(peer["address"], peer["port"], module.params["timeout"])
        if why:
            found.append({**peer, "why": why})
    # The action beside this module, which knows the controller's time, makes an offset of it.
    module.exit_json(changed=False, unreachable=found, clock=clock, spent=time.time() - clock, offset=0.0)


if __name__ == "__main__":
    main()
