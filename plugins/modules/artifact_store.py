#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_store
short_description: Keep verified files on a host by their hash
description:
  - Brings to the host those of the listed files that it does not have, compares size and SHA-256 of each there, and keeps it under
    its hash. What an earlier environment brought is not brought again.
  - Files come from a folder on the controller, over the connection that Ansible has, or from a folder that the host itself can read.
  - Many files travel as few long streams. A run that was cut off is taken up in the middle of the file where it stopped.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  store:
    description: The folder on the host; root's alone.
    type: path
    required: true
  files:
    description: What must be there.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Name relative to O(source) or O(source_on_host).
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
  arrived:
    description:
      - Folder on the host into which somebody else brought files as C(SHA256/NAME), such as a fan-out. They are verified and moved
        into the store; the folder is gone afterwards.
    type: path
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
    description: Says how many files and bytes.
    support: full
"""

EXAMPLES = r"""
- name: Copy the wheels that this host lacks
  baremetal.sglang.artifact_store:
    store: /opt/sglang/store
    source: /media/disk/bundle
    files: "{{ environment_files }}"
"""

RETURN = r"""
lacking:
  description: Files that had to be brought.
  returned: always
  type: list
  elements: str
bytes:
  description: How many bytes that was; what a cut-off run had brought before does not count.
  returned: always
  type: int
damaged:
  description: Files that are not what they should be, each with what is wrong.
  returned: on failure
  type: list
  elements: str
"""

import shutil
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import lock_host as lock
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import (
    RefusedError,
    Store,
    refuse_unfit,
)


def bring(module: AnsibleModule, store: Store) -> dict:
    files, source, arrived = (module.params[key] for key in ("files", "source_on_host", "arrived"))
    if not arrived:
        refuse_unfit(store, files)
    lacking = store.lacking(files)
    needed = sum(entry["size"] - store.there(entry) for entry in lacking)
    result = {
        "changed": bool(lacking),
        "lacking": [entry["path"] for entry in lacking],
        "bytes": needed,
    }
    if not lacking:
        return result
    result["diff"] = {
        "before": "",
        "after": f"{store.folder}: {len(lacking)} files more, {needed / 1e6:.1f} MB to bring\n",
    }
    if module.check_mode:
        return result
    store.open()
    if module.params["step"] == "probe" and not source:
        result["transfer"] = {
            "folder": store.incoming,
            "python": sys.executable,
            "files": [
                [entry["path"], entry["sha256"], entry["size"], store.there(entry)] for entry in lacking
            ],
        }
        return result
    with lock.held(store.lock, f"content of {store.folder}"):
        if arrived:
            store.move_in(arrived, lacking)
        damaged = store.take(source, lacking) if source else store.adopt(lacking)
        if arrived and not damaged:
            shutil.rmtree(arrived, ignore_errors=True)
    if damaged:
        where = source or arrived or "what was sent"
        module.fail_json(
            msg=f"{where} is not what the manifest says, nothing was installed from it: {'; '.join(damaged[:10])}. "
            "Good files are kept; mend these in the bundle and run again.",
            damaged=damaged,
        )
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
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
            "source": {"type": "path"},
            "source_on_host": {"type": "path"},
            "arrived": {"type": "path"},
            "step": {"type": "str", "choices": ["whole", "probe", "publish"], "default": "whole"},
        },
        supports_check_mode=True,
    )
    store = Store(module.params["store"])
    try:
        module.exit_json(**bring(module, store))
    except RefusedError as error:
        module.fail_json(msg=f"REFUSED  {error}")
    except OSError as error:
        module.fail_json(msg=f"{store.folder}: {error}; what arrived is kept, run again to go on from there")


if __name__ == "__main__":
    main()
