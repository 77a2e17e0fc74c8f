# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an answer is right: exact answers, and tool calls the way BFCL compares them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
MARKUP = re.compile(
    r"</?(?:tool_call|arg_key|arg_value|think|tool_response)>|<\|(?:user|assistant|observation)\|>"
)


def arguments_of(call: Mapping[str, str]) -> dict[str, Any] | None:
    """None where they are not a JSON object, which is what an application would fail on."""
    try:
        found = json.loads(call["arguments"])
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def leaked(text: str) -> str:
    """A mark of the model's own language that a parser left in the answer."""
    match = MARKUP.search(text)
    return match[0] if match else ""


def schema_problem(value: Any, schema: Mapping[str, Any], where: str = "") -> str:
    """As much of JSON Schema as tools use: type, enum, required, properties, items."""
    kind = schema.get("type")
    place = where or "arguments"
    if kind in KINDS:
        fits = isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not fits:
            return f"{place} is {json.dumps(value)[:40]}, not {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is {json.dumps(value)[:40]}, none of {schema['enum']}"
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{place}.{name} is missing"
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name)
            if inner is None and "properties" in schema:
                return f"{place}.{name}: unknown parameter"
            problem = schema_problem(item, inner or {}, f"{place}.{name}")
            if problem:
                return problem
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            problem = schema_problem(item, schema["items"], f"{place}[{number}]")
            if problem:
                return problem
    return ""


def call_problem(call: Mapping[str, str], tools: Sequence[Mapping[str, Any]]) -> str:
    """What an application would stumble over; "" where it can run the call."""
    known = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    if call["name"] not in known:
        return f"no tool is called {call['name']!r}"
    arguments = arguments_of(call)
    if arguments is None:
        return f"arguments of {call['name']} are no JSON object: {call['arguments'][:80]}"
    return schema_problem(arguments, known[call["name"]])


def calls_right(calls: Sequence[Mapping[str, str]], wanted: Sequence[Mapping[str, Any]]) -> str:
    """ "" where they are the wanted ones in any order. A wanted value is a list of what counts as right."""
    if len(calls) != len(wanted):
        return f"{len(calls)} calls instead of {len(wanted)}"
    left = list(calls)
    for one in wanted:
        match = next((call for call in left if _matches(call, one)), None)
        if match is None:
            return (
                f"no call {one['name']}({one.get('arguments', {})}) among {[c['arguments'] for c in left]}"[
                    :200
                ]
            )
        left.remove(match)
    return ""


def _matches(call: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    arguments = arguments_of(call)
    if call["name"] != wanted["name"] or arguments is None:
        return False
    asked = wanted.get("arguments", {})
    if set(arguments) - set(asked):
        return False
    for name, allowed in asked.items():
        if name not in arguments:
            # An empty text among what counts as right means that it may be left out.
            if "" in allowed:
                continue
            return False
        if not any(_same(arguments[name], value) for value in allowed):
            return False
    return True


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return found.strip().casefold() == wanted.strip().casefold()
    if isinstance(found, (int, float)) and isinstance(wanted, (int, float)):
        return float(found) == float(wanted) and isinstance(found, bool) == isinstance(wanted, bool)
    return bool(found == wanted)


def answer_right(text: str, accepted: Sequence[str]) -> bool:
    """The last line that says something, without marks and letter case, is or ends with an accepted answer."""
    thousands = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.casefold())
    plain = re.sub(r"[*`$\\{}\"'.,!]|boxed|\bthe answer is\b", " ", thousands)
    lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
    if not lines:
        return False
    return any(
        lines[-1] == wanted or re.search(rf"(^|[\s=:]){re.escape(wanted)}\Z", lines[-1])
        for wanted in (" ".join(re.sub(r"[.,]", " ", item.casefold()).split()) for item in accepted)
    )
