#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_prune
short_description: Remove unused weights
description:
  - Removes published revisions that no release links to, no process has open and no plan names.
  - A model in use is never removed; naming one is refused.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  path:
    description: Where weights are published.
    type: path
    required: true
  releases:
    description: Where releases lie, whose links say what is in use.
    type: path
    required: true
  planned:
    description: Folders that the plan of this host names.
    type: list
    elements: path
    default: []
  keep:
    description: How many unused revisions of each model stay, the newest first.
    type: int
    default: 1
  remove:
    description: Revisions to remove by name, C(model/revision); others are then left alone.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would go.
    support: full
  diff_mode:
    description: Names what goes.
    support: full
"""

EXAMPLES = r"""
- name: Keep only the newest unused revision of each model
  baremetal.sglang.weights_prune:
    path: /opt/sglang/weights
    releases: /opt/sglang/releases
"""

RETURN = r"""
removed:
  description: What went.
  returned: success
  type: list
  elements: str
kept:
  description: What stayed, with who uses it.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import pruning_host as pruning


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "releases": {"type": "path", "required": True},
            "planned": {"type": "list", "elements": "path", "default": []},
            "keep": {"type": "int", "default": 1},
            "remove": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    found = pruning.published_below(given["path"], given["releases"])
    problems = pruning.refusals(found, given["planned"], given["remove"])
    if problems:
        module.fail_json(msg="REFUSED  " + "\n  ".join(problems) + "\nNothing was removed.")
    going = pruning.choose(found, given["planned"], given["keep"], given["remove"])
    try:
        for item in () if module.check_mode else going:
            pruning.take_away(item)
    except OSError as error:
        module.fail_json(msg=f"could not be removed: {error}")
    names = [item.name for item in going]
    module.exit_json(
        changed=bool(going),
        removed=names,
        kept=[f"{item.name} ({item.used_by or 'unused'})" for item in found if item.name not in names],
        diff={"before": "".join(f"{name}\n" for name in names), "after": ""},
    )


if __name__ == "__main__":
    main()
