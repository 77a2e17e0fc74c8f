# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on the controller what files/engines and the users' folders of the same name hold. Decides nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import load_releases, typed
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal
from ansible_collections.baremetal.sglang.plugins.module_utils.engines import registry
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.base import Api, DataFile, EngineData
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.check import Rules, rules_from
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import contract_from
from ansible_collections.baremetal.sglang.plugins.plugin_utils.data_files import read

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "files"


def documents(directories: Iterable[Path], part: str, refusals: list[Refusal]) -> dict[str, Any]:
    """{name in messages: content} of each file of one part; ours come first, so that users' win."""
    found = {}
    for directory in directories:
        for path in sorted((directory / part).glob("*.yml")):
            name = str(path.relative_to(ROOT)) if directory == OURS else str(path)
            before = len(refusals)
            content = read(path, refusals)
            if len(refusals) == before:
                found[name] = content
    return found


def read_one(path: Path, refusals: list[Refusal]) -> dict[str, Any]:
    return (read(path, refusals) or {}) if path.exists() else {}


def load_engine(name: str, directories: Iterable[Path], refusals: list[Refusal]) -> EngineData:
    """What the collection's folder of an engine and the users' folders of the same name hold."""
    below = f"engines/{name}"
    folders = [directory / below for directory in directories]
    contracts = {}
    for folder in folders:
        for path in sorted((folder / "flags").glob("[0-9]*.json")):
            contracts[path.stem] = read(path, refusals) or {}
    cuda = read_one(OURS / "cuda.yml", refusals).get("tags", {})
    engine = registry.engine(name)
    releases, problems = load_releases(
        documents(directories, f"{below}/releases", refusals), cuda, contracts, engine.release_memory
    )
    refusals += problems
    rules = OURS / below / "flags/rules.json"
    given = read(rules, refusals) if rules.exists() else None
    runtime = read_one(OURS / below / "runtime.yml", refusals)
    return EngineData(
        releases=releases,
        contracts={
            key: contract_from(contracts[item.version])
            for key, item in releases.items()
            if contracts.get(item.version)
        },
        flag_rules=rules_from(given) if given else Rules(),
        lock_hashes=_lock_hashes(folders),
        api=_api(read_one(OURS / below / "api.yml", refusals), refusals),
        metrics=read_one(OURS / below / "metrics.yml", refusals),
        log_verdicts=tuple(read_one(OURS / below / "log_verdicts.yml", refusals).get("verdicts", ())),
        imports=tuple(runtime.get("imports", ())),
        cache_variables=runtime.get("cache_variables", {}),
        own=engine.own_data(_own_files(folders, engine.own_files, refusals)),
    )


def _api(given: Mapping[str, Any], refusals: list[Refusal]) -> Api:
    api, problems = typed(Api, given, "api.yml of an engine")
    refusals += problems
    return api or Api()


def _lock_hashes(folders: Iterable[Path]) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((folder / "locks").glob("*.txt"))
    }


def _own_files(
    folders: Iterable[Path], patterns: Iterable[str], refusals: list[Refusal]
) -> Iterable[DataFile]:
    for folder in folders:
        ours = folder.is_relative_to(OURS)
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            before = len(refusals)
            content = read(path, refusals)
            if len(refusals) == before:
                source = str(path.relative_to(ROOT)) if ours else str(path)
                yield DataFile(str(path.relative_to(folder)), source, ours, content)
