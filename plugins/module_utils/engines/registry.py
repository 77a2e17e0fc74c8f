# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines that there are. Nothing else imports the package of an engine."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, lru_cache

from .base import Engine

PACKAGE = __name__.rpartition(".")[0]
SHARED = ("flags",)
"""Packages beside the engines that all of them use."""


class UnknownEngineError(LookupError):
    """No package of that name."""


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Every engine that has a package here."""
    found = pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__)
    return tuple(sorted(item.name for item in found if item.ispkg and item.name not in SHARED))


@cache
def engine(name: str) -> Engine:
    if name not in names():
        raise UnknownEngineError(f"unknown engine {name}; there are {', '.join(names())}")
    found = importlib.import_module(f"{PACKAGE}.{name}.engine").ENGINE
    if not isinstance(found, Engine) or found.name != name:
        raise TypeError(f"{PACKAGE}.{name}.engine: ENGINE must be an Engine whose name is {name}")
    return found
