# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every server argument of an sglang wheel, read from its source text without importing it.

Runs on the controller, whose Python must know the syntax that the release is written in.

Releases declare arguments in two ways, often both: calls of `parser.add_argument` in
`ServerArgs.add_cli_args`, and record fields annotated `A[type, help or Arg(...)]`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ..base import UnreadableWheelError
from ..flags.sources import Scope, Sources, UnreadableError, local_values

SCHEMA = 1
SERVER_ARGS = "sglang/srt/server_args.py"
FIELDS = "sglang/srt/arg_groups/fields/"
MODELS = "sglang/srt/models/"

TYPES = {
    "str": "str",
    "nullable_str": "str",
    "int": "int",
    "float": "float",
    "human_readable_int": "count",
    "json.loads": "json",
    "json_list_type": "json",
    "parse_cuda_graph_config_arg": "json",
    "parse_cuda_graph_backend_arg": "str",
}
"""How a value is written on the command line, by the name of the release's converter."""

_SUCCESSOR = re.compile(r"--[a-z][a-z0-9-]*(?:\{[a-z,]+\})?(?:=[\w]+)?")
_DEPRECATED_HELP = re.compile(r"^\W*(note: \S+ is )?deprecated", re.IGNORECASE)


class UnknownConverterError(UnreadableWheelError):
    """A release declares an argument in a way that this parser has not been taught."""


def parse_wheel(files: Mapping[str, str]) -> dict[str, Any]:
    """{path in the wheel: source text} -> {flags, architectures}."""
    sources = Sources(files)
    flags: dict[str, dict[str, Any]] = {}
    declared: dict[str, Any] = {}
    for path, owner in _field_classes(sources):
        for name, annotation, default in _annotated_fields(owner):
            read, value = _readable(sources, default, Scope(path, owner=owner))
            if read:
                declared[name] = value
            entry = _from_field(sources, Scope(path, owner=owner), name, annotation, default)
            if entry is not None:
                flags[entry.pop("flag")] = entry
    for call, scope in _add_argument_calls(sources):
        entry = _from_call(sources, scope, call, declared)
        flags[entry.pop("flag")] = entry
    return {
        "flags": {name: flags[name] for name in sorted(flags)},
        "architectures": architectures(sources),
    }


def architectures(sources: Sources) -> list[str]:
    """Model classes that the release registers: `EntryClass` of its model modules."""
    names: set[str] = set()
    for path in sources.paths():
        if not path.startswith(MODELS):
            continue
        for statement in sources.tree(path).body:
            if isinstance(statement, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "EntryClass" for target in statement.targets
            ):
                names.update(node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name))
    return sorted(names)


# Where arguments are declared ------------------------------------------------------------------


def _field_classes(sources: Sources) -> Iterator[tuple[str, ast.ClassDef]]:
    for path in sources.paths():
        if path == SERVER_ARGS or path.startswith(FIELDS):
            for statement in sources.tree(path).body:
                if isinstance(statement, ast.ClassDef):
                    yield path, statement


def _annotated_fields(owner: ast.ClassDef) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    for statement in owner.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.annotation, statement.value


def _add_argument_calls(sources: Sources) -> Iterator[tuple[ast.Call, Scope]]:
    for owner in sources.tree(SERVER_ARGS).body:
        if not isinstance(owner, ast.ClassDef) or owner.name != "ServerArgs":
            continue
        for function in owner.body:
            if isinstance(function, ast.FunctionDef) and function.name == "add_cli_args":
                scope = Scope(SERVER_ARGS, local_values(function))
                for node in ast.walk(function):
                    if (
                        isinstance(node, ast.Call)
                        and isinstance(node.func, ast.Attribute)
                        and node.func.attr == "add_argument"
                    ):
                        yield node, scope


# One declaration -> one entry -------------------------------------------------------------------


