# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of the catalogues, ours and users', from plain mappings to typed values.

What an entry may hold is read from the dataclass itself. All problems of all entries are reported at
once, each with the file and key that it was found at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ..core.refusals import Refusal, did_you_mean
from .entries import Hardware, Nic, Release, Variant
from .shapes import ModelShape, Quantization

T = TypeVar("T")

NESTED: dict[str, type] = {
    "Variant": Variant,
    "ModelShape": ModelShape,
    "Quantization": Quantization,
}
WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def typed(cls: type[T], data: Any, where: str) -> tuple[T | None, list[Refusal]]:
    """One entry as a value of `cls`, or None with everything that is wrong with it."""
    if not isinstance(data, Mapping):
        return None, [_wrong(where, "is not a mapping", "write it as key: value lines")]
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    problems: list[Refusal] = []
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            problems.append(
                Refusal("unknown-key", "", where, f"unknown key {key}", did_you_mean(str(key), known))
            )
            continue
        annotation = ast.parse(str(known[key].type), mode="eval").body
        values[key], found = _converted(annotation, value, f"{where}: {key}")
        problems.extend(found)
    for name, item in known.items():
        if name not in data and item.default is MISSING and item.default_factory is MISSING:
            kind = _expected(ast.parse(str(item.type), mode="eval").body)
            problems.append(
                Refusal("missing-key", "", where, f"{name} is missing", f"add {name}: with {kind}")
            )
    return (None, problems) if problems else (cls(**values), [])


def _converted(annotation: ast.expr, value: Any, where: str) -> tuple[Any, list[Refusal]]:
    if isinstance(annotation, ast.BinOp):  # X | None
        return (None, []) if value is None else _converted(annotation.left, value, where)
    if isinstance(annotation, ast.Subscript):
        return _container(annotation, value, where)
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    if name in NESTED:
        if isinstance(value, NESTED[name]):
            return value, []
        return typed(NESTED[name], value, where)
    return value, _scalar(name, value, where)


def _container(annotation: ast.Subscript, value: Any, where: str) -> tuple[Any, list[Refusal]]:
    kind = annotation.value.id if isinstance(annotation.value, ast.Name) else ""
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    problems: list[Refusal] = []
    if kind == "dict":
        if not isinstance(value, Mapping):
            return value, [
                _wrong(where, f"is {_shown(value)}, not a mapping", "write it as key: value lines")
            ]
        result: dict[Any, Any] = {}
        for key, item in value.items():
            result[key], found = _converted(inner[1], item, f"{where}.{key}")
            problems.extend([*_scalar("str", key, f"{where}.{key}"), *found])
        return result, problems
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        return value, [_wrong(where, f"is {_shown(value)}, not a list", "write it as [a, b]")]
    items = []
    for index, item in enumerate(value):
        converted, found = _converted(inner[0], item, f"{where}[{index}]")
        items.append(converted)
        problems.extend(found)
    return tuple(items), problems


def _scalar(name: str, value: Any, where: str) -> list[Refusal]:
    accepted: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
    }
    if name not in accepted:
        return []
    if isinstance(value, accepted[name]) and (name == "bool") == isinstance(value, bool):
        return []
    if name == "str" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return [_wrong(where, f"is the number {value}, not text", f'write it in quotes: "{value}"')]
    return [_wrong(where, f"is {_shown(value)}", f"write {WORDS[name]}")]


def _expected(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.BinOp):
        return _expected(annotation.left)
    if isinstance(annotation, ast.Subscript):
        is_dict = isinstance(annotation.value, ast.Name) and annotation.value.id == "dict"
        return "key: value lines" if is_dict else "a list"
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    return WORDS.get(name, "key: value lines")


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, (Mapping, list, tuple)):
        return f"a {'mapping' if isinstance(value, Mapping) else 'list'}"
    return f"{value!r}"


def _wrong(where: str, what: str, fix: str) -> Refusal:
    return Refusal("wrong-type", "", where, what, fix)


# The catalogues --------------------------------------------------------------------------------


