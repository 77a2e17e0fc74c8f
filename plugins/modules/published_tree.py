#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: published_tree
short_description: A folder of verified files that appears in one step
description:
  - Brings the listed files to the host, compares size and SHA-256 of each, and only then makes the folder visible, by one rename.
  - Files come from a folder on the controller, over the connection that Ansible has, or from a folder that the host itself can read.
  - Many files travel as few long streams. A run that was cut off is taken up in the middle of the file where it stopped; a damaged
    file is named, taken away and fetched again.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder that appears.
    type: path
    required: true
  files:
    description: The files, each relative to the folder.
    type: list
    elements: dict
    default: []
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
  source:
    description: Folder on the controller that holds the files.
    type: path
  source_on_host:
    description: Folder on the host that holds the files, such as a mounted disk; wins over O(source).
    type: path
  state:
    description: Whether the folder is to be there.
    type: str
    choices: [present, absent]
    default: present
  step:
    description: Used between the controller's half of this task and the host's; leave it alone.
    type: str
    choices: [whole, probe, publish]
    default: whole
attributes:
  check_mode:
    description: Says what would be brought, and brings nothing.
    support: full
  diff_mode:
    description: Names the folder before and after.
    support: full
"""

EXAMPLES = r"""
- name: Weights from the bundle's folder on the controller
  baremetal.sglang.published_tree:
    source: /media/disk/bundle/weights/glm-4.7-tiny
    dest: /opt/sglang/weights/glm-4.7-tiny/first
    files:
      - path: config.json
        size: 812
        sha256: 0f5f0b1b1b5f5d0b9b3f5b7f3a0e1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b
"""

RETURN = r"""
dest:
  description: The folder.
  returned: always
  type: str
lacking:
  description: Files that had to be brought.
  returned: always
  type: list
  elements: str
bytes:
  description: How many bytes that was.
  returned: always
  type: int
"""

import os
import shutil
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.core import published_tree_host as tree


def refuse_unfit(module: AnsibleModule, needed: int) -> None:
    unsafe = tree.unsafe_paths(module.params["files"])
    if unsafe:
        module.fail_json(msg="these names would leave the folder: " + ", ".join(unsafe))
    parent = os.path.dirname(module.params["dest"])
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        module.fail_json(
            msg=f"{parent} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed "
            f"for {module.params['dest']}: free {(needed - free) / 1e9:.1f} GB"
        )


def absent(module: AnsibleModule, dest: str, staging: str) -> None:
    there = [folder for folder in (dest, staging) if os.path.lexists(folder)]
    if not module.check_mode:
        for folder in there:
            shutil.rmtree(folder)
    module.exit_json(changed=bool(there), dest=dest, lacking=[], bytes=0)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "source": {"type": "path"},
            "source_on_host": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "step": {"type": "str", "choices": ["whole", "probe", "publish"], "default": "whole"},
        },
        supports_check_mode=True,
    )
    dest, files, source = module.params["dest"], module.params["files"], module.params["source_on_host"]
    staging = dest + ".partial"
    if module.params["state"] == "absent":
        absent(module, dest, staging)
    if tree.is_published(dest, files):
        module.exit_json(changed=False, dest=dest, lacking=[], bytes=0)

    lacking = tree.absent(staging, files)
    result = {
        "changed": True,
        "dest": dest,
        "lacking": [entry["path"] for entry in lacking],
        "bytes": sum(entry["size"] - tree.arrived(staging, entry) for entry in lacking),
        "diff": {"before": "", "after": f"{dest}: {len(files)} files\n"},
    }
    refuse_unfit(module, result["bytes"])
    if module.check_mode or (module.params["step"] == "probe" and not source):
        if not module.check_mode:
            tree.open_to_sender(staging, lacking)
            result["transfer"] = {
                "folder": staging,
                "python": sys.executable,
                "files": [
                    [entry["path"], entry["path"], entry["size"], tree.arrived(staging, entry)]
                    for entry in lacking
                ],
            }
        module.exit_json(**result)
    try:
        if source:
            tree.copy_in(source, staging, lacking)
        tree.publish(staging, dest, files)
    except tree.TreeError as error:
        module.fail_json(
            msg=f"{dest} was not published: {error}; run again to fetch what is damaged",
            damaged=str(error).split("; "),
        )
    except OSError as error:
        module.fail_json(msg=f"{dest} was not published: {error}; run again to go on from there")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
