#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shim: what an engine compiled, packed on one host and unpacked on another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jit_cache
short_description: What an engine compiled at its first start, carried from host to host
version_added: 0.2.0
author:
  - the baremetal.sglang maintainers (@baremetal)
description:
  - The first start of an engine compiles for minutes. The result is kept in a folder that is named by environment and
    GPU architecture; this module packs that folder into one archive, or fills it from one.
  - A folder that holds files already is left alone.
  - The archive is code that the service runs. Take it only from a host that you trust as much as this one.
attributes:
  check_mode:
    description: Can run in check mode and tells what it would do.
    support: full
options:
  folder:
    description: The instance's folder of compiled code, C(service.compiled) of its plan.
    type: path
    required: true
  archive:
    description: The archive to write or to read, on the host.
    type: path
    required: true
  state:
    description: Whether the archive is made from the folder, or the folder from the archive.
    type: str
    choices: [packed, unpacked]
    required: true
  user:
    description: Who owns the files in the folder. Required for O(state=unpacked).
    type: str
  sha256:
    description: What the archive's content must be.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: What the first host compiled
  baremetal.sglang.jit_cache:
    folder: /var/cache/sglang/glm-4.7/compiled/9c2fbedb4b432a03-sm80
    archive: /var/tmp/compiled.tar.gz
    state: packed
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

import os
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.jit_cache_host import (
    CompiledCodeError,
    look,
    pack,
    unpack,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "archive": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["packed", "unpacked"], "required": True},
            "user": {"type": "str"},
            "sha256": {"type": "str", "default": ""},
        },
        required_if=[("state", "unpacked", ["user"])],
        supports_check_mode=True,
    )
    params = module.params
    folder, archive = params["folder"].rstrip("/"), params["archive"]
    before = look(folder)
    found: dict = {"changed": False, **before}
    try:
        if params["state"] == "packed":
            found["changed"] = before["files"] > 0
            if before["files"] and not module.check_mode:
                found["sha256"] = pack(folder, archive)
        elif not before["files"] and (module.check_mode or os.path.exists(archive)):
            found["changed"] = True
            if not module.check_mode:
                account = pwd.getpwnam(params["user"])
                unpack(archive, folder, (account.pw_uid, account.pw_gid), params["sha256"])
                found.update(look(folder))
    except KeyError:
        module.fail_json(msg=f"there is no user {params['user']} on this host: run site.yml --tags host")
    except (CompiledCodeError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**found)


if __name__ == "__main__":
    main()
