#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_tree
short_description: Install the kernel tuning files of an instance
description:
  - Makes the whole tree that a variable of the engine names, since the engine then looks nowhere else. The release's own files
    for this GPU lie beside the planned ones.
  - What else is found in the tree is taken away, and a note says where everything comes from.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  path:
    description: The tree. Its parent must be there.
    type: path
    required: true
  environment:
    description: The Python environment of the instance, whose release's own files are taken.
    type: path
    required: true
  shipped:
    description: Folder of those files below C(site-packages).
    type: str
    required: true
  names:
    description: Regular expression; those of the release's own files whose whole name matches are taken.
    type: str
    required: true
  below:
    description: Folder of the tree that the release's own files go to.
    type: str
    default: ""
  files:
    description: The planned files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it goes, below the tree.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      copy:
        description: Which of the release's own it is; empty where O(files[].content) gives it.
        type: str
        default: ""
      content:
        description: The tiles.
        type: str
        default: ""
      sha256:
        description: What its content must hash to.
        type: str
        required: true
  leave_out:
    description: Names of the release's own that must not be in the tree.
    type: list
    elements: str
    default: []
  note:
    description: Where the planned files come from.
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would be written. Where the environment is not there yet, its files count as they are planned.
    support: full
  diff_mode:
    description: Shows the list of files, and the note.
    support: full
"""

EXAMPLES = r"""
- name: Install the kernel files of the instance
  baremetal.sglang.kernel_tree:
    path: /opt/sglang/releases/0123456789abcdef/glm/moe
    environment: /opt/sglang/envs/0123456789abcdef
    shipped: sglang/srt/layers/moe/moe_runner/triton_utils/configs
    names: E=\d+,N=\d+,device_name=NVIDIA_H200(,.*)?\.json
    below: configs
    files:
      - path: configs/triton_3_8_0/E=161,N=192,device_name=NVIDIA_H200,dtype=fp8_w8a8,per_channel_quant=True.json
        name: E=161,N=192,device_name=NVIDIA_H200,dtype=fp8_w8a8,per_channel_quant=True.json
        copy: triton_3_5_1/E=161,N=192,device_name=NVIDIA_H200,dtype=fp8_w8a8,per_channel_quant=True.json
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    note: the release's own, tuned with Triton 3.5.1
"""

RETURN = r"""
tree:
  description: Every file of the tree with its SHA-256.
  returned: success
  type: dict
"""

import glob
import hashlib
import os
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.kernel_tree import (
    NOTE,
    TreeError,
    selected,
    wanted,
)


def read_tree(root: str) -> dict[str, bytes]:
    found = {}
    for place, _folders, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, root)] = stream.read()
    return found


def shipped_files(environment: str, folder: str, pattern: str) -> dict[str, bytes]:
    found = {}
    for root in glob.glob(os.path.join(glob.escape(environment), "lib/python*/site-packages", folder)):
        names = [
            os.path.relpath(os.path.join(place, name), root)
            for place, _folders, names in os.walk(root)
            for name in names
        ]
        for name in selected(names, pattern):
            with open(os.path.join(root, name), "rb") as stream:
                found[name] = stream.read()
    return found


def lay_down(path: str, tree: dict[str, bytes]) -> None:
    """Made beside it and put in its place by renames, so that no half of a tree is ever read."""
    made = tempfile.mkdtemp(prefix=".kernels-", dir=os.path.dirname(path))
    try:
        os.chmod(made, 0o755)
        for name, content in tree.items():
            target = os.path.join(made, name)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            with open(target, "wb") as stream:
                stream.write(content)
            os.chmod(target, 0o644)
        old = f"{made}.old"
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(made, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def shown(tree: dict[str, bytes]) -> str:
    lines = [f"{hashlib.sha256(content).hexdigest()[:12]}  {name}" for name, content in sorted(tree.items())]
    note = tree.get(NOTE, b"").decode("utf-8", "replace")
    return "\n".join([*lines, note]) + "\n" if tree else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "environment": {"type": "path", "required": True},
            "shipped": {"type": "str", "required": True},
            "names": {"type": "str", "required": True},
            "below": {"type": "str", "default": ""},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "copy": {"type": "str", "default": ""},
                    "content": {"type": "str", "default": ""},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "leave_out": {"type": "list", "elements": "str", "default": []},
            "note": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given: dict[str, Any] = module.params
    path = given["path"]
    if module.check_mode and not os.path.isdir(given["environment"]):
        module.exit_json(changed=not os.path.isdir(path), tree={})
    try:
        shipped = shipped_files(given["environment"], given["shipped"], given["names"])
        tree = wanted(given["files"], shipped, given["leave_out"], given["note"], given["below"])
    except TreeError as error:
        module.fail_json(
            msg=f"{given['environment']}: {error}. The environment is not that of the plan: run site.yml --tags runtime",
        )
    except OSError as error:
        module.fail_json(msg=f"{given['environment']}: cannot be read: {error}")
    before = read_tree(path) if os.path.isdir(path) else {}
    changed = before != tree
    if changed and not module.check_mode:
        try:
            lay_down(path, tree)
        except OSError as error:
            module.fail_json(msg=f"{path} cannot be written: {error}")
    module.exit_json(
        changed=changed,
        tree={name: hashlib.sha256(content).hexdigest() for name, content in sorted(tree.items())},
        diff={"before": shown(before), "after": shown(tree), "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
