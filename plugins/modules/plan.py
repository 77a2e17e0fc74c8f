#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans what every host will run; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan what every host will run, or refuse with every reason
version_added: 0.1.0
description:
  - Decides from facts, catalogues and the C(serve) specification which release, arguments, variables and
    kernel files each host gets.
  - Refuses what cannot work, with all problems of all hosts at once.
  - Contacts no host. Run it once for the whole inventory.
  - For each host it takes the first of the host's variable C(plan_host_facts), the file C(<host>.json) in O(facts_dir)
    and the host's variable C(declared_hardware). Declared hardware that the host contradicts is refused.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  action:
    description: Has a corresponding action plugin.
    support: full
  check_mode:
    description: Can run in check mode; then O(plan_dir) is not written.
    support: full
  diff_mode:
    description: Returns the change of each plan in words in RV(changes).
    support: none
  platform:
    description: Operating systems of the controller.
    support: full
    platforms: posix
options:
  serve:
    description: What is to be served, one mapping for each model.
    type: raw
  gateway:
    description: Where clients come in, see C(docs/gateway.md).
    type: raw
  monitoring:
    description: What watches the hosts, see C(docs/monitoring.md).
    type: raw
  facts_dir:
    description: Directory on the controller with facts files, as C(playbooks/facts.yml) writes them.
    type: path
    default: ""
  plan_dir:
    description: Directory on the controller that gets one C(<host>.json) for each plan.
    type: path
    default: ""
  catalogue_dirs:
    description:
      - The user's own directories with C(releases), C(models), C(hardware), C(flags), C(locks) or C(moe) in them.
      - Their entries stand beside those of the collection, and win where a key is the same.
    type: list
    elements: path
    default: []
  python_kits:
    description: Minor versions of Python that the bundle carries for hosts that lack one, such as V(3.12).
    type: list
    elements: str
    default: []
  engine_wheels:
    description: >-
      Engine to the path of its wheel on the controller, for engines that no package index has, such as
      V({lightllm: /srv/lightllm-1.2.0-py3-none-any.whl}).
    type: raw
  runtime_backend:
    description: What makes environments. With V(pixi), conda packages bring a CUDA compiler.
    type: str
    choices: [uv, pixi]
    default: uv
  show:
    description: Print the table.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Plan the inventory
  baremetal.sglang.plan:
    serve: "{{ serve }}"
    plan_dir: "{{ plan_dir | default('') }}"
  run_once: true
  register: planned
"""

RETURN = r"""
plans:
  description: The plan of each host that serves something.
  returned: when nothing was refused
  type: dict
gateways:
  description: Gateway and internal listener of each host that has one.
  returned: when nothing was refused
  type: dict
monitoring:
  description: For each host, how it is watched or watches.
  returned: when nothing was refused
  type: dict
changes:
  description: For each host, how its plan differs from the one on the host, in words.
  returned: when nothing was refused
  type: dict
advice:
  description: What is unwise or unproven, each with RV(ignore:code), RV(ignore:host), RV(ignore:where) and RV(ignore:what).
  returned: when nothing was refused
  type: list
  elements: dict
refusals:
  description: Everything that stands against the plan, each with a code, host, place, reason and fix.
  returned: when something was refused
  type: list
  elements: dict
table:
  description: The plan as people read it.
  returned: when nothing was refused
  type: str
"""
