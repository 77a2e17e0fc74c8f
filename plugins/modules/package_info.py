#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_info
short_description: List the packages that a host lacks
description:
  - Asks C(dpkg-query), or C(rpm) where there is none, which of the packages are not installed. Needs no C(python3-apt), no
    repository and no net.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  names:
    description: Names of packages.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
"""

EXAMPLES = r"""
- name: Check for missing compilers
  baremetal.sglang.package_info:
    names: [gcc, g++]
  register: compilers
"""

RETURN = r"""
missing:
  description: Those that are not installed.
  returned: always
  type: list
  elements: str
format:
  description: V(deb) or V(rpm); empty where the host has neither, or nothing was asked for.
  returned: always
  type: str
archive:
  description: Release and architecture as Debian calls them; a bundle has a folder of this name.
  returned: always
  type: str
  sample: bookworm-amd64
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.host import look

OS_RELEASE = "/etc/os-release"


def main() -> None:
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    try:
        with open(OS_RELEASE, encoding="utf-8") as stream:
            os_release = stream.read()
    except OSError:
        os_release = ""
    module.run_command_environ_update = {"LC_ALL": "C"}
    found = look(module.params["names"], module.run_command, module.get_bin_path, os_release)
    module.exit_json(changed=False, missing=list(found.missing), format=found.format, archive=found.archive)


if __name__ == "__main__":
    main()
