#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: environment_file_info
short_description: Check files with secret environment variables of a service
description:
  - Checks that each file is there, is a regular file, belongs to root, and cannot be read or replaced by anybody else.
  - The content is neither read nor returned.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  paths:
    description: Absolute paths of the files.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
"""

EXAMPLES = r"""
- name: Check the secrets of an instance
  baremetal.sglang.environment_file_info:
    paths: [/etc/sglang/glm.env]
  register: secrets
"""

RETURN = r"""
errors:
  description: What is wrong, with the command that repairs it; empty when every file can be used.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.environment_files_host import (
    file_errors,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, errors=file_errors(module.params["paths"]))


if __name__ == "__main__":
    main()
