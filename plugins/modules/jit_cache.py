#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shim: what an engine compiled, packed on one host and unpacked on another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jit_cache
short_description: Pack and unpack the JIT cache of an instance
version_added: 0.2.0
author:
  - the baremetal.sglang maintainers (@baremetal)
description:
  - The first start of an engine compiles for minutes. The result is kept in a folder that is named by environment and
    GPU architecture; this module packs that folder into one archive, or fills it from one.
  - A folder that holds files already is left alone.
  - The service user can change the folder at any time, so everything in it is done by a process of that user.
  - The archive is code that the service runs. Take it only from a host that you trust as much as this one.
attributes:
  check_mode:
    description: Can run in check mode and tells what it would do.
    support: full
options:
  folder:
    description: The instance's JIT cache folder, C(service.compiled) of its plan.
    type: path
    required: true
  archive:
    description: The archive to write or to read, on the host, in a folder that only root can write.
    type: path
  state:
    description: Whether the archive is made from the folder, or the folder from the archive, or the folder only counted.
    type: str
    choices: [packed, unpacked, counted]
    required: true
  user:
    description: Who owns the files in the folder.
    type: str
    required: true
  sha256:
    description: What the archive's content must be, as it was recorded when it was packed. Required for O(state=unpacked).
    type: str
"""

EXAMPLES = r"""
- name: Pack the JIT cache of the first host
  baremetal.sglang.jit_cache:
    folder: /var/cache/sglang/glm-4.7/compiled/9c2fbedb4b432a03-sm80
    archive: /opt/sglang/carried/compiled.tar.gz
    state: packed
    user: sglang
"""

RETURN = r"""
files:
  description: How many files the folder holds.
  returned: always
  type: int
bytes:
  description: How large they are together.
  returned: always
  type: int
sha256:
  description: The archive's content.
  returned: when it was packed
  type: str
"""

import contextlib
import os
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.folders_host import open_trusted
from ansible_collections.baremetal.sglang.plugins.module_utils.service.jit_cache_host import (
    JitCacheError,
    look,
    pack,
    sha256_of,
    unpack,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.user_host import UserError, as_user

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
THERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def opened(archive: str, flags: int) -> int:
    """The archive in a folder that only root can change."""
    above, name = os.path.split(archive)
    folder = open_trusted(above)
    try:
        if flags & os.O_CREAT:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        return os.open(name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)


def work(module: AnsibleModule) -> dict:
    params = module.params
    folder, archive = params["folder"].rstrip("/"), params["archive"]
    account = pwd.getpwnam(params["user"])

    def as_them(what, *words):
        return as_user(account.pw_uid, account.pw_gid, lambda: what(*words))

    before = as_them(look, folder)
    found: dict = {"changed": False, **before}
    if params["state"] == "packed":
        found["changed"] = before["files"] > 0
        if before["files"] and not module.check_mode:
            descriptor = opened(archive, NEW)
            try:
                as_them(pack, folder, descriptor)
                found["sha256"] = sha256_of(descriptor)
            finally:
                os.close(descriptor)
    elif params["state"] == "unpacked" and not before["files"]:
        found["changed"] = True
        if not module.check_mode:
            descriptor = opened(archive, THERE)
            try:
                if sha256_of(descriptor) != params["sha256"]:
                    raise JitCacheError(
                        f"{archive}: differs from what was recorded when it was packed (sha256)"
                    )
                as_them(unpack, descriptor, folder)
            finally:
                os.close(descriptor)
            found.update(as_them(look, folder))
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "archive": {"type": "path"},
            "state": {"type": "str", "choices": ["packed", "unpacked", "counted"], "required": True},
            "user": {"type": "str", "required": True},
            "sha256": {"type": "str"},
        },
        required_if=[("state", "packed", ["archive"]), ("state", "unpacked", ["archive", "sha256"])],
        supports_check_mode=True,
    )
    try:
        found = work(module)
    except KeyError:
        module.fail_json(
            msg=f"there is no user {module.params['user']} on this host: run site.yml --tags host"
        )
    except (JitCacheError, UserError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**found)


if __name__ == "__main__":
    main()
