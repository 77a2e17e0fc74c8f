# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conda half of an environment on a host: py-rattler out of its wheel, and scripts that name their place."""

from __future__ import annotations

import glob
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

LOCK = "pixi/pixi.lock"
PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


class CondaError(Exception):
    """What could not be installed, and why."""


Run = Callable[[list[str], dict[str, str]], tuple[int, str, str]]


def install(
    run: Run, work: str, env: str, dest: str, python: str, conda: Mapping[str, str], places: Mapping[str, str]
) -> int:
    """Makes `env` out of conda packages, for use at `dest`; says how many.

    `conda` names the environment in the lock, the machine and the program that installs. `places` says where
    each file of the bundle lies on this host: packages, lock and py-rattler's own wheel.
    """
    arch = conda["arch"]
    wheel = next((path for name, path in sorted(places.items()) if _is_rattler(name, arch)), "")
    if not wheel:
        raise CondaError(f"the bundle lists no wheel of py-rattler for {arch}")
    if LOCK not in places:
        raise CondaError(f"the bundle lists no {LOCK}")
    library, script = os.path.join(work, "rattler"), os.path.join(work, "install_conda.py")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    with open(script, "w", encoding="utf-8") as stream:
        stream.write(conda["script"])
    asked = {
        "places": dict(places),
        "lock": places[LOCK],
        "environment": conda["environment"],
        "platform": PLATFORMS[arch],
        "prefix": env,
        "dest": dest,
        "work": work,
    }
    request = os.path.join(work, "install_conda.json")
    with open(request, "w", encoding="utf-8") as stream:
        json.dump(asked, stream)
    _unused, out, err = run([python, script, request], {"PYTHONPATH": library})
    return answer_of(out, err)


def _is_rattler(name: str, arch: str) -> bool:
    return "/py_rattler-" in name and name.endswith(f"_{arch}.whl")


def answer_of(out: str, err: str) -> int:
    """How many packages were installed; what went wrong as an error."""
    try:
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise CondaError((err or out).strip()[-3000:]) from None
    if "problem" in answer:
        raise CondaError(str(answer["problem"]))
    return int(answer["packages"])


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
