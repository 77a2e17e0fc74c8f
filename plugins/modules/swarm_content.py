#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_content
short_description: Prepare the files of a swarm on its seed
description:
  - Brings what the folder lacks, over the connection that Ansible has or from a folder that the host itself reads.
  - Then compares every file with its SHA-256 and writes the description that all members of the swarm share.
  - A folder that was described before and was not touched since is not read again.
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
  source:
    description: Folder on the controller that holds the files.
    type: path
  source_on_host:
    description: Folder on the host that holds the files, such as a mounted disk; wins over O(source).
    type: path
  step:
    description: Used between the controller's half of this task and the host's; leave it alone.
    type: str
    choices: [whole, probe, describe]
    default: whole
attributes:
  check_mode:
    description: Says what would be brought, and brings nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Copy the files to the first host over SSH
  baremetal.sglang.swarm_content:
    name: glm-4.7-tiny
    files: "{{ swarm_files }}"
    folder: /opt/sglang/weights/glm-4.7-tiny/first.partial
    source: /media/disk/bundle/weights/glm-4.7-tiny/first
"""

RETURN = r"""
lacking:
  description: Files that had to be brought.
  returned: always
  type: list
  elements: str
bytes:
  description: How many bytes that was.
  returned: always
  type: int
description:
  description: The description of the files, in base64.
  returned: when nothing failed, not in check mode
  type: str
seconds:
  description: How long reading and hashing took.
  returned: when nothing failed, not in check mode
  type: float
"""

import base64
import os
import sys
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import published_tree_host as tree
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.arguments import COMMON


def describe(asked, home: str) -> bool:
    """Verifies and describes, unless that was done and nothing was touched since."""
    os.makedirs(home, mode=0o700, exist_ok=True)
    if host.is_proven(home, asked["folder"], asked["files"]):
        return False
    content = host.describe(asked["name"], asked["folder"], asked["files"])
    with open(os.path.join(home, host.DESCRIPTION), "wb") as stream:
        stream.write(content)
    host.remember(home, asked["folder"], asked["files"])
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **COMMON,
            "source": {"type": "path"},
            "source_on_host": {"type": "path"},
            "step": {"type": "str", "choices": ["whole", "probe", "describe"], "default": "whole"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    folder, files, local = asked["folder"], asked["files"], asked["source_on_host"]
    problems = host.unsafe_names(files) or host.links_below(folder, files)
    if local and not problems:
        problems = host.links_below(local, [{"path": host.path_at_source(entry)} for entry in files])
    if problems:
        module.fail_json(msg=f"nothing was brought to {folder}: " + "; ".join(problems))
    lacking = host.absent(folder, files)
    brings = bool(lacking and (local or asked["source"]))
    result = {
        "changed": brings,
        "lacking": [entry["path"] for entry in lacking],
        "bytes": sum(entry["size"] for entry in lacking),
    }
    if module.check_mode:
        module.exit_json(**result)
    if asked["step"] == "probe" and brings and not local:
        tree.open_to_sender(folder, lacking)
        transfer = [[host.path_at_source(entry), entry["path"], entry["size"], 0] for entry in lacking]
        module.exit_json(transfer={"python": sys.executable, "files": transfer}, **result)
    home = host.home_of(asked["state_directory"], asked["name"], files)
    started = time.monotonic()
    try:
        if local and lacking:
            host.copy_in(local, folder, lacking)
        if brings or asked["step"] == "describe":
            tree.take_over(folder)
        result["changed"] = describe(asked, home) or brings
        with open(os.path.join(home, host.DESCRIPTION), "rb") as stream:
            result["description"] = base64.b64encode(stream.read()).decode()
    except (OSError, host.HostError) as error:
        module.fail_json(msg=f"nothing can be given from here: {error}")
    module.exit_json(seconds=round(time.monotonic() - started, 1), **result)


if __name__ == "__main__":
    main()
