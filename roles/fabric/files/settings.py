# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets what a card forgets at every boot: trust in DSCP, PFC on one priority, ECN, the type of service of RDMA.

    python3 settings.py [--check] settings.json

Exit status 3 with --check: something is not as wanted, and the lines say what.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

ROOT = os.environ.get("FABRIC_ROOT", "/")


class SettingError(Exception):
    """What could not be set, and how it may be."""


def at(path: str) -> str:
    return os.path.join(ROOT, path.lstrip("/"))


def run(*words: str) -> str:
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise SettingError(f"{' '.join(words)}: {done.stdout.strip()}")
    return done.stdout


def read(path: str) -> str:
    try:
        with open(at(path), encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def tool(port: dict[str, Any]) -> dict[str, Any]:
    """The first that is installed, of those that the plan names for the card."""
    for found in port["tools"]:
        if shutil.which(found["name"]):
            return dict(found)
    names = " nor ".join(found["name"] for found in port["tools"])
    raise SettingError(f"there is neither {names}: install the card's tools, or iproute2")


def wrong(wanted: dict[str, Any]) -> list[str]:
    found = []
    for port in wanted["ports"]:
        mine = tool(port)
        said = "\n".join(run(*words) for words in mine["show"])
        found += [item["else"] for item in mine["wanted"] if not re.search(item["says"], said, re.MULTILINE)]
        for file in files(port):
            make_folder(file)
            value = read(file["path"])
            if value != file["value"]:
                what = file.get("what") or file["path"]
                found.append(f"{what}: it is {value or 'unreadable'}, not {file['value']}")
    return found


def files(port: dict[str, Any]) -> list[dict[str, Any]]:
    """Without those that some drivers do not have."""
    return [file for file in port["files"] if not file.get("optional") or os.path.exists(at(file["path"]))]


def make_folder(file: dict[str, Any]) -> None:
    """configfs shows a device's values once its folder was asked for; this changes none of them."""
    folder = at(file.get("folder", ""))
    if "folder" in file and os.path.isdir(os.path.dirname(folder)) and not os.path.isdir(folder):
        os.mkdir(folder)


def write(path: str, value: str) -> None:
    try:
        with open(at(path), "w", encoding="utf-8") as stream:
            stream.write(value)
    except OSError as error:
        raise SettingError(
            f"{path} cannot be written ({error.strerror}): modprobe rdma_cm makes configfs's"
        ) from None


def put(file: dict[str, Any]) -> None:
    make_folder(file)
    write(file["path"], file["value"])


def apply(wanted: dict[str, Any]) -> None:
    problems = []
    for port in wanted["ports"]:
        steps = [lambda words=words: run(*words) for words in tool(port)["set"]]
        steps += [lambda file=file: put(file) for file in files(port)]
        for step in steps:
            try:
                step()
            except SettingError as error:
                problems.append(f"{port['netdev']}: {error}")
    if problems:
        raise SettingError("; ".join(problems))


def main(words: list[str]) -> int:
    with open(words[-1], encoding="utf-8") as stream:
        wanted = json.load(stream)
    if not wanted:
        return 0
    try:
        if "--check" not in words:
            apply(wanted)
        found = wrong(wanted)
    except SettingError as error:
        found = [str(error)]
    for line in found:
        print(line)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
