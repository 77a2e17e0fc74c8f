# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A conda channel inside a bundle: solved from the configured channels, fetched by hash, indexed.

Runs on the controller. py-rattler solves and indexes; it does not compare the hash of a file:// package,
so every archive is compared here before it is given a place.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import pixi_project
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.pixi_project import (
    CondaPackage,
    PixiEnvironment,
    WheelFile,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Target, pins_for

RULES = Path(__file__).parents[2] / "files/conda.yml"
CHUNK = 1 << 20


class SolveError(Exception):
    """No set of packages of the channels fits, in the solver's words."""


def rules() -> dict[str, Any]:
    return dict(yaml.safe_load(RULES.read_text(encoding="utf-8")))


def specs(table: Mapping[str, Any], python: str, level: str, compiler: bool) -> tuple[str, ...]:
    """What an environment asks the channels for."""
    asked = [*table["packages"], *(table["compiler"] if compiler else [])]
    return tuple(text.format(python=python, level=level) for text in asked)


def virtual_packages(table: Mapping[str, Any], arch: str, level: str, glibc: str) -> list[Any]:
    import rattler

    given = {name: text.format(level=level, glibc=glibc) for name, text in table["virtual"].items()}
    given["__archspec"] = "1"
    return [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name),
            rattler.Version(version),
            rattler.BuildString(arch if name == "__archspec" else "0"),
        )
        for name, version in given.items()
        if version
    ]


class CondaChannel:
    """`folder` is the bundle's conda/; `channels` are addresses or folders, in order of priority."""

    def __init__(self, folder: Path, channels: Sequence[str]) -> None:
        self.folder = folder
        self.channels = [_address(item) for item in channels]
        self.table = rules()
        self.kept: set[Path] = set()

    def environment(
        self, name: str, arch: str, python: str, level: str, glibc: str, wheels: Iterable[WheelFile] = (),
        compiler: bool = True,
    ) -> PixiEnvironment:  # fmt: skip
        """Solves one variant for its own machine, which need not be this one, and fetches what it takes."""
        subdir = self.table["subdirs"][arch]
        asked = specs(self.table, python, level, compiler)
        records = self._solved(asked, subdir, virtual_packages(self.table, arch, level, glibc))
        packages = tuple(self._fetched(record) for record in records)
        return PixiEnvironment(name, subdir, level, glibc, python, asked, packages, tuple(wheels))

    def _solved(self, asked: Sequence[str], subdir: str, virtual: list[Any]) -> list[Any]:
        import rattler

        async def solved() -> list[Any]:
            return list(
                await rattler.solve(
                    [rattler.Channel(channel) for channel in self.channels], list(asked),
                    platforms=[subdir, "noarch"], virtual_packages=virtual,
                )
            )  # fmt: skip

        try:
            records = asyncio.run(solved())
        except Exception as error:  # every fault of the solver and of a channel has a type of its own
            raise SolveError(
                f"{', '.join(asked)} for {subdir} from {', '.join(self.channels)}: {error}"
            ) from error
        return sorted(records, key=lambda record: record.file_name)

    def _fetched(self, record: Any) -> CondaPackage:
        described = json.loads(record.to_json())
        target = self.folder / described["subdir"] / record.file_name
        wanted = described.get("sha256")
        if not wanted:
            raise FetchError(f"{record.file_name}: its channel names no sha256, so it cannot be trusted")
        if not (target.exists() and _sha256(target) == wanted):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            _copy(record.url, part)
            found = _sha256(part)
            if found != wanted:
                part.unlink()
                raise FetchError(
                    f"{record.file_name}: the channel names sha256 {wanted}, what came has {found}"
                )
            part.rename(target)
        self.kept.add(target)
        return CondaPackage(record.file_name, described["name"], described["version"], described)

    def index(self) -> None:
        """repodata.json of all that was taken; anything else in the folder goes away."""
        from rattler.index import index_fs

        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.kept:
                path.unlink()
        (self.folder / "noarch").mkdir(parents=True, exist_ok=True)
        asyncio.run(index_fs(self.folder, write_zst=False, write_shards=False))
        for path in self.folder.rglob("repodata.json"):
            path.write_text(_same_every_time(json.loads(path.read_text())), encoding="utf-8")
        shutil.rmtree(self.folder / ".cache", ignore_errors=True)


def digest(folder: Path) -> str:
    """One hash of all that a bundle takes of a folder: whether a build made anything new."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
    text = "".join(f"{_sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    return hashlib.sha256(text.encode()).hexdigest()


def write_project(folder: Path, environments: Sequence[PixiEnvironment]) -> list[Path]:
    """pixi/ of a bundle: the project, its lock, and the script that puts the bundle's place in."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "pixi.toml": pixi_project.project(environments),
        "pixi.lock": pixi_project.lock(environments),
        "here.sh": pixi_project.HERE,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _same_every_time(data: dict[str, Any]) -> str:
    """Without the time of indexing, so that two builds from the same packages are the same bytes."""
    for key in ("packages", "packages.conda"):
        for record in data.get(key, {}).values():
            record.pop("indexed_timestamp", None)
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def _address(channel: str) -> str:
    return channel if "://" in channel else f"file://{os.path.abspath(channel)}"


def _copy(url: str, target: Path) -> None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        shutil.copyfile(unquote(parts.path), target)
        return
    import requests

    with requests.get(url, stream=True, timeout=60) as answer, target.open("wb") as stream:
        if not answer.ok:
            raise FetchError(f"{target.stem}: the channel answered {answer.status_code}")
        for chunk in answer.iter_content(CHUNK):
            stream.write(chunk)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build(
    folder: Path,
    channels: Sequence[str],
    environments: Sequence[Mapping[str, Any]],
    rattler_lock: Path,
    cache: WheelCache,
    indexes: Indexes,
) -> list[dict[str, str]]:
    """Fills `folder` with conda/ and pixi/, and says which files and folders a bundle takes, as what.

    Every environment is what the filter bundle_conda gives. The wheels are fetched into the shared cache,
    where the bundle finds them.
    """
    channel = CondaChannel(folder / "conda", channels)
    made, trees = [], {}
    for entry in environments:
        target = Target(entry["python"], entry["arch"], entry["glibc"])
        pins = pins_for(Path(entry["lock"]).read_text(encoding="utf-8"), target)
        wheels = [
            WheelFile(path.name, pin.name, pin.version, path.parent.name)
            for pin, path in zip(pins, cache.complete(pins, target, indexes, entry["index"]), strict=True)
        ]
        made.append(
            channel.environment(
                entry["environment"], entry["arch"], entry["python"], entry["level"], entry["glibc"],
                wheels, entry["compiler"],
            )
        )  # fmt: skip
        own = pins_for(rattler_lock.read_text(encoding="utf-8"), target)
        for path in cache.complete(own, target, indexes):
            trees[f"wheels/{path.name}"] = {
                "source": str(path),
                "name": f"wheels/{path.name}",
                "kind": "wheel",
            }
    channel.index()
    write_project(folder / "pixi", made)
    for name in ("conda", "pixi"):
        trees[name] = {"source": str(folder / name), "name": name, "kind": name}
    return list(trees.values())
