# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's folder on a host: filled beside its place, verified, and visible by one rename.

`<dest>.partial` is filled by whatever carries files; `publish` is the only way from there to `<dest>`.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from ..swarm.handover_host import ARRIVING, wipe
from . import files_host as files
from .files_host import Damage
from .manifest import MANIFEST, STAMP, ManifestError, from_text, piece_digests

VERIFIED = ".verified.json"
PIECES = ".pieces"
RENAME_EXCHANGE = 2
AT_FDCWD = -100


class FolderError(Exception):
    """Names the folder or file and what is wrong with it."""


def staging_of(dest: str) -> str:
    return dest + ".partial"


def read_manifest(folder: str) -> tuple[dict[str, Any], str]:
    """The manifest that lies in a folder, and its SHA-256."""
    with open(os.path.join(folder, MANIFEST), "rb") as stream:
        text = stream.read()
    return from_text(text.decode("utf-8", "replace"), os.path.join(folder, MANIFEST)), hashlib.sha256(
        text
    ).hexdigest()


def read_stamp(folder: str) -> dict[str, Any]:
    """What was known of the files when they were published; empty when they never were."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as stream:
            stamp = json.load(stream)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(folder: str, stamp: Mapping[str, Any]) -> None:
    part = os.path.join(folder, STAMP + ".part")
    with open(part, "w", encoding="utf-8") as stream:
        json.dump(stamp, stream, indent=1, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(part, 0o444)
    os.rename(part, os.path.join(folder, STAMP))


def is_foreign(dest: str) -> bool:
    """A folder that somebody else made is never replaced."""
    if not os.path.lexists(dest):
        return False
    ours = (os.path.join(dest, name) for name in (MANIFEST, STAMP))
    return not any(map(os.path.isfile, ours)) and (not os.path.isdir(dest) or bool(os.listdir(dest)))


def look(dest: str, wanted: str = "", full: bool = False) -> dict[str, Any]:
    """Whether a published folder is whole: {state, manifest, damage, touched}; reads every byte only when asked to."""
    stamp = read_stamp(dest)
    try:
        manifest, digest = read_manifest(dest)
    except (OSError, ManifestError):
        state = "foreign" if is_foreign(dest) else "absent"
        return {"state": state, "manifest": "", "damage": [], "touched": [], "bytes": 0, "files": 0}
    touched: list[str] = []
    base = {"manifest": digest, "bytes": manifest["bytes"], "files": len(manifest["files"])}
    if stamp.get("manifest") != digest or (wanted and wanted != digest):
        return {**base, "state": "other", "damage": [], "touched": []}
    if full:
        damage = files.all_damage(dest, manifest)
    else:
        damage, touched = files.quick_damage(dest, manifest, stamp.get("times", {}))
        known = {item.path for item in damage}
        damage += files.all_damage(dest, manifest, names=touched)
        damage += [
            Damage(name, "was found damaged before")
            for name in stamp.get("damaged", [])
            if name not in known | {item.path for item in damage}
        ]
    damage += [
        Damage(name, "no manifest knows it", ())
        for name in files.strangers(dest, manifest, (MANIFEST, STAMP))
    ]
    return {**base, "state": "damaged" if damage else "whole", "damage": damage, "touched": touched}


def remember(dest: str, found: Mapping[str, Any]) -> bool:
    """Keeps in the stamp what a look found, so that the next run repairs it; says whether that is news."""
    stamp = read_stamp(dest)
    damaged = sorted({item.path for item in found["damage"]})
    times = dict(stamp.get("times", {}))
    for name in found["touched"]:
        if name not in damaged:
            times[name] = os.lstat(os.path.join(dest, name)).st_mtime_ns
    news = {**stamp, "damaged": damaged, "times": times}
    if news == {"damaged": [], **stamp}:
        return False
    write_stamp(dest, news)
    return True


def open_staging(dest: str) -> str:
    """Makes the folder beside dest that files are sent into; under sudo the sender is the login user."""
    staging = staging_of(dest)
    if os.path.islink(staging):
        raise FolderError(f"{staging} is a link: take it away")
    if is_foreign(dest):
        raise FolderError(
            f"{dest} is there and was not put there by this collection: move it away, or its name"
        )
    os.makedirs(staging, mode=0o700, exist_ok=True)
    return staging


def hand_over(staging: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """The folders that entries go into, writable for the login user that sends them under sudo."""
    sender = os.environ.get("SUDO_UID")
    folders = {staging, os.path.join(staging, PIECES)}
    folders |= {os.path.dirname(os.path.join(staging, str(entry["path"]))) for entry in entries}
    for folder in sorted(folders):
        os.makedirs(folder, exist_ok=True)
        if sender:
            os.chown(folder, int(sender), -1)


def take_over(staging: str) -> None:
    """From here on nobody but root can change what is about to be verified."""
    for folder, below, names in os.walk(staging):
        # Of an agent that may still be at work; only the module swarm_agent takes what is in there.
        below[:] = [name for name in below if name != ARRIVING]
        os.chown(folder, os.geteuid(), os.getegid())
        for name in names:
            os.chown(os.path.join(folder, name), os.geteuid(), os.getegid(), follow_symlinks=False)


class Staging:
    """Fills `<dest>.partial` from what the host has already, and knows what it still lacks."""

    def __init__(self, dest: str) -> None:
        self.dest, self.folder = dest, staging_of(dest)
        self.manifest, self.digest = read_manifest(self.folder)
        self.piece = self.manifest["piece_bytes"]
        self.verified = self._read_verified()

    def _path(self, entry: Mapping[str, Any]) -> str:
        return os.path.join(self.folder, str(entry["path"]))

    def _read_verified(self) -> dict[str, list[int]]:
        try:
            with open(os.path.join(self.folder, VERIFIED), encoding="utf-8") as stream:
                found = json.load(stream)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _mark(self, entry: Mapping[str, Any]) -> None:
        found = os.lstat(self._path(entry))
        # The content that was verified belongs to the mark: another manifest may want another.
        self.verified[str(entry["path"])] = [found.st_mtime_ns, found.st_ino, int(entry["sha256"][:12], 16)]

    def _is_marked(self, entry: Mapping[str, Any]) -> bool:
        mark = self.verified.get(str(entry["path"]))
        if files.regular_size(self._path(entry)) != entry["size"] or not mark:
            return False
        found = os.lstat(self._path(entry))
        return mark == [found.st_mtime_ns, found.st_ino, int(entry["sha256"][:12], 16)]

    def save(self) -> None:
        part = os.path.join(self.folder, VERIFIED + ".part")
        with open(part, "w", encoding="utf-8") as stream:
            json.dump(self.verified, stream)
        os.rename(part, os.path.join(self.folder, VERIFIED))

    def reuse(self) -> int:
        """Hard links to intact files of this model's published revisions; the bytes that were spared."""
        spared = 0
        for folder in [self.dest, *_siblings(self.dest)]:
            stamp = read_stamp(folder)
            try:
                other, digest = read_manifest(folder)
            except (OSError, ManifestError):
                continue
            if stamp.get("manifest") != digest:
                continue
            there = {(item["sha256"], item["size"]): item for item in other["files"]}
            for entry in self.manifest["files"]:
                same = there.get((entry["sha256"], entry["size"]))
                if same is None or self._is_marked(entry):
                    continue
                spared += self._take(entry, os.path.join(folder, same["path"]), str(same["path"]), stamp)
        self.save()
        return spared

    def _take(self, entry: Mapping[str, Any], path: str, name: str, stamp: Mapping[str, Any]) -> int:
        found = files.regular_size(path)
        if found is None:
            return 0
        target = self._path(entry)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        trusted = (
            found == entry["size"]
            and name not in stamp.get("damaged", [])
            and os.lstat(path).st_mtime_ns == stamp.get("times", {}).get(name)
        )
        if trusted:
            _unlink(target)
            os.link(path, target)
            self._mark(entry)
            return int(entry["size"])
        # Only a damaged file's good pieces are worth a copy; the running engine keeps the old file.
        if entry.get("pieces") and not os.path.lexists(target):
            shutil.copyfile(path, target)
            os.truncate(target, entry["size"])
        return 0

    def lacking(self) -> list[dict[str, Any]]:
        """What has to be brought: whole files, or pieces of files that are here in part."""
        found = []
        for entry in self.manifest["files"]:
            if self._is_marked(entry):
                continue
            pieces = self._wanted_pieces(entry)
            if pieces == []:
                self._mark(entry)
                continue
            if pieces is None:
                _unlink(self._path(entry))
            found.append({"path": entry["path"], "size": entry["size"], "pieces": pieces})
        self.save()
        return found

    def _wanted_pieces(self, entry: Mapping[str, Any]) -> list[int] | None:
        """Pieces that differ; None when the whole file is as good as absent."""
        path, count = self._path(entry), len(piece_digests(entry))
        if not files.regular_size(path):
            return [] if entry["size"] == 0 and files.regular_size(path) == 0 else None
        if not entry.get("pieces"):
            return [] if files.file_damage(self.folder, entry, self.piece) is None else None
        _own(path)
        os.truncate(path, entry["size"])
        bad = files.bad_pieces(path, entry, self.piece)
        return bad if len(bad) <= count // 2 else None

    def bytes_of(self, lacking: Iterable[Mapping[str, Any]]) -> int:
        return sum(
            item["size"]
            if item["pieces"] is None
            else sum(min(self.piece, item["size"] - number * self.piece) for number in item["pieces"])
            for item in lacking
        )

    def copy_from(self, source: str, lacking: Iterable[Mapping[str, Any]]) -> None:
        """Brings what is lacking from a folder that this host can read."""
        for item in lacking:
            origin, target = os.path.join(source, item["path"]), os.path.join(self.folder, item["path"])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if files.regular_size(origin) is None:
                raise FolderError(f"{source} lacks {item['path']}")
            if item["pieces"] is None:
                _unlink(target)
                shutil.copyfile(origin, target)
                continue
            with open(origin, "rb") as reader, open(target, "r+b") as writer:
                for number in item["pieces"]:
                    reader.seek(number * self.piece)
                    writer.seek(number * self.piece)
                    writer.write(reader.read(self.piece))

    def apply_pieces(self, lacking: list[dict[str, Any]]) -> None:
        """Puts sent pieces, each a file of its own, where they belong."""
        for index, item in enumerate(lacking):
            for number in item["pieces"] or ():
                sent = os.path.join(self.folder, PIECES, f"{index}-{number}")
                if files.regular_size(sent) is None:
                    continue
                with (
                    open(sent, "rb") as reader,
                    open(os.path.join(self.folder, item["path"]), "r+b") as writer,
                ):
                    writer.seek(number * self.piece)
                    writer.write(reader.read(self.piece))
                os.unlink(sent)

    def publish(self) -> None:
        """Verifies all that is not proven yet, makes it read-only and visible; damage stays for the next run."""
        take_over(self.folder)
        wipe(self.folder)
        unproven = [entry["path"] for entry in self.manifest["files"] if not self._is_marked(entry)]
        for name in unproven:
            if files.regular_size(os.path.join(self.folder, name)) is not None:
                files.sync_and_forget(os.path.join(self.folder, name))
        damage = files.all_damage(self.folder, self.manifest, names=unproven)
        if damage:
            bad = {item.path for item in damage}
            for name in bad:
                # A fan-out that called it complete, because another host described it so, does not do so again.
                with contextlib.suppress(OSError):
                    os.utime(os.path.join(self.folder, name), follow_symlinks=False)
            for entry in self.manifest["files"]:
                if entry["path"] in unproven and entry["path"] not in bad:
                    self._mark(entry)
            self.save()
            raise FolderError("; ".join(str(item) for item in damage))
        own = (MANIFEST,)
        for name in files.strangers(self.folder, self.manifest, own):
            os.unlink(os.path.join(self.folder, name))
        shutil.rmtree(os.path.join(self.folder, PIECES), ignore_errors=True)
        for folder, _unused, names in os.walk(self.folder):
            for name in names:
                os.chmod(os.path.join(folder, name), 0o444)
            os.chmod(folder, 0o755)
        times = files.times_of(self.folder, self.manifest)
        write_stamp(self.folder, {"manifest": self.digest, "times": times, "files": len(times)})
        _sync_folder(self.folder)
        _appear(self.folder, self.dest)


def _siblings(dest: str) -> list[str]:
    """Other published revisions of the same model."""
    parent = os.path.dirname(dest)
    return sorted(
        os.path.join(parent, name)
        for name in os.listdir(parent)
        if not name.endswith((".partial", ".gone")) and os.path.join(parent, name) != dest
    )


def _own(path: str) -> None:
    """A file that only this folder has and that may be written to: never the one that an engine reads."""
    if os.lstat(path).st_nlink > 1:
        shutil.copyfile(path, path + ".own")
        os.rename(path + ".own", path)
    os.chmod(path, 0o600)


def _unlink(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _appear(staging: str, dest: str) -> None:
    """One rename. What was at dest changes places with it, so that there is never a moment without a model."""
    if not os.path.lexists(dest):
        os.rename(staging, dest)
    elif _exchange(staging, dest):
        shutil.rmtree(staging)
    else:
        before = dest + ".before"
        shutil.rmtree(before, ignore_errors=True)
        os.rename(dest, before)
        os.rename(staging, dest)
        shutil.rmtree(before)
    _sync_folder(os.path.dirname(dest))


def _exchange(one: str, other: str) -> bool:
    """Two names change places in one step, where libc and file system can do that."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