def load_entries(cls: type[T], documents: Mapping[str, Any]) -> tuple[dict[str, T], list[Refusal]]:
    """{file name: its content} -> {key: entry}; an entry without `key` is named by its file."""
    entries: dict[str, T] = {}
    problems: list[Refusal] = []
    for source, document in documents.items():
        content = document
        if isinstance(document, Mapping) and "key" not in document:
            content = {"key": _stem(source), **document}
        entry, found = typed(cls, content, source)
        problems.extend(found)
        if entry is not None:
            entries[entry.key] = entry  # type: ignore[attr-defined]
    return entries, problems


def load_hardware(documents: Mapping[str, Any]) -> tuple[dict[str, Hardware], list[Refusal]]:
    return load_entries(Hardware, documents)


def load_nics(documents: Mapping[str, Any]) -> tuple[dict[str, Nic], list[Refusal]]:
    nics, problems = load_entries(Nic, documents)
    for key, nic in nics.items():
        if nic.like and nic.like not in nics:
            problems.append(
                Refusal("unknown-nic", "", f"nics/{key}.yml: like = {nic.like}", "there is no such entry",
                        did_you_mean(nic.like, nics))
            )  # fmt: skip
        try:
            re.compile(nic.twins)
        except re.error as error:
            problems.append(
                Refusal("wrong-pattern", "", f"nics/{key}.yml: twins", f"invalid regular expression: {error}",
                        "write one whose groups are the same for twins")
            )  # fmt: skip
    return nics, problems


def load_releases(
    documents: Mapping[str, Any],
    cuda: Mapping[str, Mapping[str, str]],
    contracts: Mapping[str, Mapping[str, Any]],
    memory: type | None = None,
) -> tuple[dict[str, Release], list[Refusal]]:
    """Releases from {file name: content}.

    `cuda` is the `tags` table of files/cuda.yml, which gives the driver floors; `contracts` are the
    documents below flags/ by version, which hold the model classes. `memory` is the engine's own type of
    the key of that name.
    """
    completed: dict[str, Any] = {}
    problems: list[Refusal] = []
    for source, document in documents.items():
        if not isinstance(document, Mapping):
            completed[source] = document
            continue
        version = str(document.get("version", _stem(source)))
        contract = contracts.get(version)
        if contract is None and "architectures" not in document:
            problems.append(
                Refusal("missing-flags", "", source, f"flags/ beside releases/ has no {version}.json",
                        f"make it: tools/update_release.py {version}"))  # fmt: skip
        figures, found = _figures(document, memory, source)
        problems += found
        completed[source] = {
            "flags": f"{version}.json",
            "architectures": (contract or {}).get("architectures", []),
            **document,
            **figures,
            "variants": [_with_drivers(variant, cuda) for variant in _listed(document.get("variants"))],
        }
        for index, variant in enumerate(_listed(document.get("variants"))):
            if isinstance(variant, Mapping) and "driver" not in variant and variant.get("cuda") not in cuda:
                place = f"{source}: variants[{index}]: cuda"
                problems.append(
                    Refusal("unknown-cuda-tag", "", f"{place} = {variant.get('cuda')}",
                            "files/cuda.yml does not know this tag", did_you_mean(str(variant.get("cuda")), cuda))
                )  # fmt: skip
    releases, found = load_entries(Release, completed)
    return releases, problems + found


def _figures(
    document: Mapping[str, Any], memory: type | None, source: str
) -> tuple[dict[str, Any], list[Refusal]]:
    if "memory" not in document:
        return {}, []
    if memory is None:
        problem = Refusal(
            "unknown-key", "", source, "this engine reads no memory figures", "take memory: out"
        )
        return {"memory": None}, [problem]
    value, problems = typed(memory, document["memory"], f"{source}: memory")
    return {"memory": value}, problems


def _with_drivers(variant: Any, cuda: Mapping[str, Mapping[str, str]]) -> Any:
    if not isinstance(variant, Mapping):
        return variant
    levels = cuda.get(str(variant.get("cuda")), {})
    # A tag missing from the table is reported by name, so its floors are not reported missing too.
    floors = {"driver": levels.get("minor_compatible", ""), "driver_native": levels.get("native", "")}
    return {**floors, **variant}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _stem(source: str) -> str:
    name = source.rsplit("/", 1)[-1]
    return name[: -len(".yml")] if name.endswith(".yml") else name
