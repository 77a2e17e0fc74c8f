# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every server argument of a LightLLM wheel and the models that it registers, read from source text without importing it.

Arguments stand in one function of plain `add_argument` calls; options are written with underscores.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..base import UnreadableWheelError
from ..flags.sources import Scope, Sources, UnreadableError

ARGUMENTS = "lightllm/server/api_cli.py"
MODELS = re.compile(r"lightllm/models/[a-z0-9_]+/model\.py\Z")
REGISTER = "ModelRegistry"
ARCHITECTURES = {"glm4_moe_lite": "Glm4MoeLiteForCausalLM"}
"""`model_type` of a config.json, which LightLLM goes by -> the architecture, which our catalogues go by.

Only models whose memory and flags the collection knows; others are refused by their name.
"""
KINDS = {"": "value", "store": "value", "append": "value", "store_true": "switch"}
TYPES = ("str", "int", "float")
DEPRECATED = re.compile(r"\bdeprecated\b", re.IGNORECASE)


def parse_wheel(files: Mapping[str, str]) -> dict[str, Any]:
    """{path in the wheel: source text} -> {flags, architectures}."""
    sources = Sources({path: text for path, text in files.items() if path.endswith(".py")})
    if ARGUMENTS not in sources.paths():
        raise UnreadableWheelError(f"the wheel has no {ARGUMENTS}")
    flags = {}
    for call in _calls(sources):
        name, entry = _entry(sources, call)
        flags[name] = entry
    return {
        "flags": dict(sorted(flags.items())),
        "architectures": sorted(ARCHITECTURES[name] for name in model_types(sources) & set(ARCHITECTURES)),
    }


def model_types(sources: Sources) -> set[str]:
    """What the decorator of its model classes names."""
    found: set[str] = set()
    for path in filter(MODELS.match, sources.paths()):
        for node in ast.walk(sources.tree(path)):
            if isinstance(node, ast.Call) and _name(node.func) == REGISTER and node.args:
                named = sources.read(node.args[0], Scope(path))
                found.update([named] if isinstance(named, str) else named)
    return found


def _calls(sources: Sources) -> Iterator[ast.Call]:
    for node in ast.walk(sources.tree(ARGUMENTS)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add_argument"
        ):
            yield node


def _entry(sources: Sources, call: ast.Call) -> tuple[str, dict[str, Any]]:
    scope = Scope(ARGUMENTS)
    options = [str(sources.read(option, scope)).lstrip("-") for option in call.args]
    keywords = {item.arg: item.value for item in call.keywords if item.arg}
    name = options[0]
    action = str(_read(sources, keywords.get("action"), name) or "")
    if action not in KINDS:
        raise UnreadableWheelError(
            f"the action {action} of --{name} is not known; teach it in parse_wheel.py"
        )
    entry: dict[str, Any] = {"dest": name.replace("-", "_"), "kind": KINDS[action]}
    if options[1:]:
        entry["aliases"] = options[1:]
    if entry["kind"] == "value":
        kind = ast.unparse(keywords["type"]) if "type" in keywords else "str"
        if kind not in TYPES:
            raise UnreadableWheelError(
                f"the type {kind} of --{name} is not known; teach it in parse_wheel.py"
            )
        entry["type"] = kind
        if "nargs" in keywords:
            entry["nargs"] = _read(sources, keywords["nargs"], name)
        if "choices" in keywords:
            # None stands for "not given", which no command line can say.
            entry["choices"] = [
                item for item in _read(sources, keywords["choices"], name) if item is not None
            ]
        default = _read(sources, keywords.get("default"), name)
        if default not in (None, []):
            entry["default"] = default
    if DEPRECATED.search(str(_read(sources, keywords.get("help"), name) or "")):
        entry["deprecated"] = {}
    return name, entry


def _read(sources: Sources, node: ast.expr | None, name: str) -> Any:
    if node is None:
        return None
    try:
        return sources.read(node, Scope(ARGUMENTS))
    except UnreadableError as error:
        raise UnreadableWheelError(f"--{name} is not declared in plain values: {error}") from error


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
