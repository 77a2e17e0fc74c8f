#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights
short_description: Publish the folder of a model in one step
description:
  - Verifies the folder beside O(dest) against its manifest, makes it read-only for everybody and renames it to O(dest).
  - Brings first what the host lacks, from O(source) over Ansible's own connection or from O(source_on_host); without both, whatever is
    lacking is an error.
  - A folder that was there before changes places with the new one; a process that reads the old files keeps them.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder that appears.
    type: path
    required: true
  source:
    description: Folder on the controller that holds the files.
    type: path
  source_on_host:
    description: Folder on the host that holds the files, such as a mounted disk; wins over O(source).
    type: path
  lacking:
    description: What M(baremetal.sglang.weights_staging) found to be lacking.
    type: list
    elements: dict
    default: []
  piece_bytes:
    description: How large a piece is, as M(baremetal.sglang.weights_staging) says.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says that the folder would appear.
    support: full
  diff_mode:
    description: Names the folder before and after.
    support: full
"""

EXAMPLES = r"""
- name: Verify and publish the weights
  baremetal.sglang.weights:
    dest: /opt/sglang/weights/glm-4.7-tiny/local
    source: /media/disk/weights/glm-4.7-tiny/local
    lacking: "{{ staged.lacking }}"
"""

RETURN = r"""
report:
  description: One line on what was published.
  returned: success
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import amount
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import ManifestError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "source": {"type": "path"},
            "source_on_host": {"type": "path"},
            "lacking": {"type": "list", "elements": "dict", "default": []},
            "piece_bytes": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    dest, lacking = module.params["dest"], module.params["lacking"]
    result = {"changed": True, "dest": dest, "diff": {"before": "", "after": f"{dest}\n"}}
    if module.check_mode:
        module.exit_json(**result)
    started = time.monotonic()
    try:
        stage = weights_folder.Staging(dest)
        if module.params["source_on_host"]:
            stage.copy_from(module.params["source_on_host"], lacking)
        stage.apply_pieces(lacking)
        stage.publish()
    except (OSError, ManifestError, weights_folder.FolderError) as error:
        module.fail_json(
            msg=f"{dest} was not published: {error}; run again to bring what is damaged or missing"
        )
    seconds = time.monotonic() - started
    brought = stage.bytes_of(lacking)
    module.exit_json(
        **result,
        report=f"{dest}: {amount(stage.manifest['bytes'])} in {len(stage.manifest['files'])} files, "
        f"{amount(brought)} of them brought, verified and published in {seconds:.1f} s",
    )


if __name__ == "__main__":
    main()
