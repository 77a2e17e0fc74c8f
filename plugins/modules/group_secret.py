#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: group_secret
short_description: Manage the secret by which the members of a group authenticate
description:
  - V(kept) reads the secrets that the first host of each group keeps. Where there is none, or another one is wanted, the controller makes
    one; it is written by V(present), on all members.
  - V(present) writes each secret into its file, which root owns and the group of the engine may read.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description: Whether secrets are read or written.
    type: str
    choices: [kept, present]
    required: true
  paths:
    description: Instance and file, for O(state=kept).
    type: dict
    default: {}
  secrets:
    description: Instance, and C(path) and C(secret) of each, for O(state=present).
    type: dict
    default: {}
  group:
    description: The group that may read the files.
    type: str
    default: sglang
  rotate:
    description: Whether the controller makes a new secret in any case.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows nothing of a secret.
    support: none
"""

EXAMPLES = r"""
- name: Read the secrets of the groups that this host leads
  baremetal.sglang.group_secret:
    state: kept
    paths: {glm: /etc/sglang/groups/glm.key}
  register: kept
  no_log: true
"""

RETURN = r"""
secrets:
  description: Instance and secret.
  returned: when O(state=kept)
  type: dict
fingerprints:
  description: Instance, and a short name for its secret that does not reveal it.
  returned: when O(state=present)
  type: dict
"""

import grp
import os
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service import group_secret

LONGEST = 4096
FILE_MODE = 0o640
FOLDER_MODE = 0o750
TRAVERSE = 0o011


def read(path: str) -> str:
    """Empty where there is no file of root's with a usable secret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return ""
        with open(descriptor, encoding="ascii", errors="replace", closefd=False) as stream:
            text = stream.read(LONGEST).strip()
    finally:
        os.close(descriptor)
    return text if group_secret.usable(text) else ""


def mended(path: str, group: int, mode: int, apply: bool) -> bool:
    """Owner, group and mode of what is there; whether something differed."""
    found = os.lstat(path)
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), group, mode):
        return False
    if apply:
        os.chown(path, os.geteuid(), group, follow_symlinks=False)
        os.chmod(path, mode)
    return True


def open_folder(folder: str, group: int, apply: bool) -> bool:
    """The folder of the secrets; the one above it is only passed through."""
    if not os.path.isdir(folder):
        if apply:
            os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
            os.mkdir(folder, 0o700)
            mended(folder, group, FOLDER_MODE, True)
            above = os.path.dirname(folder)
            os.chmod(above, stat.S_IMODE(os.stat(above).st_mode) | TRAVERSE)
        return True
    above = os.path.dirname(folder)
    closed = stat.S_IMODE(os.stat(above).st_mode) & TRAVERSE != TRAVERSE
    if closed and apply:
        os.chmod(above, stat.S_IMODE(os.stat(above).st_mode) | TRAVERSE)
    return mended(folder, group, FOLDER_MODE, apply) or closed


def write(path: str, secret: str, group: int) -> None:
    handle, made = tempfile.mkstemp(prefix=".secret-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        os.fchown(handle, os.geteuid(), group)
        os.fchmod(handle, FILE_MODE)
        stream.write(secret + "\n")
        stream.flush()
        os.fsync(handle)
    os.rename(made, path)


def present(module: AnsibleModule) -> None:
    secrets, apply = module.params["secrets"], not module.check_mode
    unfit = sorted(name for name, item in secrets.items() if not group_secret.usable(str(item.get("secret"))))
    if unfit:
        module.fail_json(
            msg=f"no secret for the group of {', '.join(unfit)}: its first host was not in this run; leave --limit out"
        )
    try:
        group = grp.getgrnam(module.params["group"]).gr_gid
    except KeyError:
        if not module.check_mode:
            module.fail_json(msg=f"there is no group {module.params['group']}: run site.yml --tags host")
        group = -1
    changed = False
    for item in secrets.values():
        path = str(item["path"])
        changed = open_folder(os.path.dirname(path), group, apply) or changed
        if read(path) != item["secret"]:
            changed = True
            if apply:
                write(path, item["secret"], group)
        else:
            changed = mended(path, group, FILE_MODE, apply) or changed
    module.exit_json(
        changed=changed,
        fingerprints={name: group_secret.fingerprint(item["secret"]) for name, item in secrets.items()},
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["kept", "present"], "required": True},
            "paths": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "group": {"type": "str", "default": "sglang"},
            "rotate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "kept":
            # Empty ones are made by the action beside this module, on the controller.
            module.exit_json(
                changed=False,
                secrets={name: read(str(path)) for name, path in module.params["paths"].items()},
            )
        present(module)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
