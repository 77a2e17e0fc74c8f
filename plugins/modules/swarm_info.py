#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_info
short_description: Check which files of a swarm a host has
description:
  - Says which files are lacking, what space they need, with which address and Python the host can take part.
  - Reads names and sizes only, and changes nothing.
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
  holds:
    description: Whether the folder is one that was published, and so was verified when it appeared.
    type: bool
    default: false
  address:
    description: The address, or a name for it, on which this host speaks to the others.
    type: str
    required: true
  port:
    description: The port that it would listen on.
    type: int
    required: true
attributes:
  check_mode:
    description: Changes nothing in any case.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Check the files on the host
  baremetal.sglang.swarm_info:
    name: glm-4.7-tiny
    files: "{{ swarm_files }}"
    folder: /opt/sglang/weights/glm-4.7-tiny/first.partial
    address: 192.0.2.11
    port: 29310
"""

RETURN = r"""
complete:
  description: Whether every file is there and every piece was verified.
  returned: always
  type: bool
lacking:
  description: Files that are not there with their size.
  returned: always
  type: list
  elements: str
bytes_lacking:
  description: What the disk still has to take.
  returned: always
  type: int
free:
  description: What the disk can take.
  returned: always
  type: int
problems:
  description: Why this host cannot take part.
  returned: always
  type: list
  elements: str
address:
  description: The numeric address.
  returned: always
  type: str
port_free:
  description: Whether nothing listens on the port.
  returned: always
  type: bool
python:
  description: The wheel tag of the Python that runs modules.
  returned: always
  type: str
arch:
  description: The architecture.
  returned: always
  type: str
"""

import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.core.addresses import why_unusable
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.arguments import COMMON
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.handover_host import held


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **COMMON,
            "holds": {"type": "bool", "default": False},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    asked = module.params
    folder, files = asked["folder"], asked["files"]
    problems = host.unsafe_names(files)
    problems += [] if problems else host.links_below(folder, files)
    lacking = [] if problems else host.absent(folder, files)
    if asked["holds"] and lacking:
        problems.append(
            f"{folder} is said to hold all files and lacks {lacking[0]['path']} of {len(lacking)}"
        )
    address = asked["address"]
    try:
        address = host.numeric_address(address)
        unusable = why_unusable(address)
        if unusable:
            problems.append(
                f"swarm_address = {asked['address']}: other hosts do not reach this one there, {address} {unusable}"
            )
    except OSError as error:
        problems.append(f"swarm_address = {address} is not an address of this host: {error.strerror}")
    home = host.home_of(asked["state_directory"], asked["name"], files)
    proven = not lacking and not problems and (asked["holds"] or host.is_proven(home, folder, files))
    module.exit_json(
        changed=False,
        complete=proven,
        lacking=[entry["path"] for entry in lacking],
        bytes_lacking=0
        if proven or problems
        else max(0, host.bytes_to_write(folder, files) - held(folder, files)),
        free=host.free_bytes(folder),
        problems=problems,
        address=address,
        port_free=not problems and host.port_is_free(address, asked["port"]),
        python=f"cp{sys.version_info[0]}{sys.version_info[1]}",
        arch=os.uname().machine,
    )


if __name__ == "__main__":
    main()