def _from_field(
    sources: Sources, scope: Scope, name: str, annotation: ast.expr, default: ast.expr | None
) -> dict[str, Any] | None:
    parts = _annotated_parts(annotation)
    if parts is None:
        return None
    kind, keywords = parts
    meta = {
        key: sources.read(keywords[key], scope)
        for key in ("cli_name", "aliases", "no_cli")
        if key in keywords
    }
    if meta.get("no_cli"):
        return None
    options = [meta.get("cli_name") or "--" + name.replace("_", "-"), *(meta.get("aliases") or [])]
    merged: dict[str, ast.expr] = {
        key: keywords[key] for key in ("help", "action", "choices", "nargs", "const") if key in keywords
    }
    if "type_parser" in keywords:
        merged["type"] = keywords["type_parser"]
    if default is not None:
        merged["default"] = default
    if "action_kwargs" in keywords:
        extra = keywords["action_kwargs"]
        if isinstance(extra, ast.Dict):
            for key, value in zip(extra.keys, extra.values):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    merged[key.value] = value
    elif "action" not in keywords:
        _add_inferred(sources, scope, kind, merged)
    required = _readable(sources, keywords.get("required"), scope)[1]
    if required is True or (required is None and default is None and "action" not in merged):
        merged["required"] = ast.Constant(True)
    return _entry(sources, scope, options, name, merged)


def _add_inferred(sources: Sources, scope: Scope, kind: ast.expr, merged: dict[str, ast.expr]) -> None:
    """What the release infers from the annotated type when no action is given."""
    inner = _without_optional(kind)
    literal = _type_arguments(inner, "Literal")
    elements = _type_arguments(inner, "List", "list")
    if literal is not None:
        values = [sources.read(item, scope) for item in literal]
        merged.setdefault("choices", ast.List(literal, ast.Load()))
        inferred = type(values[0]).__name__
        merged.setdefault("type", ast.Name(inferred if inferred in TYPES else "str", ast.Load()))
    elif elements is not None and "type" not in merged:
        merged.setdefault("nargs", ast.Constant("+"))
        merged["type"] = elements[0]
    elif isinstance(inner, ast.Name) and inner.id == "bool":
        merged["action"] = ast.Constant("store_true")
    elif "type" not in merged and isinstance(inner, ast.Name) and inner.id in ("int", "float"):
        merged["type"] = inner


def _from_call(sources: Sources, scope: Scope, call: ast.Call, declared: Mapping[str, Any]) -> dict[str, Any]:
    options = [str(sources.read(argument, scope)) for argument in call.args]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    dest = keywords.get("dest")
    name = str(sources.read(dest, scope)) if dest is not None else _dest_of(options)
    default = keywords.get("default")
    if default is not None and not _readable(sources, default, scope)[0]:
        del keywords["default"]
        if name in declared and ast.unparse(default) != "argparse.SUPPRESS":
            keywords["default"] = ast.Constant(declared[name])
    return _entry(sources, scope, options, name, keywords)


def _entry(
    sources: Sources, scope: Scope, options: list[str], dest: str, keywords: Mapping[str, ast.expr]
) -> dict[str, Any]:
    names = [option.lstrip("-") for option in options]
    entry: dict[str, Any] = {"flag": names[0], "dest": dest}
    if names[1:]:
        entry["aliases"] = names[1:]
    action = ast.unparse(keywords["action"]).rsplit(".", 1)[-1].strip("'\"") if "action" in keywords else ""
    entry["kind"] = kind = _kind(action, keywords)
    if kind == "value":
        entry["type"] = _type_name(keywords.get("type"), names[0])
        nargs = _readable(sources, keywords.get("nargs"), scope)[1]
        if action == "LoRAPathAction" and nargs is None:
            nargs = "*"
        if nargs is not None:
            entry["nargs"] = nargs
        if "choices" in keywords:
            choices = _readable(sources, keywords["choices"], scope)[1]
            entry["choices"] = None if choices is None else [item for item in choices if item is not None]
    read, default = _readable(sources, keywords.get("default"), scope)
    if read and default is not None and default is not False and _is_json(default):
        entry["default"] = default
    const = _readable(sources, keywords.get("const"), scope)[1]
    if const is not None:
        entry["const"] = const
    if _readable(sources, keywords.get("required"), scope)[1] is True:
        entry["required"] = True
    deprecated = _deprecation(sources, scope, action, keywords)
    if deprecated is not None:
        entry["deprecated"] = deprecated
    return entry


