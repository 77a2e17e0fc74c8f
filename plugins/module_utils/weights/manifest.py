# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of one model at one revision: every file with size, SHA-256 and the SHA-256 of each piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MANIFEST = ".weights.json"
STAMP = ".published.json"
SCHEMA = 1
PIECE_BYTES = 16 << 20
HEXADECIMAL = re.compile(r"^[0-9a-f]{64}\Z")


class ManifestError(Exception):
    """Says what is wrong with a manifest, or with a name in it."""


def unsafe_name(name: str) -> str:
    """Why a file may not have this name below a model's folder; empty when it may."""
    if not name or name.startswith("/") or "\\" in name or "\0" in name or "\n" in name:
        return "is not a name relative to the folder"
    parts = name.split("/")
    if ".." in parts or "." in parts or "" in parts:
        return "would leave the folder"
    return "is a name that the collection uses" if parts[0] in {MANIFEST, STAMP} else ""


def unsafe_names(names: Iterable[str]) -> list[str]:
    return [f"{name!r} {why}" for name in names if (why := unsafe_name(name))]


def build(
    model: str,
    revision: str,
    source: Mapping[str, str],
    files: Iterable[Mapping[str, Any]],
    tensors: Mapping[str, Any],
    piece_bytes: int = PIECE_BYTES,
) -> dict[str, Any]:
    """The same files give the same manifest, whenever and wherever it is made."""
    entries = sorted((dict(entry) for entry in files), key=lambda entry: str(entry["path"]))
    manifest = {
        "schema": SCHEMA,
        "model": model,
        "revision": revision,
        "source": dict(source),
        "piece_bytes": piece_bytes,
        "files": entries,
        "bytes": sum(entry["size"] for entry in entries),
        "tensors": dict(tensors),
    }
    check(manifest)
    return manifest


def to_text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def from_text(text: str, where: str = MANIFEST) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{where}: is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise ManifestError(f"{where}: is not a manifest")
    try:
        check(manifest)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from error
    return manifest


def check(manifest: Mapping[str, Any]) -> None:
    """Raises what is wrong: a manifest decides what is written where, so nothing in it is taken on trust."""
    if manifest.get("schema") != SCHEMA:
        raise ManifestError(
            f"has schema {manifest.get('schema')!r}, this version reads {SCHEMA}: make it anew"
        )
    piece = manifest.get("piece_bytes")
    if not _count(piece) or not piece:
        raise ManifestError("has no piece_bytes")
    files = manifest.get("files")
    if not isinstance(files, list) or not files:
        raise ManifestError("names no files")
    problems = [_file_problem(entry, piece) for entry in files]
    problems = [problem for problem in problems if problem]
    names = [str(entry.get("path")) for entry in files if isinstance(entry, Mapping)]
    problems += unsafe_names(names)
    problems += [
        f"{name} is named twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ManifestError("; ".join(problems[:5]))


def _file_problem(entry: Any, piece: int) -> str:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        return "an entry has no path"
    name = entry["path"]
    if not _count(entry.get("size")):
        return f"{name}: has no size"
    if not _digest(entry.get("sha256")):
        return f"{name}: has no sha256"
    pieces = entry.get("pieces", [])
    expected = -(-entry["size"] // piece) if entry["size"] > piece else 0
    if not isinstance(pieces, list) or len(pieces) != expected or not all(map(_digest, pieces)):
        return f"{name}: needs {expected} piece hashes"
    header = entry.get("header", {})
    if header and not (_count(header.get("bytes")) and _digest(header.get("sha256"))):
        return f"{name}: has a header without bytes or sha256"
    return ""


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _digest(value: Any) -> bool:
    return isinstance(value, str) and bool(HEXADECIMAL.match(value))


def plain_files(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Path, size and SHA-256 of each file: what a bundle, a copy or a swarm needs."""
    return [{key: entry[key] for key in ("path", "size", "sha256")} for entry in manifest["files"]]


def piece_digests(entry: Mapping[str, Any]) -> list[str]:
    """A small file is its own only piece."""
    return list(entry.get("pieces") or [entry["sha256"]])


def bundle_entry(bundle: Mapping[str, Any], model: str, revision: str) -> dict[str, dict[str, Any]]:
    """{name: {size, sha256}} of one model in a bundle's manifest; empty when the bundle lacks it."""
    entry = (bundle.get("weights") or {}).get(f"{model}/{revision}")
    if not entry:
        return {}
    skip = len(entry["folder"]) + 1
    return {name[skip:]: bundle["files"][name] for name in entry["files"]}


def engine_checksums(document: Mapping[str, Any]) -> dict[str, Any]:
    """The form that the engine's --model-checksum reads; what it does not load needs no reading."""
    return {
        "files": {
            str(item["path"]): {"sha256": str(item["sha256"]), "size": int(item["size"])}
            for item in document["files"]
        }
    }
