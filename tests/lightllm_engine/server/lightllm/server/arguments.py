# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: every flag of the contract that the collection holds, which lies beside this file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

KINDS = {"int": int, "float": float, "str": str}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    contract = json.loads(Path(__file__).with_name("flags.json").read_text(encoding="utf-8"))
    for name, entry in contract["flags"].items():
        options = [f"--{spelling}" for spelling in (name, *entry.get("aliases", ()))]
        if entry["kind"] == "switch":
            made.add_argument(*options, dest=entry["dest"], action="store_true")
            continue
        given: dict[str, Any] = {"type": KINDS[entry["type"]], "default": entry.get("default")}
        given |= {key: entry[key] for key in ("nargs", "choices") if key in entry}
        made.add_argument(*options, dest=entry["dest"], **given)
    return made
