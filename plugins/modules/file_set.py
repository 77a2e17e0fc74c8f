#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Write several small files of root at once
description:
  - Writes each file beside its place and renames it. One look at a host instead of two for every file.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  files:
    description: Text of each file by its path.
    type: dict
    required: true
  mode:
    description: Of every file.
    type: str
    default: "0644"
  folder_mode:
    description: Of folders that are made for them.
    type: str
    default: "0755"
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the difference of each text.
    support: full
"""

EXAMPLES = r"""
- name: Write two files
  baremetal.sglang.file_set:
    files:
      /etc/sglang/fabric/settings.json: "{}"
      /etc/modules-load.d/sglang-fabric.conf: "ib_uverbs"
"""

RETURN = r"""
written:
  description: Paths whose text or mode was not as wanted.
  returned: always
  type: list
  elements: str
"""

import os
import stat

from ansible.module_utils.basic import AnsibleModule


def look(path: str) -> tuple[str | None, int]:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read(), stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    except FileNotFoundError:
        return None, 0


def make_folder(path: str, mode: int) -> None:
    if path and not os.path.isdir(path):
        make_folder(os.path.dirname(path), mode)
        os.mkdir(path)
        os.chmod(path, mode)


def write(path: str, text: str, mode: int) -> None:
    handle = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(f"{path}.part", path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "mode": {"type": "str", "default": "0644"},
            "folder_mode": {"type": "str", "default": "0755"},
        },
        supports_check_mode=True,
    )
    mode, written, diff = int(module.params["mode"], 8), [], []
    for path, wanted in sorted(module.params["files"].items()):
        before, now = look(path)
        if before == wanted and now == mode:
            continue
        written.append(path)
        diff.append({"before": before or "", "after": wanted, "before_header": path, "after_header": path})
        if not module.check_mode:
            make_folder(os.path.dirname(path), int(module.params["folder_mode"], 8))
            write(path, wanted, mode)
    module.exit_json(changed=bool(written), written=written, diff=diff)


if __name__ == "__main__":
    main()
