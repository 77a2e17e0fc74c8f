# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels of engines that no index has: `engine_wheels` of the inventory, read and judged on the controller."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, did_you_mean
from ansible_collections.baremetal.sglang.plugins.module_utils.engines import own_wheel, registry
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.base import Engine
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import sha256_of

VARIABLE = "engine_wheels"
SHOWN = 10
HOW = (
    "build one from the project's sources in which every folder of modules has an __init__.py (or with setuptools' "
    "find_namespace_packages), and give that"
)


def read_wheels(given: Any, refusals: list[Refusal]) -> dict[str, dict[str, str]]:
    """Engine -> {distribution, name, version, sha256} of the wheels that can be used."""
    found = {}
    if given in (None, "", {}):
        return found
    if not isinstance(given, Mapping):
        refusals.append(
            _refusal(
                VARIABLE,
                "is not a mapping of engines to wheels",
                f"write {VARIABLE}: {{lightllm: /path/NAME.whl}}",
            )
        )
        return found
    able = [name for name in registry.names() if registry.engine(name).given_wheel]
    for name, path in given.items():
        where = f"{VARIABLE}.{name} = {path}"
        if name not in able:
            refusals.append(
                _refusal(
                    where,
                    f"{name} is no engine whose wheel is given by the user",
                    did_you_mean(str(name), able),
                )
            )
            continue
        wheel, problem = read_wheel(registry.engine(str(name)), Path(str(path)).expanduser())
        if problem:
            refusals.append(_refusal(where, *problem))
        else:
            found[str(name)] = wheel
    return found


def _refusal(where: str, what: str, fix: str) -> Refusal:
    return Refusal("engine-wheel", "", where, what, fix)


def read_wheel(engine: Engine, path: Path) -> tuple[dict[str, str], tuple[str, str] | None]:
    """What the wheel is, or what is wrong with it and what works instead."""
    if not path.is_file():
        return {}, ("there is no such file on the controller", HOW)
    state = path.stat()
    return _read(engine, path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(
    engine: Engine, path: Path, _size: int, _time: int
) -> tuple[dict[str, str], tuple[str, str] | None]:
    if path.suffix != ".whl" or not zipfile.is_zipfile(path):
        return {}, ("it is not a wheel", HOW)
    with zipfile.ZipFile(path) as archive:
        wanted = [name for name in archive.namelist() if name.endswith((".py", ".so", "/METADATA"))]
        files = {
            name: "" if name.endswith(".so") else archive.read(name).decode("utf-8", "replace")
            for name in wanted
        }
    distribution, version = own_wheel.name_and_version(files)
    if distribution != engine.distribution:
        return {}, (
            f"it is a wheel of {distribution or 'nothing that it names'}, not of {engine.distribution}",
            HOW,
        )
    wheel = {
        "distribution": distribution,
        "name": path.name,
        "version": version,
        "sha256": sha256_of(path),
    }
    missing = own_wheel.missing_modules(files, engine.own_modules)
    if missing:
        return wheel, (
            f"it lacks {len(missing)} modules that its own code imports: {_named(missing)}; the server would end at "
            "start",
            HOW,
        )
    return wheel, None


def _named(missing: Iterable[str]) -> str:
    names = sorted(missing)
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
