#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_staging
short_description: List the files of a model that a host lacks
description:
  - Lays the manifest into the folder beside O(dest), links what intact revisions of the model have already, checks what an
    earlier run left there piece by piece, and says what has to be brought.
  - Whatever carries files puts them there; M(baremetal.sglang.weights) verifies them and makes the folder visible.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder that will appear; files go to the one beside it that ends in C(.partial).
    type: path
    required: true
  manifest:
    description: The manifest on the controller.
    type: path
  manifest_text:
    description: The manifest itself, where no file holds it.
    type: str
  manifest_sha256:
    description: The manifest that is meant.
    type: str
    required: true
  step:
    description: Used between the controller's half of this task and the host's; leave it alone.
    type: str
    choices: [open, look]
    default: look
attributes:
  check_mode:
    description: Says that something would be brought, and brings nothing.
    support: full
  diff_mode:
    description: Names the folder that would appear.
    support: full
"""

EXAMPLES = r"""
- name: List the files that the host lacks
  baremetal.sglang.weights_staging:
    dest: /opt/sglang/weights/glm-4.7-tiny/local
    manifest: /media/disk/weights/glm-4.7-tiny/local/.weights.json
    manifest_sha256: 0f5f0b1b1b5f5d0b9b3f5b7f3a0e1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b
  register: staged
"""

RETURN = r"""
staging:
  description: The folder that is filled.
  returned: always
  type: str
files:
  description: All files of the model, each with C(path), C(size) and C(sha256).
  returned: success
  type: list
  elements: dict
lacking:
  description: Files to bring, each with C(path), C(size), C(sha256) and C(pieces), the numbers of damaged pieces or null for the whole.
  returned: success
  type: list
  elements: dict
bytes:
  description: How many bytes that is.
  returned: success
  type: int
piece_bytes:
  description: How large a piece is.
  returned: success
  type: int
spared:
  description: How many bytes were linked from other revisions.
  returned: success
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import amount
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import ManifestError


def refuse_full_disk(module: AnsibleModule, folder: str, needed: int) -> None:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        module.fail_json(
            msg=f"{folder} has {amount(free)} free and {amount(needed)} are needed: "
            f"free {amount(needed - free)}, or prune weights with playbooks/weights_prune.yml"
        )


def manifest_wanted(staging: str, digest: str) -> bool:
    try:
        return weights_folder.read_manifest(staging)[1] != digest
    except (OSError, ManifestError):
        return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "manifest": {"type": "path"},
            "manifest_text": {"type": "str"},
            "manifest_sha256": {"type": "str", "required": True},
            "step": {"type": "str", "choices": ["open", "look"], "default": "look"},
        },
        supports_check_mode=True,
    )
    dest = module.params["dest"]
    staging = weights_folder.staging_of(dest)
    result = {"changed": True, "staging": staging, "diff": {"before": "", "after": f"{dest}\n"}}
    if module.check_mode:
        module.exit_json(**result, files=[], lacking=[], bytes=0, spared=0)
    try:
        if module.params["step"] == "open":
            weights_folder.open_staging(dest)
            wanted = manifest_wanted(staging, module.params["manifest_sha256"])
            weights_folder.hand_over(staging, [])
            module.exit_json(**result, manifest_wanted=wanted)
        stage = weights_folder.Staging(dest)
        if stage.digest != module.params["manifest_sha256"]:
            module.fail_json(
                msg=f"{staging}: the manifest that came is not the one that is meant (sha256 {stage.digest})"
            )
        weights_folder.take_over(staging)
        spared = stage.reuse()
        lacking = stage.lacking()
        needed = stage.bytes_of(lacking)
        refuse_full_disk(module, staging, needed)
        weights_folder.hand_over(staging, lacking)
    except (OSError, ManifestError, weights_folder.FolderError) as error:
        module.fail_json(msg=f"{staging}: {error}")
    digests = {entry["path"]: entry["sha256"] for entry in stage.manifest["files"]}
    lacking = [{**item, "sha256": digests[item["path"]]} for item in lacking]
    files = [{key: entry[key] for key in ("path", "size", "sha256")} for entry in stage.manifest["files"]]
    module.exit_json(
        **result, files=files, lacking=lacking, bytes=needed, spared=spared, piece_bytes=stage.piece
    )


if __name__ == "__main__":
    main()
