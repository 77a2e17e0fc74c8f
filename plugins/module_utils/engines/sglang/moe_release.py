# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release of the engine brings of tuned MoE files, where it looks for them, and what it says then.

Read from the wheel's own text, so that a release that looks elsewhere or speaks otherwise is noticed when
its catalogue entry is made and not on a host.
"""

from __future__ import annotations

import ast
import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..base import UnreadableWheelError
from ..kernel_log import DEFAULT, FALLBACK, FILE, NEVER, UP, Message
from .moe_config import LISTED_TRITON, directories_searched, directory, parse_name, tile_bytes

MODULE = "fused_moe_triton_config.py"
LOOKUP = "get_moe_configs"

OUTCOMES = (
    ("Deterministic inference", NEVER),
    ("Fallback to triton version", FALLBACK),
    ("Using MoE kernel config from", FILE),
    ("Using default MoE kernel config", DEFAULT),
    ("down_moe=False", UP),
    ("Down MoE config file not found", UP),
)
"""The first word that a message contains says what it means."""
PLACEHOLDERS = {"config_file_path": "wanted", "try_config_file_path": "used", "try_triton_version": "triton"}
ADVICE = ", you can create them"


class UnreadableReleaseError(UnreadableWheelError):
    """The wheel looks for its files in a way that is not known here."""


@dataclass(frozen=True)
class Shipped:
    """One tuned file of a release."""

    sha256: str
    shared_memory: int
    """Of its largest tile, in bytes."""


@dataclass(frozen=True)
class MoeRelease:
    folder: str
    """Below site-packages; holds triton_X_Y_Z."""
    listed: tuple[str, ...]
    """Triton versions that it goes through after the running one; empty: every one on disk, newest first."""
    messages: tuple[Message, ...]
    files: Mapping[str, Mapping[str, Shipped]] = field(default_factory=dict)
    """Directory -> name -> file."""

    def find(self, name: str, triton: str) -> Iterator[tuple[str, Shipped]]:
        """Where the release finds a name, in its order."""
        for folder in directories_searched(triton, self.files, bool(self.listed)):
            if name in self.files[folder]:
                yield folder, self.files[folder][name]

    def exact(self, name: str, triton: str) -> Shipped | None:
        return self.files.get(directory(triton), {}).get(name)


def release_from(document: Mapping[str, Any]) -> MoeRelease:
    """A file of moe/releases; its schema was checked."""
    return MoeRelease(
        folder=str(document["folder"]),
        listed=tuple(document["listed"]),
        messages=tuple(Message(item["outcome"], item["text"]) for item in document["messages"]),
        files={
            folder: {name: Shipped(str(item[0]), int(item[1])) for name, item in names.items()}
            for folder, names in document["files"].items()
        },
    )


def read_wheel(version: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The document of one release out of the wheel's Python sources and tuned files."""
    modules = [path for path in files if posixpath.basename(path) == MODULE]
    if len(modules) != 1:
        raise UnreadableReleaseError(f"{version}: {len(modules)} modules are called {MODULE}")
    tree = ast.parse(files[modules[0]])
    lookup = next(
        (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == LOOKUP), None
    )
    if lookup is None:
        raise UnreadableReleaseError(f"{version}: {modules[0]} has no function {LOOKUP}")
    folder = posixpath.join(posixpath.dirname(modules[0]), "configs")
    listed = _listed(lookup)
    if listed and listed != LISTED_TRITON:
        raise UnreadableReleaseError(
            f"{version}: goes through Triton {', '.join(listed)}: not the known list"
        )
    return {
        "version": version,
        "folder": folder,
        "listed": list(listed),
        "messages": [{"outcome": item.outcome, "text": item.text} for item in _messages(version, lookup)],
        "files": _shipped(folder, files),
    }


def _listed(lookup: ast.FunctionDef) -> tuple[str, ...]:
    for node in ast.walk(lookup):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            names = [item.id for item in node.targets if isinstance(item, ast.Name)]
            if names == ["supported_triton_versions"]:
                return tuple(str(ast.literal_eval(item)) for item in node.value.elts)
    return ()


def _messages(version: str, lookup: ast.FunctionDef) -> list[Message]:
    found = []
    for node in ast.walk(lookup):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "logger"
        ):
            text = _text(node.args)
            outcome = next((meaning for word, meaning in OUTCOMES if word in text), "")
            if not outcome:
                raise UnreadableReleaseError(f"{version}: {LOOKUP} says something new: {text}")
            message = Message(outcome, text.split(ADVICE, maxsplit=1)[0])
            if message not in found:
                found.append(message)
    missing = {FILE, FALLBACK, DEFAULT, UP, NEVER} - {item.outcome for item in found}
    if missing:
        raise UnreadableReleaseError(f"{version}: {LOOKUP} has no message for {', '.join(sorted(missing))}")
    return sorted(found, key=lambda item: (item.outcome, item.text))


def _text(arguments: Sequence[ast.expr]) -> str:
    """The message with our names where the values go, be it an f-string or %s with arguments."""
    first, *values = arguments
    if isinstance(first, ast.JoinedStr):
        return "".join(
            f"{{{_name(part.value)}}}"
            if isinstance(part, ast.FormattedValue)
            else str(ast.literal_eval(part))
            for part in first.values
        )
    text = str(ast.literal_eval(first))
    for value in values:
        text = text.replace("%s", f"{{{_name(value)}}}", 1)
    return text


def _name(value: ast.expr) -> str:
    name = value.id if isinstance(value, ast.Name) else ast.dump(value)
    if name not in PLACEHOLDERS:
        raise UnreadableReleaseError(f"{LOOKUP} says a value that is not known here: {name}")
    return PLACEHOLDERS[name]


def _shipped(folder: str, files: Mapping[str, str]) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for path, text in sorted(files.items()):
        place, name = posixpath.split(path)
        parsed = parse_name(name)
        if posixpath.dirname(place) != folder or parsed is None:
            continue
        largest = max(
            tile_bytes(tile, parsed.dtype) for key, tile in json.loads(text).items() if key.isdigit()
        )
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.setdefault(posixpath.basename(place), {})[name] = [digest, largest]
    return found


def render(document: Mapping[str, Any]) -> str:
    """One file a line: a new release then shows as the lines that it adds."""
    head = json.dumps({key: value for key, value in document.items() if key != "files"}, indent=2)
    folders = []
    for folder, names in sorted(document["files"].items()):
        lines = ",\n".join(
            f"      {json.dumps(name)}: {json.dumps(item)}" for name, item in sorted(names.items())
        )
        folders.append(f"    {json.dumps(folder)}: {{\n{lines}\n    }}")
    return head[: head.rindex("\n}")] + ',\n  "files": {\n' + ",\n".join(folders) + "\n  }\n}\n"
