# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an inventory the way Ansible does: through `ansible-inventory`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from .problems import LabError
from .processes import run
from .spec import LabSpec, name_in, parse

OURS = ("ansible_host", "lab", "lab_name", "lab_subnet", "lab_route")


def read(inventory: Path, name: str | None = None) -> LabSpec:
    return parse(_rendered(_list(inventory), inventory), str(inventory), name)


def read_name(inventory: Path) -> str:
    return name_in(_rendered(_list(inventory), inventory), str(inventory))


def _rendered(listed: dict[str, Any], inventory: Path) -> dict[str, Any]:
    """Templates in what concerns the lab: ansible-inventory lists variables as they were written."""
    hostvars = listed.get("_meta", {}).get("hostvars", {})
    ours = {
        host: {key: variables[key] for key in OURS if key in variables}
        for host, variables in hostvars.items()
    }
    if "{{" not in json.dumps(ours):
        return listed
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped]
    from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]
    from ansible.plugins.loader import init_plugin_loader  # type: ignore[import-untyped]
    from ansible.template import Templar  # type: ignore[import-untyped]
    from ansible.vars.manager import VariableManager  # type: ignore[import-untyped]

    with warnings.catch_warnings(action="ignore"):  # it was loaded before, for another inventory
        init_plugin_loader()
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(inventory)])
    variables = VariableManager(loader=loader, inventory=manager)
    for host in manager.get_hosts():
        # Only values that Ansible itself read count as templates; those of the listing do not.
        own = variables.get_vars(host=host)
        templar = Templar(loader=loader, variables=own)
        for key in ours.get(host.name, {}):
            hostvars[host.name][key] = json.loads(json.dumps(templar.template(own[key])))
    return listed


def _list(inventory: Path) -> dict[str, Any]:
    if not inventory.exists():
        raise LabError(f"There is no inventory {inventory}. Name one with -i, such as -i inventories/lab.")
    beside = Path(sys.executable).parent / "ansible-inventory"
    command = str(beside) if beside.exists() else shutil.which("ansible-inventory")
    if command is None:
        raise LabError(
            "ansible-inventory is not here. Make the controller's environment first: make controller"
        )
    os.environ.setdefault("ANSIBLE_LOCALHOST_WARNING", "false")
    listed: dict[str, Any] = json.loads(run([command, "-i", inventory, "--list"]).stdout)
    return listed
