# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle's manifest says, and the questions the roles ask of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.refusals import did_you_mean
from ..packages.state import INDEX, Looked, command, without_a_bundle
from ..runtime import pixi_project

SCHEMA = 2
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
SUMS = "SHA256SUMS"
DELTA = "delta.json"
"""Lies in a folder that holds only what its base lacks; gone once the import has completed it."""
UNFINISHED = "unfinished"
"""Lies in a folder that a build has begun and not ended."""
SBOM = "sbom/bundle.cdx.json"
LICENCES = "sbom/licences.txt"
NAMESPACE = "bundle@baremetal.sglang"
"""What signatures are made for: a signature of something else by the same key is none of a bundle."""

BESIDE = frozenset({MANIFEST, SIGNATURE, SUMS, DELTA, UNFINISHED})
"""Files of a bundle's folder that its manifest does not list."""
PARTS = (*("conda", "controller", "debs", "locks", "moe", "pixi", "python", "sbom", "weights", "wheels"),)
"""The folders that a bundle may have."""


class BundleError(Exception):
    """The bundle does not hold what is asked of it."""


def build(
    files: dict[str, dict[str, Any]],
    environments: dict[str, dict[str, Any]],
    weights: dict[str, dict[str, Any]],
    installers: dict[str, str],
    pythons: dict[str, str],
    controllers: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The manifest of a bundle; every path in it is relative to the bundle's folder."""
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "controllers": controllers or {},
        "environments": environments,
        "files": files,
        "installers": installers,
        "pythons": pythons,
        "weights": weights,
    }
    return {**manifest, "id": identity(manifest)}


