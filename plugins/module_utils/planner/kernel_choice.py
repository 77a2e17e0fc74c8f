# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of several tuned files an instance gets: the user's, the release's own, ours, the release's older ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..engines.sglang.moe_config import MoeFile, directory, tile_problems
from ..engines.sglang.moe_release import MoeRelease, Shipped
from ..engines.sglang.moe_tuned import OURS, USERS, Tuned, short
from .case import Case

RELEASE = "release"


@dataclass(frozen=True)
class Candidate:
    """One file under the name that the engine asks for, and why it cannot be used."""

    by: str
    words: str
    tuned: Tuned | None = None
    folder: str = ""
    """Triton directory of the release's own."""
    shipped: Shipped | None = None
    down: Tuned | None = None
    """Its twin for the second multiplication."""
    down_shipped: Shipped | None = None
    problems: tuple[str, ...] = ()


def release_of(case: Case) -> MoeRelease | None:
    return case.inputs.moe_releases.get(case.release.version)


def candidates(case: Case, file: MoeFile) -> list[Candidate]:
    """In the order in which the first that fits is taken.

    Tiles of another Triton come last: upstream saw them lose, but so do the defaults.
    """
    triton = case.component("triton")
    release = release_of(case)
    own = (
        [_own(case, file, release, folder, shipped) for folder, shipped in release.find(file.name, triton)]
        if release
        else []
    )
    return [
        *(_brought(case, file, item) for item in _tuned(case, file.name, USERS)),
        *(item for item in own if item.folder == directory(triton)),
        *(_brought(case, file, item) for item in _tuned(case, file.name, OURS)),
        *(item for item in own if item.folder != directory(triton)),
    ]


def chosen(case: Case, file: MoeFile) -> Candidate | None:
    return next((item for item in candidates(case, file) if not item.problems), None)


def _tuned(case: Case, name: str, by: str) -> Iterator[Tuned]:
    """The one made for this Triton before the one for any; a later directory of the user wins."""
    triton = case.component("triton")
    last_first = [
        item
        for item in case.inputs.moe_files.get(name, ())[::-1]
        if item.by == by and item.triton in ("", triton)
    ]
    yield from sorted(last_first, key=lambda item: item.triton == "")


def _brought(case: Case, file: MoeFile, tuned: Tuned) -> Candidate:
    limit = case.hardware.shared_memory_bytes
    twins = _tuned(case, file.for_down_projection().name, tuned.by)
    down = next((item for item in twins if item.triton == tuned.triton), None)
    made_on = f" ({short(tuned.tuned_on)})" if tuned.tuned_on else ""
    place = "files/moe" if tuned.by == OURS else tuned.source
    return Candidate(
        by=tuned.by,
        words=f"from {place}{made_on}, {tuned.measured_words(file.device)}",
        tuned=tuned,
        down=down,
        problems=tuple(tile_problems(tuned.tiles, file.dtype, limit, down.tiles if down else None)),
    )


def _own(case: Case, file: MoeFile, release: MoeRelease, folder: str, shipped: Shipped) -> Candidate:
    limit = case.hardware.shared_memory_bytes
    version = folder.replace("triton_", "").replace("_", ".")
    older = "" if version == case.component("triton") else f", tuned with Triton {version}"
    problems = [
        f"{folder}: needs {item.shared_memory:,} bytes of shared memory, the GPU has {limit:,}"
        for item in (shipped,)
        if limit and item.shared_memory > limit
    ]
    return Candidate(
        by=RELEASE,
        words=f"{case.release.version}'s own{older}",
        folder=folder,
        shipped=shipped,
        down_shipped=release.files[folder].get(file.for_down_projection().name),
        problems=tuple(problems),
    )
