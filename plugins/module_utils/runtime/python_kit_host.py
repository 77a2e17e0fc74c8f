# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python for hosts that have none that fits: an archive that runs wherever it is unpacked."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable

from .store_host import RefusedError

ASK = "import platform; print(platform.python_version(), platform.machine())"


def unpack(archive: str, home: str, minor: str, run: Callable[[list[str]], str]) -> None:
    """Visible only when complete; asked for its version before it is."""
    partial = f"{home}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(archive) as stream:
            members = stream.getmembers()
            unsafe = [member.name for member in members if _leaves(member)]
            if unsafe:
                raise RefusedError(
                    f"{archive} holds names that lead out of its folder: {', '.join(unsafe[:5])}"
                )
            if hasattr(tarfile, "fully_trusted_filter"):
                # Whoever the archive's files belonged to, here they are root's.
                stream.extractall(partial, members, filter=_owned)
            else:
                stream.extractall(partial, [_plain(member) for member in members])
        root = _root(partial)
        python = os.path.join(root, "bin", "python3")
        if not os.path.exists(python):
            raise RefusedError(
                f"{archive} holds no bin/python3: give a relocatable Python, such as an install_only archive of "
                "python-build-standalone, in bundle_pythons"
            )
        found = run([python, "-I", "-c", ASK]).split()
        if not found or found[0].rsplit(".", 1)[0] != minor:
            said = found[0] if found else "nothing"
            raise RefusedError(f"{archive} is Python {said} and the plan wants {minor}")
        os.makedirs(os.path.dirname(home), exist_ok=True)
        os.rename(root, home)
    except (tarfile.TarError, EOFError) as error:
        raise RefusedError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _leaves(member: tarfile.TarInfo) -> bool:
    parts = member.name.split("/")
    if os.path.isabs(member.name) or ".." in parts:
        return True
    if member.issym() or member.islnk():
        base = os.path.dirname(member.name) if member.issym() else ""
        target = os.path.normpath(os.path.join(base, member.linkname))
        return os.path.isabs(member.linkname) or target.startswith("..")
    return not (member.isfile() or member.isdir())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = (member.mode | 0o644) & 0o755
    return member


def _owned(member: tarfile.TarInfo, _unused: str) -> tarfile.TarInfo:
    return _plain(member)


def _root(folder: str) -> str:
    """An archive's only folder is its root; otherwise the archive is."""
    names = os.listdir(folder)
    only = os.path.join(folder, names[0]) if len(names) == 1 else folder
    return only if os.path.isdir(only) and names != ["bin"] else folder
