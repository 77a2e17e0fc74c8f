# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the handbook's page of playbooks: the comment at the head of each file of playbooks/."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def head(path: Path) -> str:
    """The comment above the first play."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            lines.append(line.lstrip("# ").rstrip())
        elif line != "---":
            break
    return "\n".join(lines)


def page() -> str:
    parts = [
        "# Playbooks",
        "`ansible-playbook playbooks/NAME.yml -i INVENTORY` in a clone, `ansible-playbook baremetal.sglang.NAME -i INVENTORY` "
        "where the collection is installed. Variables of roles: [reference](reference/index.rst).",
    ]
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        parts += [f"## {path.stem}", head(path)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
