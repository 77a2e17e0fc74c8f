# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python for hosts that have none that fits: an archive that runs wherever it is unpacked."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable

from . import safe_tar
from .store_host import RefusedError, refuse_full

ASK = "import platform; print(platform.python_version(), platform.machine())"


def unpack(archive: str, home: str, minor: str, run: Callable[[list[str]], str]) -> None:
    """Visible only when complete; asked for its version before it is."""
    partial = f"{home}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        refuse_full(os.path.dirname(home), safe_tar.total_bytes(archive), f"the Python {home}")
        safe_tar.unpack(archive, partial)
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
    except safe_tar.UnsafeArchiveError as error:
        raise RefusedError(f"{error}. Nothing was changed.") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise RefusedError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _root(folder: str) -> str:
    """An archive's only folder is its root; otherwise the archive is."""
    names = os.listdir(folder)
    only = os.path.join(folder, names[0]) if len(names) == 1 else folder
    return only if os.path.isdir(only) and names != ["bin"] else folder
