#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a measurement of roles/acceptance/files/acceptance.py without Ansible and without a GPU."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.acceptance.report import report


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", type=Path)
    parser.add_argument("--name", default="host")
    parser.add_argument("--report", type=Path, help="folder for acceptance.json and acceptance.html")
    options = parser.parse_args(words)
    found = report(
        {options.name: json.loads(options.measurement.read_text(encoding="utf-8"))},
        yaml.safe_load((ROOT / "files/acceptance.yml").read_text(encoding="utf-8")),
        [
            yaml.safe_load(path.read_text(encoding="utf-8"))
            for path in sorted((ROOT / "files/hardware").glob("*.yml"))
        ],
    )
    page = found.pop("html")
    print("\n".join(found["lines"]))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "acceptance.html").write_text(page, encoding="utf-8")
        (options.report / "acceptance.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
