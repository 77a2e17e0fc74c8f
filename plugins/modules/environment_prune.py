#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: environment_prune
short_description: Remove old environments and the files that only they needed
description:
  - Keeps the newest environments, those that are named, those that any release on the host leads to, and those that a running process
    has loaded code from. Takes away the others, what killed runs left, and the content of the store that nothing needs any more.
  - A second run finds nothing to do.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  folder:
    description: Folder of the environments.
    type: path
    required: true
  store:
    description: Folder of the verified content.
    type: path
    required: true
  releases:
    description: Folder of the releases; a link C(env) in any of them keeps its environment.
    type: path
    required: true
  keep:
    description: How many of the newest stay whether used or not; an environment that is used counts.
    type: int
    required: true
  wanted:
    description: Environments that stay in any case, such as those of the plan.
    type: list
    elements: path
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
- name: Remove all but two unused environments
  baremetal.sglang.environment_prune:
    folder: /opt/sglang/envs
    store: /opt/sglang/store
    releases: /opt/sglang/releases
    keep: 2
"""

RETURN = r"""
removed:
  description: Environments and left-overs that went, or would go.
  returned: always
  type: list
  elements: str
content:
  description: Content of the store that went, or would go.
  returned: always
  type: list
  elements: str
kept:
  description: Environments that stay.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import lock_host as lock
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import retention_host as retention
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError, Store


def prune(module: AnsibleModule) -> dict:
    given = module.params
    folder, store = given["folder"], Store(given["store"])
    found = retention.environments(folder)
    used = {*map(os.path.basename, given["wanted"]), *retention.linked(given["releases"], folder)}
    going = retention.superfluous(found, used, given["keep"])
    if going:  # every process of the host is looked at only when something would go
        going = retention.superfluous(found, used | retention.running(folder), given["keep"])
    removed = [item.path for item in going] + retention.left_over(folder)
    kept = [item for item in found if item not in going]
    if not module.check_mode:
        retention.remove(removed)
    content = retention.pruned(store, kept, module.check_mode)
    lines = "".join(f"{line}\n" for line in [*removed, *content])
    return {
        "changed": bool(lines),
        "removed": removed,
        "content": content,
        "kept": [item.path for item in kept],
        "diff": {"before": lines, "after": ""},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "store": {"type": "path", "required": True},
            "releases": {"type": "path", "required": True},
            "keep": {"type": "int", "required": True},
            "wanted": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    store = Store(module.params["store"])
    if not os.path.isdir(store.folder):
        module.exit_json(changed=False, removed=[], content=[], kept=[])
    try:
        if module.check_mode:
            module.exit_json(**prune(module))
        with lock.held(store.lock, "room by removing old environments"):
            result = prune(module)
    except RefusedError as error:
        module.fail_json(msg=f"REFUSED  {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