def _kind(action: str, keywords: Mapping[str, ast.expr]) -> str:
    if action == "DeprecatedStoreConstAction" and "choices" in keywords:
        return "value"
    return {
        "": "value",
        "store": "value",
        "append": "value",
        "LoRAPathAction": "value",
        "DeprecatedAliasStoreAction": "value",
        "store_true": "switch",
        "store_false": "switch",
        "DeprecatedStoreTrueAction": "switch",
        "DeprecatedStoreConstAction": "switch",
        "BooleanOptionalAction": "toggle",
        "DeprecatedAction": "ignored",
    }.get(action) or _unknown(f"the action {action}")


def _type_name(node: ast.expr | None, flag: str) -> str:
    written = ast.unparse(node) if node is not None else "str"
    return TYPES.get(written) or _unknown(f"the converter {written} of --{flag}")


def _unknown(what: str) -> NoReturn:
    raise UnknownConverterError(f"{what} is not known to the flag parser; teach it in parse_wheel.py")


def _deprecation(
    sources: Sources, scope: Scope, action: str, keywords: Mapping[str, ast.expr]
) -> dict[str, Any] | None:
    text = _help_text(keywords.get("help"))
    by_action = action.startswith("Deprecated")
    if not by_action and not _DEPRECATED_HELP.match(text):
        return None
    result: dict[str, Any] = {}
    successor = _readable(sources, keywords.get("new_flag"), scope)[1]
    if successor is None:
        own_note = re.sub(r"^Note: \S+", "", text)
        named = _SUCCESSOR.search(own_note)
        successor = named.group(0) if named else None
    if successor:
        result["successor"] = str(successor).lstrip("-")
    if "error_message" in keywords:
        result["error"] = True
    return result


# Small readers ----------------------------------------------------------------------------------


def _annotated_parts(annotation: ast.expr) -> tuple[ast.expr, dict[str, ast.expr]] | None:
    """`A[type, "help"]` or `A[type, Arg(...)]` -> the type and the keywords of Arg."""
    elements = _type_arguments(annotation, "A", "Annotated")
    if not elements:
        return None
    for item in elements[1:]:
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id == "Arg":
            return elements[0], {key.arg: key.value for key in item.keywords if key.arg is not None}
        if _is_text(item):
            return elements[0], {"help": item}
    return None


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _type_arguments(node: ast.expr, *names: str) -> list[ast.expr] | None:
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in names:
        return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    return None


def _without_optional(node: ast.expr) -> ast.expr:
    """Optional[X], Union[X, None] and X | None are X for the command line."""
    optional = _type_arguments(node, "Optional")
    if optional:
        return optional[0]
    members = _type_arguments(node, "Union")
    if members is None and isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        members = [node.left, node.right]
    if members:
        real = [item for item in members if not (isinstance(item, ast.Constant) and item.value is None)]
        return real[0] if len(real) == 1 else node
    return node


def _readable(sources: Sources, node: ast.expr | None, scope: Scope) -> tuple[bool, Any]:
    if node is None:
        return False, None
    try:
        return True, sources.read(node, scope)
    except UnreadableError:
        return False, None


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return isinstance(value, (str, int, float, bool))


def _dest_of(options: list[str]) -> str:
    return next(option for option in options if option.startswith("--")).lstrip("-").replace("-", "_")


def _help_text(node: ast.expr | None) -> str:
    """Only used to find a note of deprecation; help texts are not kept."""
    if node is None:
        return ""
    return "".join(
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
