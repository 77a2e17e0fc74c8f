#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes plugins/module_utils/facts/xids.py out of files/xids.yml: hosts have no YAML reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "plugins/module_utils/facts/xids.py"
HEAD = '''# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of files/xids.yml, written by tools/xids.py: change it there."""

from __future__ import annotations

'''


def expanded(codes: list[Any]) -> list[int]:
    found: list[int] = []
    for code in codes:
        first, _dash, last = str(code).partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def table(document: dict[str, Any]) -> str:
    lines = [HEAD + "XIDS: dict[int, tuple[str, str]] = {"]
    rows = {code: (row["name"], row["action"]) for row in document["xids"] for code in expanded(row["codes"])}
    lines += [f'    {code}: ("{name}", "{action}"),' for code, (name, action) in sorted(rows.items())]
    lines += ["}", '"""Xid -> (what happened, action)."""']
    for constant, key, words in (
        ("CURES", "actions", "Action -> what to do."),
        ("UNIFIED_CURES", "unified", "The same for a GPU that shares the memory of its host."),
    ):
        lines.append(f"{constant}: dict[str, str] = {{")
        lines += [f'    "{action}": "{row["cure"]}",' for action, row in document[key].items()]
        lines += ["}", f'"""{words}"""']
    return "\n".join(lines) + "\n"


def main() -> None:
    document = yaml.safe_load((ROOT / "files/xids.yml").read_text(encoding="utf-8"))
    TARGET.write_text(table(document), encoding="utf-8")


if __name__ == "__main__":
    main()
