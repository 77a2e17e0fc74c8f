# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All models of a run: asked for first, weighed against the disk, then fetched one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Model
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import Meter, amount
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import PIECE_BYTES
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Wanted
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import free_bytes, kept
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    ANYBODY,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_fetch import Fetch, FetchFailed
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import Settings

FOR_BUNDLE = "bundle_weights.json"


@dataclass(frozen=True)
class FetchJob:
    """What a run is told."""

    root: Path
    settings: Settings
    say: Callable[[str], None]
    models: Mapping[str, Model]
    reserve_bytes: int = 0
    piece_bytes: int = PIECE_BYTES
    dry: bool = False
    policy: SignaturePolicy = ANYBODY
    """Whose bundles are taken as sources."""


def fetch_all(wanted: list[Wanted], job: FetchJob) -> dict[str, Any]:
    """Fetches what is not there yet; raises FetchFailed with every model that could not be had."""
    job.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as turns:
        fetches = [
            Fetch(item, job.root, job.settings, job.say, job.piece_bytes, job.policy) for item in wanted
        ]
        for fetch in fetches:
            turns.enter_context(fetch.alone())
        there = {fetch.wanted.name: fetch.complete() for fetch in fetches}
        missing = [fetch for fetch in fetches if there[fetch.wanted.name] is None]
        _resolve(missing)
        _refuse_full_disk(missing, job)
        if job.dry:
            return {"changed": bool(missing), "report": [_would(fetch) for fetch in missing]}
        report = [_line(fetch, manifest) for fetch in fetches if (manifest := there[fetch.wanted.name])]
        report += _bring(missing, job)
    _write_for_bundle(job.root, fetches)
    return {"changed": bool(missing), "report": report}


def _resolve(fetches: list[Fetch]) -> None:
    failed = []
    for fetch in fetches:
        try:
            fetch.resolve()
        except FetchFailed as error:
            failed.append(str(error))
    if failed:
        raise FetchFailed("\n".join(failed))


def _refuse_full_disk(fetches: list[Fetch], job: FetchJob) -> None:
    needed = sum(fetch.total - fetch.here() for fetch in fetches)
    free = free_bytes(job.root)
    if fetches and needed + job.reserve_bytes > free:
        each = ", ".join(f"{fetch.wanted.name} {amount(fetch.total)}" for fetch in fetches)
        short = needed + job.reserve_bytes - free
        raise FetchFailed(
            f"weights_dir = {job.root}: {amount(needed)} are to be fetched ({each}), {amount(free)} are "
            f"free and {amount(job.reserve_bytes)} of them stay free: {amount(short)} are missing. Free "
            "them or give another weights_dir. Nothing was fetched."
        )


def _bring(fetches: list[Fetch], job: FetchJob) -> list[str]:
    meter = Meter(sum(fetch.total for fetch in fetches), job.say, job.settings.progress_seconds)
    lines, failed = [], []
    for fetch in fetches:
        meter.already(fetch.here())
        before, started = meter.moved, time.monotonic()
        try:
            manifest = fetch.run(meter, job.models.get(fetch.wanted.model))
        except FetchFailed as error:
            failed.append(str(error))
            continue
        seconds = max(time.monotonic() - started, 0.001)
        moved = meter.moved - before
        lines.append(_line(fetch, manifest, f"{amount(moved)} fetched at {amount(moved / seconds)}/s"))
    if failed:
        raise FetchFailed("\n".join([*lines, *failed]))
    return lines


def _line(fetch: Fetch, manifest: Mapping[str, Any], how: str = "was here already") -> str:
    source = manifest["source"]
    commit = f" at commit {source['commit']}" if source.get("commit") else ""
    return (
        f"{fetch.wanted.name}: {amount(manifest['bytes'])} in {len(manifest['files'])} files, {how}, "
        f"from {source['type']} {source['id']}{commit}"
    )


def _would(fetch: Fetch) -> str:
    return f"{fetch.wanted.name}: {amount(fetch.total - fetch.here())} would be fetched"


def _write_for_bundle(root: Path, fetches: list[Fetch]) -> None:
    """What playbooks/bundle.yml takes with -e @FILE: where each model lies."""
    path = root / FOR_BUNDLE
    turn = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A run for other models may end at the same moment: neither forgets what the other wrote.
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["bundle_weights"]
        except (OSError, ValueError, KeyError):
            known = {}
        known = {model: folder for model, folder in known.items() if Path(folder).is_dir()}
        known |= {fetch.wanted.model: str(fetch.dest.absolute()) for fetch in fetches}
        text = json.dumps({"bundle_weights": known}, indent=1, sort_keys=True) + "\n"
        kept(path, text.encode())
    finally:
        os.close(turn)
