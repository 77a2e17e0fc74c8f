# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conda half of an environment on a host: py-rattler out of its wheel, and scripts that name their place."""

from __future__ import annotations

import glob
import json
import os
import zipfile
from typing import Any


class CondaError(Exception):
    """What could not be installed, and why."""


def unpack_rattler(wheel: str, folder: str) -> str:
    """The folder to put on PYTHONPATH: the wheel is one library and needs nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def command(python: str, script: str, asked: dict[str, str]) -> list[str]:
    return [python, script, json.dumps(asked)]


def answer_of(out: str, err: str) -> int:
    """How many packages were installed; what went wrong as an error."""
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise CondaError((err or out).strip()[-3000:]) from None
    if "problem" in answer:
        raise CondaError(str(answer["problem"]))
    return int(answer["packages"])


def platform_of(arch: str) -> str:
    return {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[arch]


def repair_scripts(env: str, dest: str) -> int:
    """The first line of scripts that wheels brought names the folder where they were made; says how many."""
    repaired = 0
    start = b"#!" + env.encode() + b"/"
    for path in glob.glob(os.path.join(env, "bin", "*")):
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as stream:
            if stream.read(len(start)) != start:
                continue
            rest = stream.read()
        mode = os.stat(path).st_mode
        part = path + ".new"
        with open(part, "wb") as stream:
            stream.write(b"#!" + dest.encode() + b"/" + rest)
        os.chmod(part, mode)
        os.replace(part, path)
        repaired += 1
    return repaired
