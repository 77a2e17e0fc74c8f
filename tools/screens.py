# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run playbooks/plan.yml on the examples and write what it prints to docs/images: `python tools/screens.py`.

The examples are the inventories of README.md as they stand there, and one that is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, LINE_HEIGHT, CHARACTER_WIDTH = 104, 18, 8.4
COLOURS = {
    r"^\$ ": "#8ab4f8",
    r"^REFUSED|^\d+ refusal": "#f28b82",
    r"^  warns ": "#fdd663",
    r"nothing was refused$": "#81c995",
    r"^\S+ +\d+x ": "#ffffff",
}


def example(group: str) -> str:
    """The inventory of README.md that begins with this group."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    (block,) = [block.split("```")[0] for block in blocks if block.startswith(f"{group}:")]
    return block


def printed(text: str) -> list[str]:
    """The lines of the plan in the output of a play: from the first host or refusal to the sum."""
    lines = [line.rstrip() for line in text.splitlines()]
    first = next(index for index, line in enumerate(lines) if re.match(r"REFUSED|\S+ +\d+x ", line))
    last = next(
        index for index in range(first, len(lines)) if re.search(r"was (refused|changed)\Z", lines[index])
    )
    return [
        piece
        for line in lines[first : last + 1]
        for piece in textwrap.wrap(line, COLUMNS, subsequent_indent="    ", drop_whitespace=False) or [""]
    ]


def plan(inventory: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts.yml"
        hosts.write_text(inventory, encoding="utf-8")
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "playbooks/plan.yml", "-i", hosts],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )
    return printed(done.stdout)


def svg(lines: list[str]) -> str:
    """A picture of a terminal; its text can be selected."""
    width = int(COLUMNS * CHARACTER_WIDTH) + 32
    height = len(lines) * LINE_HEIGHT + 40
    rows = []
    for number, line in enumerate(lines):
        colour = next((value for pattern, value in COLOURS.items() if re.search(pattern, line)), "#bdc1c6")
        top = 34 + number * LINE_HEIGHT
        rows.append(f'<text x="16" y="{top}" fill="{colour}" xml:space="preserve">{escape(line)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="14"',
            ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace">',
            f'<rect width="{width}" height="{height}" rx="8" fill="#202124"/>',
            *rows,
            "</svg>\n",
        ]
    )


def main() -> int:
    a800 = example("a800")
    refused = a800.replace("glm-4.7-int8", "glm-4.7")
    for name, inventory in (("spark", example("spark")), ("a800", a800), ("refused", refused)):
        command = f"$ ansible-playbook playbooks/plan.yml -i inventories/{'my-room' if name != 'spark' else 'spark'}"
        path = ROOT / f"docs/images/plan-{name}.svg"
        path.write_text(svg([command, "", *plan(inventory)]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