def identity(manifest: dict[str, Any]) -> str:
    """The same for the same content, wherever and whenever it was built."""
    content = {key: value for key, value in manifest.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def rendered(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def parsed(data: bytes) -> dict[str, Any]:
    """A manifest as its bytes say it; a key that stands twice would mean two things to two readers."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise BundleError(f"{MANIFEST}: {key} stands in it twice")
            found[key] = value
        return found

    try:
        manifest = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST}: is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{MANIFEST}: is not a manifest of a bundle")
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{MANIFEST}: has schema {manifest.get('schema')}, this version reads schema {SCHEMA}: "
            "build the bundle again with the version that is to read it"
        )
    return manifest


def sums(files: dict[str, dict[str, Any]]) -> str:
    """The text that `sha256sum --check` reads."""
    return "".join(f"{entry['sha256']}  {path}\n" for path, entry in sorted(files.items()))


def sums_with_manifest(manifest: dict[str, Any], data: bytes) -> str:
    own = {MANIFEST: {"sha256": hashlib.sha256(data).hexdigest()}}
    return sums(manifest["files"] | own)


def problems_of(manifest: dict[str, Any]) -> list[str]:
    """What contradicts itself in a manifest whose form is right."""
    found = []
    if identity(manifest) != manifest["id"]:
        found.append(f"{MANIFEST}: its id is not that of its content: it was changed by hand")
    return found + _misplaced(manifest["files"]) + _elsewhere(manifest) + _dangling(manifest)


def misplaced(path: str) -> bool:
    """Whether no file of a bundle may have this name; such a file is never opened."""
    parts = path.split("/")
    return parts[0] not in PARTS or bool({"", ".", ".."} & set(parts)) or not path.isprintable()


def _misplaced(files: dict[str, Any]) -> list[str]:
    found = []
    seen: dict[str, str] = {}
    for path in sorted(files):
        if not path.isprintable():
            found.append(f"{path!r}: has characters that no file of a bundle has in its name")
        elif misplaced(path):
            found.append(f"{path}: lies where no file of a bundle belongs")
        # Disks that are carried around often do not tell capitals from small letters.
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            found.append(
                f"{path}: differs from {other} only in capital letters; some disks can hold only one"
            )
        if path.startswith("wheels/") and not path.endswith(".whl"):
            found.append(f"{path}: is not a wheel; a host cannot build from sources")
    return found


def _elsewhere(manifest: dict[str, Any]) -> list[str]:
    """What the manifest gives another place, or another use, than a build does."""
    found = []
    for name, item in sorted(manifest["weights"].items()):
        folder = f"weights/{name}"
        if item["folder"] != folder or not all(path.startswith(f"{folder}/") for path in item["files"]):
            found.append(f"weights {name}: its files lie in another folder than {folder}")
    for key, path in sorted(manifest["installers"].items()):
        if not path.startswith("wheels/"):
            found.append(f"installers.{key} = {path!r}: lies outside wheels/")
    for key, path in sorted(manifest["pythons"].items()):
        if not path.startswith("python/"):
            found.append(f"pythons.{key} = {path!r}: lies outside python/")
    for key, entry in sorted(manifest["environments"].items()):
        if entry["lock"] != f"locks/{key}":
            found.append(f"environments.{key}.lock = {entry['lock']!r}: must be locks/{key}")
    for key, entry in sorted(manifest["controllers"].items()):
        if not entry["lock"].startswith("controller/") or key != f"{entry['python']}-{entry['arch']}":
            found.append(f"controllers.{key}: its name, its Python and its lock do not go together")
    return found


def _dangling(manifest: dict[str, Any]) -> list[str]:
    """What is needed by something in the manifest and not listed."""
    needed = [
        (f"{group} {key}", path)
        for name, group in (("environments", "environment"), ("controllers", "controller"))
        for key, entry in manifest[name].items()
        for path in (entry["lock"], *entry["wheels"])
    ]
    needed += [(f"uv for {key}", path) for key, path in manifest["installers"].items()]
    needed += [(f"Python {key}", path) for key, path in manifest["pythons"].items()]
    needed += [
        (f"weights {key}", path) for key, item in manifest["weights"].items() for path in item["files"]
    ]
    return [
        f"{path}: {who} needs it and the manifest does not list it"
        for who, path in sorted(needed)
        if path not in manifest["files"]
    ] + [
        f"{key}: the bundle has no uv for {entry['arch']}"
        for group in ("environments", "controllers")
        for key, entry in sorted(manifest[group].items())
        if entry["arch"] not in manifest["installers"]
    ]


def listed_paths(wanted: list[dict[str, Any]]) -> list[str]:
    """The files of the bundle that will be read for what hosts lack, as `bundled` returned it."""
    found = set()
    for entry in wanted:
        item = entry["item"]
        if entry["kind"] == "packages":
            below = f"{_archive_folder(item)}/"
        else:
            below = "" if entry["kind"] == "environment" else f"weights/{item['model']}/{item['revision']}/"
        found |= {below + file["path"] for file in item["files"]}
    return sorted(found)


def _listed(manifest: dict[str, Any], paths: list[str], below: str = "") -> list[dict[str, Any]]:
    prefix = f"{below}/" if below else ""
    return [
        {
            "path": path[len(prefix) :],
            "size": manifest["files"][path]["size"],
            "sha256": manifest["files"][path]["sha256"],
        }
        for path in sorted(paths)
    ]


def bundled(
    manifest: dict[str, Any],
    wanted: list[dict[str, Any]],
    tools: Mapping[str, str],
    pythons: Iterable[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """What a host lacks, each with the files that it takes; every gap of the bundle is named at once.

    `tools`: the lock of each tool that runs on hosts as root, `uv` and `rattler`. `pythons`: what the inventory says
    of Python archives.
    """
    found, problems = [], []
    trusted = Trusted({name: _hashes(text) for name, text in tools.items()}, list(pythons))
    for entry in wanted:
        item = entry["item"]
        try:
            if entry["kind"] == "environment":
                more = _environment(manifest, item, trusted)
            elif entry["kind"] == "packages":
                more = {"files": _packages(manifest, item)}
            else:
                more = {"files": _weights(manifest, item["model"], item["revision"])}
            found.append({**entry, "item": {**item, **more}})
        except BundleError as error:
            problems.append(str(error))
    if problems:
        raise BundleError("; ".join(dict.fromkeys(problems)))
    return found


@dataclass(frozen=True)
class Trusted:
    """Hashes that the collection and the inventory know, whatever a bundle says of itself."""

    tools: Mapping[str, set[str]]
    pythons: Sequence[Mapping[str, Any]]

    def problems(self, tool: str, paths: Iterable[str], files: Mapping[str, Any]) -> list[str]:
        return [
            f"{path}: its sha256 {files[path]['sha256']} is not one of those that requirements/{tool}.txt of this "
            "collection pins, and it would run as root: build the bundle again with this collection"
            for path in paths
            if files[path]["sha256"] not in self.tools[tool]
        ]

    def python_problems(self, item: Mapping[str, Any], path: str, files: Mapping[str, Any]) -> list[str]:
        return [
            f"{path}: its sha256 is {files[path]['sha256']}, bundle_pythons wants {entry['sha256']} for Python "
            f"{item['python']} on {item['arch']}: build the bundle again, or correct bundle_pythons"
            for entry in self.pythons
            if (str(entry.get("python")), entry.get("arch")) == (item["python"], item["arch"])
            and entry.get("sha256")
            and entry["sha256"] != files[path]["sha256"]
        ]


def _hashes(lock: str) -> set[str]:
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", lock))


def _environment(manifest: dict[str, Any], item: dict[str, Any], trusted: Trusted) -> dict[str, Any]:
    lock, arch, files = item["lock"], item["arch"], manifest["files"]
    environment = manifest["environments"].get(lock)
    if environment is None:
        raise BundleError(
            f"the bundle has no environment for {lock or 'a release without a lock'} "
            f"({did_you_mean(lock, manifest['environments'])}): build it again with playbooks/bundle.yml and this inventory"
        )
    if arch not in manifest["installers"]:
        raise BundleError(f"the bundle has no uv for {arch}: {did_you_mean(arch, manifest['installers'])}")
    installer = manifest["installers"][arch]
    problems = _other_lock(environment, item, files) + trusted.problems("uv", [installer], files)
    paths = [*environment["wheels"], environment["lock"], installer]
    kit = ""
    if item["interpreter_from"] == "bundle":
        key = f"{item['python']}-{arch}"
        kit = manifest["pythons"].get(key, "")
        if not kit:
            raise BundleError(
                f"the bundle has no Python {item['python']} for {arch} ({did_you_mean(key, manifest['pythons'])}): "
                "give one in bundle_pythons and build it again"
            )
        paths.append(kit)
        problems += trusted.python_problems(item, kit, files)
    if item.get("conda"):
        own = pixi_project.bundle_paths(files, arch)
        if "pixi/pixi.lock" not in own:
            raise BundleError("the bundle has no pixi/pixi.lock: build it again with runtime_backend: pixi")
        problems += trusted.problems("rattler", [path for path in own if path.startswith("wheels/")], files)
        paths += own
    if problems:
        raise BundleError("; ".join(problems))
    return {"files": _listed(manifest, sorted(set(paths))), "python_kit": kit, "installer": installer}


def _other_lock(
    environment: Mapping[str, Any], item: Mapping[str, Any], files: Mapping[str, Any]
) -> list[str]:
    """The name of an environment on a host comes from its lock: another lock would be another environment."""
    found = []
    here = files[environment["lock"]]["sha256"]
    if here != item["lock_sha256"]:
        found.append(
            f"{environment['lock']}: its sha256 in the bundle is {here}, the plan was made with "
            f"{item['lock_sha256'] or 'no such lock'}: build the bundle again with this collection and this inventory, "
            "or plan with the collection that the bundle was built with (controller/setup of the bundle brings it)"
        )
    found += [
        f"environment {item['lock']} of the bundle is for {key} {environment[key]}, the plan wants {item[key]}"
        for key in ("arch", "python")
        if environment[key] != item[key]
    ]
    return found


def _archive_folder(item: dict[str, Any]) -> str:
    return f"debs/{item['archive']}"


def _packages(manifest: dict[str, Any], item: dict[str, Any]) -> list[dict[str, Any]]:
    """The index and archives of one release, relative to their folder."""
    host, looked = item["host"], Looked(item["format"], item["archive"], tuple(item["missing"]))
    if why := without_a_bundle(looked, host):
        raise BundleError(why)
    folder = _archive_folder(item)
    paths = [path for path in manifest["files"] if path.startswith(f"{folder}/")]
    carried = {path.rsplit("/", 1)[1].split("_")[0] for path in paths if path.endswith(".deb")}
    absent = [name for name in looked.missing if name not in carried]
    if absent or f"{folder}/{INDEX}" not in paths:
        release, _unused, arch = item["archive"].rpartition("-")
        lacks = (
            f"{folder} of the bundle lacks {', '.join(absent or [INDEX])}"
            if paths
            else f"the bundle has no {folder}"
        )
        raise BundleError(
            f"packages missing on {host} ({', '.join(looked.missing)}), and {lacks}: build it again with "
            f"bundle_debs: [{{release: {release}, arch: {arch}, packages: [{', '.join(absent or looked.missing)}]}}]; "
            f"or install on {host}: {command(looked.format, looked.missing)}; or set host_package_source: repository"
        )
    return _listed(manifest, paths, folder)


def _weights(manifest: dict[str, Any], model: str, revision: str) -> list[dict[str, Any]]:
    """The files of one model, relative to its own folder in the bundle."""
    key = f"{model}/{revision}"
    entry = manifest["weights"].get(key)
    if entry is None:
        raise BundleError(
            f"the bundle has no weights {key} ({did_you_mean(key, manifest['weights'])}): "
            "say where they are in bundle_weights and build it again"
        )
    return _listed(manifest, entry["files"], entry["folder"])
