#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_checksums
short_description: Write the checksums of published weights in the engine's format
description:
  - Makes the file for the engine's C(--model-checksum) out of the manifest beside the weights.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  manifest:
    description: C(.weights.json) of the published weights.
    type: path
    required: true
  path:
    description: The file to write. Its folder must be there.
    type: path
    required: true
attributes:
  check_mode:
    description: Says whether it would write. Weights that are not there yet count as a change.
    support: full
  diff_mode:
    description: Shows the difference of the hashes.
    support: full
"""

EXAMPLES = r"""
- name: Write the checksums for the engine
  baremetal.sglang.weights_checksums:
    manifest: /opt/sglang/weights/glm-4.7-int8/local/.weights.json
    path: /opt/sglang/releases/0123456789abcdef/glm/checksums.json
"""

RETURN = r"""
files:
  description: How many files have a hash.
  returned: success
  type: int
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import engine_checksums


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    manifest, path = module.params["manifest"], module.params["path"]
    if module.check_mode and not os.path.exists(manifest):
        module.exit_json(changed=not os.path.exists(path), files=0)
    try:
        with open(manifest, encoding="utf-8") as stream:
            wanted = engine_checksums(json.load(stream))
        before = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as stream:
                before = stream.read()
        text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
        if text != before and not module.check_mode:
            with open(f"{path}.new", "w", encoding="utf-8") as stream:
                stream.write(text)
            os.chmod(f"{path}.new", 0o644)
            os.replace(f"{path}.new", path)
    except (OSError, ValueError, KeyError) as error:
        module.fail_json(msg=f"{manifest}: no hashes for {path}: {error}; run site.yml --tags weights")
    module.exit_json(
        changed=text != before,
        files=len(wanted["files"]),
        diff={"before": before, "after": text, "before_header": path, "after_header": path},
    )


if __name__ == "__main__":
    main()
