#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_info
short_description: Check that published weights are complete
description:
  - Looks at sizes, times and headers of a published model, or reads every byte and compares it with the manifest.
  - Pages that it reads are given back at once, so that a serving process keeps its memory.
  - What is found damaged is kept beside the weights, so that the next run of the role repairs it.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  path:
    description: The published folder.
    type: path
    required: true
  manifest_sha256:
    description: The manifest that the folder should have; empty takes the one that it has.
    type: str
    default: ""
  mode:
    description: V(quick) looks at sizes, times and headers and reads only files that were written to; V(full) reads everything.
    type: str
    choices: [quick, full]
    default: quick
  fail:
    description: Whether damage, or weights that are not there, fail the task.
    type: bool
    default: false
attributes:
  check_mode:
    description: Looks all the same, and keeps nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Verify every byte of the weights
  baremetal.sglang.weights_info:
    path: /opt/sglang/weights/glm-4.7-tiny/local
    mode: full
    fail: true
"""

RETURN = r"""
state:
  description: V(whole), V(damaged), V(absent), V(foreign) where somebody else put something, or
    V(other) where another manifest was published.
  returned: always
  type: str
damage:
  description: What differs, a line a file.
  returned: always
  type: list
  elements: str
manifest_sha256:
  description: Of the manifest that is published there; empty where none is.
  returned: always
  type: str
report:
  description: One line on what was read and how fast.
  returned: always
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import amount


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "manifest_sha256": {"type": "str", "default": ""},
            "mode": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "fail": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, full = module.params["path"], module.params["mode"] == "full"
    started = time.monotonic()
    try:
        found = weights_folder.look(path, module.params["manifest_sha256"], full)
        kept = found["state"] in ("whole", "damaged") and not module.check_mode
        changed = kept and weights_folder.remember(path, found)
    except OSError as error:
        module.fail_json(msg=f"{path} could not be read: {error}")
    seconds = time.monotonic() - started
    lines = [str(item) for item in found["damage"]]
    words = f"{amount(found['bytes'])} in {found['files']} files, {seconds:.1f} s"
    if full and found["files"]:
        words += f", {amount(found['bytes'] / max(seconds, 0.001))}/s"
    result = {
        "changed": changed,
        "state": found["state"],
        "manifest_sha256": found["manifest"],
        "damage": lines,
        "report": f"{path}: {found['state']}, {words}",
    }
    if module.params["fail"] and found["state"] not in ("whole", "foreign"):
        told = "\n  ".join(lines) or "nothing of this manifest is published there"
        module.fail_json(
            msg=f"{path}: {found['state']}\n  {told}\n  site.yml --tags weights brings what is damaged again",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
