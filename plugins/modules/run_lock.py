#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Allow one run at a time on a host
description:
  - Takes a lock that lasts until the end of the run, whatever way it ends. A second run is refused and told who holds it.
  - The controller renews the lock while the run lives, and gives it back when the run is gone. A lock that nobody renews, because the
    controller lost its power or its network, is taken over after a minute. It does not survive a restart of the host.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  what:
    description: What the run does, for the one that is refused.
    type: str
    required: true
  patience:
    description: Seconds to wait for a run that is about to end.
    type: float
    default: 3
  run:
    description: Name of the run; given by the controller.
    type: str
    default: ""
  owner:
    description: Who runs it; given by the controller.
    type: str
    default: ""
attributes:
  check_mode:
    description: Takes nothing, and warns where another run works.
    support: full
  diff_mode:
    description: Changes nothing that lasts, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Acquire the run lock
  baremetal.sglang.run_lock:
    what: site.yml
"""

RETURN = r"""
run:
  description: Name of the run.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.core import run_lock_host as run_lock


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "what": {"type": "str", "required": True},
            "patience": {"type": "float", "default": 3},
            "run": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        holder = run_lock.holder_of()
        if holder and holder.get("run") != given["run"]:
            module.warn(f"{run_lock.words(holder)}; what this check finds may change under it")
        module.exit_json(changed=False, run=given["run"])
    try:
        said = run_lock.take(given["run"], given["owner"], given["what"], given["patience"])
    except run_lock.HeldError as error:
        module.fail_json(msg=f"REFUSED  {error} Nothing was changed.")
    except OSError as error:
        module.fail_json(msg=f"REFUSED  {run_lock.PATH} cannot be written: {error}. Nothing was changed.")
    if said:
        module.warn(said)
    module.exit_json(changed=False, run=given["run"])


if __name__ == "__main__":
    main()
