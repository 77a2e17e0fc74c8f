# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data -> dataclasses, with every problem found and none raised.

Annotations are read as text, so that the same code runs on every Python that a host may have.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from .refusals import did_you_mean


@dataclass(frozen=True)
class Problem:
    path: str
    """`rdma[0].mtu`; "" for the whole."""
    value: Any
    what: str
    fix: str


_MISSING = object()

_SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}
_WORDS = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class _Decoder:
    def __init__(self, module: str) -> None:
        self.module = module
        self.problems: list[Problem] = []

    def _wrong(self, path: str, value: Any, wanted: str) -> Any:
        kind = {"str": "text", "dict": "a mapping", "list": "a list", "NoneType": "nothing"}
        name = type(value).__name__
        self.problems.append(
            Problem(path, value, f"wants {wanted}, has {kind.get(name, name)}", f"write {wanted}")
        )
        return _MISSING

    def value(self, annotation: str, value: Any, path: str) -> Any:
        optional = re.fullmatch(r"(.+) \| None", annotation)
        if optional:
            return None if value is None else self.value(optional.group(1), value, path)
        if annotation == "Any":
            return value
        if annotation in _SCALARS:
            good = isinstance(value, _SCALARS[annotation])
            if good and isinstance(value, bool) and annotation != "bool":
                good = False
            if not good or (isinstance(value, float) and not math.isfinite(value)):
                return self._wrong(path, value, _WORDS[annotation])
            return float(value) if annotation == "float" else value
        return self._container(annotation, value, path)

    def _container(self, annotation: str, value: Any, path: str) -> Any:
        sequence = re.fullmatch(r"tuple\[(.+), \.\.\.\]", annotation)
        if sequence:
            if not isinstance(value, (list, tuple)):
                return self._wrong(path, value, "a list")
            items = [self.value(sequence.group(1), item, f"{path}[{n}]") for n, item in enumerate(value)]
            return tuple(item for item in items if item is not _MISSING)
        mapping = re.fullmatch(r"dict\[str, (\w+)\]", annotation)
        if mapping:
            if not isinstance(value, Mapping):
                return self._wrong(path, value, "a mapping")
            if mapping.group(1) == "Any":
                return dict(value)
            pairs = {str(k): self.value(mapping.group(1), v, _join(path, str(k))) for k, v in value.items()}
            return {k: v for k, v in pairs.items() if v is not _MISSING}
        cls = getattr(sys.modules[self.module], annotation, None)
        if cls is None or not is_dataclass(cls):
            raise TypeError(f"no reader for {annotation}")
        return self.record(cls, value, path)

    def record(self, cls: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self._wrong(path, value, "a mapping")
        known = {field.name: field for field in fields(cls)}
        for key in value:
            if key not in known:
                self.problems.append(
                    Problem(_join(path, str(key)), value[key], "unknown key", did_you_mean(str(key), known))
                )
        given: dict[str, Any] = {}
        missing = False
        for name, field in known.items():
            if name in value:
                read = self.value(str(field.type), value[name], _join(path, name))
                if read is not _MISSING:
                    given[name] = read
                else:
                    missing = True
            elif field.default is MISSING and field.default_factory is MISSING:
                missing = True
                self.problems.append(Problem(_join(path, name), None, "is missing", "say it"))
        return _MISSING if missing else cls(**given)


def decode(cls: Any, data: Any) -> tuple[Any, list[Problem]]:
    """The value, or None when a needed part is missing or wrong; and all problems."""
    decoder = _Decoder(cls.__module__)
    value = decoder.record(cls, data, "")
    return (None if value is _MISSING else value), decoder.problems
