#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_table
short_description: Manage the nftables table of this collection
description:
  - Writes the table as a script, lets C(nft) check it, and loads it in one transaction. No other table is touched.
  - A table that somebody changed or took away by hand is found, because the kernel's own listing is compared with the one
    after the last load.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description: Whether the table is there.
    type: str
    choices: [present, absent]
    default: present
  content:
    description: The script, as P(baremetal.sglang.firewall_table#filter) makes it.
    type: str
    default: ""
  path:
    description: The file that it lies in, which the boot loads again. Its folder must be there.
    type: path
    required: true
  family:
    description: Family of the table.
    type: str
    default: inet
  table:
    description: Name of the table.
    type: str
    default: baremetal_sglang
attributes:
  check_mode:
    description: Lets C(nft) check the script, and loads nothing.
    support: full
  diff_mode:
    description: Shows the difference of the rules.
    support: full
"""

EXAMPLES = r"""
- name: Open the ports of groups to their members
  baremetal.sglang.nft_table:
    content: "{{ plan_of_host | baremetal.sglang.firewall_table }}"
    path: /etc/sglang/firewall.nft
"""

RETURN = r"""
nft:
  description: Path of the program nft.
  returned: when it is there
  type: str
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

MISSING = (
    "this host has no program nft, and its planned ports must be closed to strangers: install the package nftables "
    "(a bundle with bundle_debs carries it in debs/), then run again"
)


def read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def write(path: str, text: str) -> None:
    handle, made = tempfile.mkstemp(prefix=".nft-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(made, 0o640)
    os.rename(made, path)


class Table:
    def __init__(self, module: AnsibleModule, nft: str) -> None:
        self.module, self.nft = module, nft
        self.words = [module.params["family"], module.params["table"]]
        self.path = module.params["path"]
        self.listing_path = f"{self.path}.listing"

    def listing(self) -> str:
        """The kernel's own words for the table; empty when it is not there."""
        rc, out, err = self.module.run_command([self.nft, "list", "table", *self.words])
        if rc and "No such file or directory" not in err:
            self.module.fail_json(msg=f"{self.nft} cannot list tables on this host: {err.strip()}")
        return "" if rc else out

    def check(self, text: str) -> None:
        rc, _out, err = self.module.run_command([self.nft, "--check", "--file", "-"], data=text)
        if rc:
            self.module.fail_json(msg=f"{self.nft} refuses the table: {err.strip()}")

    def load(self, text: str) -> None:
        write(self.path, text)
        rc, _out, err = self.module.run_command([self.nft, "--file", self.path])
        if rc:
            self.module.fail_json(msg=f"{self.nft} could not load {self.path}: {err.strip()}")
        write(self.listing_path, self.listing())

    def remove(self) -> None:
        rc, _out, err = self.module.run_command([self.nft, "delete", "table", *self.words])
        if rc:
            self.module.fail_json(
                msg=f"{self.nft} could not delete table {' '.join(self.words)}: {err.strip()}"
            )


def present(module: AnsibleModule) -> None:
    nft, content = module.get_bin_path("nft"), module.params["content"]
    if nft is None:
        module.fail_json(msg=MISSING)
    table = Table(module, nft)
    before, listing = read(table.path), table.listing()
    kept = bool(listing) and listing == read(table.listing_path)
    changed = before != content or not kept
    if changed:
        table.check(content)
        if not module.check_mode:
            if not os.path.isdir(os.path.dirname(table.path)):
                module.fail_json(msg=f"{os.path.dirname(table.path)} is not there: run site.yml --tags host")
            table.load(content)
    # What the kernel holds is shown where the file does not tell it.
    shown = (
        before
        if kept or before != content
        else f"{before}# in the kernel instead:\n{listing or '# nothing'}\n"
    )
    module.exit_json(
        changed=changed,
        nft=nft,
        diff={"before": shown, "after": content, "before_header": table.path, "after_header": table.path},
    )


def absent(module: AnsibleModule) -> None:
    path = module.params["path"]
    files = [item for item in (f"{path}.listing", path) if os.path.exists(item)]
    # A host that never had the table is asked for nothing, not even for a kernel that knows nftables.
    nft = module.get_bin_path("nft") if files else None
    table = Table(module, nft) if nft else None
    before, loaded = read(path), bool(table and table.listing())
    if not module.check_mode:
        if table and loaded:
            table.remove()
        for item in files:
            os.unlink(item)
    module.exit_json(
        changed=bool(files),
        nft=nft or "",
        diff={"before": before, "after": "", "before_header": path, "after_header": path},
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "content": {"type": "str", "default": ""},
            "path": {"type": "path", "required": True},
            "family": {"type": "str", "default": "inet"},
            "table": {"type": "str", "default": "baremetal_sglang"},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    if module.params["state"] == "absent":
        absent(module)
    present(module)


if __name__ == "__main__":
    main()
