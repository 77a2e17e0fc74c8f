# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of several tuned files an instance gets: the user's, the release's own, ours, the release's older ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...planner.case import Case
from ..base import DataFile
from .moe_config import MoeFile, directory, tile_problems
from .moe_release import MoeRelease, Shipped, release_from
from .moe_tuned import OURS, USERS, Tuned, short, tuned_from

RELEASE = "release"
INDEX, RELEASES = "moe/index.yml", "moe/releases"


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


@dataclass(frozen=True)
class KernelFiles:
    """Tuned files that there are: those that the collection and its user bring, and those in each wheel."""

    brought: Mapping[str, tuple[Tuned, ...]] = field(default_factory=dict)
    """By the name that the engine asks for."""
    releases: Mapping[str, MoeRelease] = field(default_factory=dict)
    """Version -> the tuning files of its wheel, and how it looks for them."""

    @classmethod
    def of(cls, files: Iterable[DataFile]) -> KernelFiles:
        """A file in a folder triton_X_Y_Z is for that version of Triton alone; index.yml says what is known of each."""
        found = list(files)
        known: dict[str, Any] = {}
        brought: dict[str, tuple[Tuned, ...]] = {}
        releases = {}
        for item in found:
            if item.path == INDEX:
                known[item.source.rpartition("/")[0]] = item.content
        for item in found:
            folder, _slash, name = item.path.rpartition("/")
            if folder == RELEASES:
                releases[name[: -len(".json")]] = release_from(item.content)
            elif name.startswith("E="):
                last = folder.rpartition("/")[2]
                triton = last[len("triton_") :].replace("_", ".") if last.startswith("triton_") else ""
                index = known.get(item.source[: -len(item.path)] + "moe", {})
                by = OURS if item.ours else USERS
                tuned = tuned_from(name, item.content, item.source, by, index.get(name, {}), triton)
                brought[name] = (*brought.get(name, ()), tuned)
        return cls(brought, releases)


def kernel_files(case: Case) -> KernelFiles:
    own = case.data.own
    return own if isinstance(own, KernelFiles) else KernelFiles()


def release_of(case: Case) -> MoeRelease | None:
    return kernel_files(case).releases.get(case.release.version)


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
        for item in kernel_files(case).brought.get(name, ())[::-1]
        if item.by == by and item.triton in ("", triton)
    ]
    yield from sorted(last_first, key=lambda item: item.triton == "")


def _brought(case: Case, file: MoeFile, tuned: Tuned) -> Candidate:
    limit = case.hardware.shared_memory_bytes
    twins = _tuned(case, file.for_down_projection().name, tuned.by)
    down = next((item for item in twins if item.triton == tuned.triton), None)
    made_on = f" ({short(tuned.tuned_on)})" if tuned.tuned_on else ""
    place = "files/engines/sglang/moe" if tuned.by == OURS else tuned.source
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
