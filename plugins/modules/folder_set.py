#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: folder_set
short_description: Manage folders and their owners on paths that only root can change
version_added: 0.2.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
description:
  - Makes each folder that is missing, and gives each one its owner and mode. Nothing below a folder is changed.
  - Never acts through a link or a folder of another user. A folder whose parent the service user could write is refused,
    and so is a link or a file in its place; list the parent first, with owner V(root), to take it over.
  - Links of root's that lead root's own folders to another disk are followed.
options:
  folders:
    description: The folders, parents first.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      owner:
        description: Its user; the folder's group is the primary group of that user.
        type: str
        required: true
      mode:
        description: Its mode, in octal.
        type: str
        required: true
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Names the folders that change.
    support: full
"""

EXAMPLES = r"""
- name: Create the state folder of an instance
  baremetal.sglang.folder_set:
    folders:
      - {path: /var/lib/sglang, owner: root, mode: "0755"}
      - {path: /var/lib/sglang/glm-4.7, owner: sglang, mode: "0750"}
"""

RETURN = r"""
folders:
  description: The folders that were made or changed, or would be.
  returned: always
  type: list
  elements: str
"""

import os
import pwd
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.folders_host import make_folder


def differs(path: str, uid: int, gid: int, mode: int) -> bool:
    """In check mode, below a folder that would have been taken over by now."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    return (found.st_uid, found.st_gid, found.st_mode) != (uid, gid, stat.S_IFDIR | mode)


def changed(module: AnsibleModule, folder: dict, made: list) -> bool:
    try:
        account = pwd.getpwnam(folder["owner"])
    except KeyError:
        if module.check_mode:
            return True
        module.fail_json(msg=f"{folder['path']}: there is no user {folder['owner']} on this host")
    try:
        mode = int(folder["mode"], 8)
    except ValueError:
        module.fail_json(
            msg=f"{folder['path']}: invalid mode {folder['mode']!r}; must be octal, such as 0750"
        )
    wanted = (folder["path"], account.pw_uid, account.pw_gid, mode)
    if module.check_mode and os.path.dirname(folder["path"]) in made:
        return differs(*wanted)
    return make_folder(*wanted, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folders": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "owner": {"type": "str", "required": True},
                    "mode": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    made: list = []
    for folder in module.params["folders"]:
        try:
            if changed(module, folder, made):
                made.append(folder["path"])
        except OSError as error:
            module.fail_json(
                msg=f"{folder['path']}: {error.strerror or error}", changed=bool(made), folders=made
            )
    lines = "".join(f"{path}\n" for path in made)
    module.exit_json(changed=bool(made), folders=made, diff={"before": "", "after": lines})


if __name__ == "__main__":
    main()
