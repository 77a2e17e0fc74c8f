#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: environment
short_description: Build a virtual environment offline from verified wheels
description:
  - Looks whether all that the lock asks for is in the host's store, fits this machine and fits on its disk; unpacks uv from its own
    wheel, makes a virtual environment beside the final place, installs the lock into it without asking any index, imports what must
    import, compares versions, CUDA and the number of GPUs with the plan, and only then renames it to its final name.
  - Files are shared with wheels that were unpacked before, as clones where the file system has them, else as hard links.
  - An environment that is there is never changed. One run at a time works on a host.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder of the environment.
    type: path
    required: true
  store:
    description: Folder on the host with verified content, as M(baremetal.sglang.artifact_store) keeps it.
    type: path
    required: true
  files:
    description: All that the environment is made of, lock and uv among it.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Name relative to the bundle.
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
  lock:
    description: Name of the lock file, listed in O(files) below V(locks/).
    type: str
    required: true
  lock_sha256:
    description: SHA-256 of the lock that the environment was planned with; another one is refused.
    type: str
    required: true
  installer:
    description: Name in O(files) of the wheel of uv that installs.
    type: str
    required: true
  python:
    description: The interpreter that the environment is made for.
    type: path
    required: true
  python_version:
    description: Its minor version, such as V(3.11).
    type: str
    default: ""
  python_kit:
    description: Archive in O(files) that holds the interpreter, unpacked to O(python_home) when that is not there.
    type: str
    default: ""
  python_home:
    description: Where O(python_kit) is unpacked.
    type: path
  conda:
    description:
      - The conda half of the environment, for C(runtime_backend=pixi). Its packages, its lock V(pixi/pixi.lock) and the wheel of
        py-rattler are among O(files).
      - Left out, a virtual environment of O(python) is made.
    type: dict
    suboptions:
      environment:
        description: Name of the environment in the lock.
        type: str
        required: true
      arch:
        description: Machine, such as V(x86_64).
        type: str
        required: true
      script:
        description: The program that installs, as text; O(python) runs it.
        type: str
        required: true
  imports:
    description: Modules that must import in the finished environment.
    type: list
    elements: str
    default: []
  import_environment:
    description: Environment variables for that check.
    type: dict
    default: {}
  versions:
    description: Installed versions that must be met, by distribution name.
    type: dict
    default: {}
  cuda:
    description: CUDA tag that C(torch) must be built for, such as V(cu130); empty asks for none.
    type: str
    default: ""
  gpus:
    description: How many GPUs C(torch.cuda) must see; 0 does not look.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says that the environment would be made, and makes nothing.
    support: full
  diff_mode:
    description: Names the environment.
    support: full
"""

EXAMPLES = r"""
- name: Build the environment of the planned release
  baremetal.sglang.environment:
    dest: /opt/sglang/envs/0123456789abcdef
    store: /opt/sglang/store
    files: "{{ runtime_files }}"
    lock: 0.5.23-cu130-x86_64-py3.11.txt
    lock_sha256: 0f5f0b1b1b5f5d0b9b3f5b7f3a0e1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b
    installer: wheels/uv-0.13.8-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
    python: /usr/bin/python3.11
    imports: [torch, sglang]
"""

RETURN = r"""
dest:
  description: The folder of the environment.
  returned: always
  type: str
seconds:
  description: Time of each step of an installation.
  returned: when something was installed
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.maker_host import STAMP, Asked, Maker
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "store": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "lock": {"type": "str", "required": True},
            "lock_sha256": {"type": "str", "required": True},
            "installer": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "python_version": {"type": "str", "default": ""},
            "python_kit": {"type": "str", "default": ""},
            "python_home": {"type": "path"},
            "conda": {
                "type": "dict",
                "options": {
                    "environment": {"type": "str", "required": True},
                    "arch": {"type": "str", "required": True},
                    "script": {"type": "str", "required": True},
                },
            },
            "imports": {"type": "list", "elements": "str", "default": []},
            "import_environment": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
            "cuda": {"type": "str", "default": ""},
            "gpus": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    dest = given["dest"]
    if os.path.exists(os.path.join(dest, STAMP)):
        module.exit_json(changed=False, dest=dest)
    diff = {"before": "", "after": f"{dest}: environment of {given['lock']}\n"}
    if module.check_mode:
        module.exit_json(changed=True, dest=dest, diff=diff)

    def run(command, environment, handles):
        return module.run_command(command, environ_update=environment, pass_fds=handles or None)

    given["import_environment"] = {key: str(value) for key, value in given["import_environment"].items()}
    try:
        maker = Maker(Asked(**given), run, module.warn)
        maker.make()
    except RefusedError as error:
        module.fail_json(msg=f"REFUSED  {error}")
    module.exit_json(changed=bool(maker.seconds), dest=dest, diff=diff, seconds=maker.seconds)


if __name__ == "__main__":
    main()
