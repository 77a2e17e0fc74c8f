# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write roles/*/README.md from each role's argument_specs and defaults: `python tools/role_readmes.py`."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 120
NOTICE = "<!-- Written by `make readmes` from meta/argument_specs.yml and defaults/main.yml: edit those. -->"


def plain(text: str) -> str:
    """Ansible's semantic markup as Markdown."""
    text = re.sub(r"\b[CVOEPM]\(((?:[^()\\]|\\.)*)\)", lambda match: f"`{match[1]}`".replace("\\", ""), text)
    return " ".join(text.split())


def sentences(value: str | list[str]) -> list[str]:
    return [plain(text) for text in ([value] if isinstance(value, str) else value)]


def wrapped(text: str, indent: str = "", first: str | None = None) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def shown(value: Any) -> str:
    if isinstance(value, str):
        return f"`{' '.join(value.split())}`" if value else "empty"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return f"`{text}`"


def kind(option: dict[str, Any]) -> str:
    name = option.get("type", "str")
    return f"{name} of {option['elements']}" if "elements" in option else str(name)


def variable(name: str, option: dict[str, Any], defaults: dict[str, Any], indent: str = "") -> list[str]:
    words = [kind(option), *(["required"] if option.get("required") else [])]
    lines = [wrapped(f"`{name}` ({', '.join(words)})", indent + "  ", indent + "- ")]
    lines += [wrapped(text, indent + "  ") for text in sentences(option["description"])]
    if "choices" in option:
        lines.append(wrapped(f"Choices: {', '.join(map(shown, option['choices']))}", indent + "  "))
    if name in defaults or "default" in option:
        # The defaults file wins: argument_specs hold no templates for values that are not text.
        lines.append(wrapped(f"Default: {shown(defaults.get(name, option.get('default')))}", indent + "  "))
    for inner, suboption in option.get("options", {}).items():
        lines += variable(inner, suboption, {}, indent + "  ")
    # Two spaces end a line within an item of a Markdown list.
    return [*(f"{line}  " for line in lines[:-1]), lines[-1]]


def entry_point(name: str, role: str, entry: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    lines = [
        f"## Entry point `{name}`",
        "",
        wrapped(sentences(entry["short_description"])[0].rstrip(".") + "."),
        "",
    ]
    for text in sentences(entry["description"]):
        lines += [wrapped(text), ""]
    lines += ["```yaml", "- ansible.builtin.include_role:", f"    name: baremetal.sglang.{role}"]
    lines += [*([] if name == "main" else [f"    tasks_from: {name}"]), "```", ""]
    options = entry.get("options", {})
    if not options:
        return [*lines, "No variables.", ""]
    lines += ["Variables:", ""]
    for option, details in options.items():
        lines += variable(option, details, defaults)
    return [*lines, ""]


def readme(role: Path) -> str:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8")) or {}
    lines = [f"# Role `baremetal.sglang.{role.name}`", "", NOTICE, ""]
    for name, entry in specs.items():
        lines += entry_point(name, role.name, entry, defaults)
    lines += ["## Licence", "", "GPL-3.0-or-later"]
    return "\n".join(lines) + "\n"


def main() -> int:
    for role in sorted((ROOT / "roles").iterdir()):
        (role / "README.md").write_text(readme(role), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
