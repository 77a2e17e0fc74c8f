#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report_info
short_description: Collect what tells a stranger how a host serves
description:
  - Reads the plan, the units, their logs, the kernel's log of GPUs and network cards, and what verify found last.
  - Secrets, addresses, serial numbers and the given names are replaced on the host; nothing else leaves it.
  - Changes nothing.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  names:
    description: Names of hosts, users and domains, and what stands in their place.
    type: dict
    default: {}
  root:
    description: Folder of the collection on the host.
    type: path
    default: /opt/sglang
attributes:
  check_mode:
    description: Changes nothing in any case.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Collect the report of the host
  baremetal.sglang.report_info:
    names: {gpu-01: host-1}
  register: collected
"""

RETURN = r"""
files:
  description: Texts by their names in the archive.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor.collection_host import collected
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor.redaction import Redaction


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "dict", "default": {}},
            "root": {"type": "path", "default": "/opt/sglang"},
        },
        supports_check_mode=True,
    )
    redaction = Redaction({str(name): str(value) for name, value in module.params["names"].items()})

    def run(words: list[str]) -> tuple[int, str, str]:
        """A program that is not installed has nothing to say."""
        try:
            return module.run_command(words, handle_exceptions=False)
        except OSError as error:
            return 127, "", str(error)

    found = collected(run, module.params["root"])
    module.exit_json(changed=False, files={name: redaction.text(text) for name, text in found.items()})


if __name__ == "__main__":
    main()
