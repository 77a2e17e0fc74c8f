# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel of an engine that the user built: what it says of itself, and whether all of it is inside. No I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser

METADATA = re.compile(r"[^/]+\.dist-info/METADATA\Z")


def name_and_version(files: Mapping[str, str]) -> tuple[str, str]:
    """Out of the metadata of a wheel; empty where it has none."""
    text = next((text for path, text in files.items() if METADATA.match(path)), "")
    headers = HeaderParser().parsestr(text)
    return str(headers.get("Name") or "").strip().lower().replace("_", "-"), str(
        headers.get("Version") or ""
    ).strip()


def missing_modules(files: Mapping[str, str], begin: Iterable[str]) -> dict[str, str]:
    """Modules that are imported, by way of others of the same package, and are not inside -> a file that imports them.

    Only what the modules of `begin` lead to: a release may hold old files that nobody imports.
    """
    found: dict[str, str] = {}
    queue = [(name, "the start") for name in begin]
    packages = {name.split(".")[0] for name, _why in queue}
    there, seen = _modules(files), set()
    for name, why in queue:
        parts = name.split(".")
        for part in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if part in seen or parts[0] not in packages:
                continue
            seen.add(part)
            if part not in there:
                found.setdefault(part, why)
                break
            path = there[part]
            if path.endswith(".py"):
                queue += [(wanted, path) for wanted in _imported(files[path], path, there)]
    return found


def _modules(paths: Iterable[str]) -> dict[str, str]:
    """Module -> its file; a folder with files is a package, whether it has an __init__.py or not ("" then)."""
    found: dict[str, str] = {}
    for path in paths:
        if not path.endswith((".py", ".so")):
            continue
        parts = path.split("/")
        for end in range(1, len(parts)):
            found.setdefault(".".join(parts[:end]), "")
        stem = parts[-1].split(".")[0]
        found[".".join(parts[:-1] if stem == "__init__" else [*parts[:-1], stem])] = path
    return found


def _imported(text: str, path: str, there: Mapping[str, str]) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    above = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = above[: len(above) - node.level + 1] if node.level else []
            name = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if name:
                yield name
            # What is imported from a package may be one of its modules.
            yield from (inner for alias in node.names if (inner := f"{name}.{alias.name}") in there)


def completed_lock(text: str, wheel: Mapping[str, str]) -> str:
    """A lock that holds everything but the engine's own wheel, with the wheel that the user gives."""
    if not wheel:
        return text
    line = f"{wheel['distribution']}=={wheel['version']} \\\n    --hash=sha256:{wheel['sha256']}\n"
    return text.rstrip("\n") + "\n" + line
