#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten thousand damaged captures through fact gathering and the planner: each leads to the truth or to a named refusal.

Prints how many were planned, refused and wrong, and ends with 1 where one was wrong. The unit tests try a few hundred
of the same cases; --first and --count choose others, and a case keeps its number for ever.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.tests.unit.fixtures import corpus


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    kinds: collections.Counter[str] = collections.Counter()
    forms: collections.Counter[tuple[str, str]] = collections.Counter()
    slowest, begin = 0.0, time.process_time()
    for number in range(given.first, given.first + given.count):
        start = time.process_time()
        name, damage, result = corpus.case(number)
        slowest = max(slowest, time.process_time() - start)
        kinds[result.kind] += 1
        form = corpus.scenario(name).form if name in corpus.names() else "beside"
        forms[form, "wrong" if result.wrong else result.kind] += 1
        if result.wrong:
            print(
                f"WRONG  case {number}, {name}, {damage}: {result.kind} {corpus.short(result.words)}",
                flush=True,
            )
    wrong = sum(count for (_form, kind), count in forms.items() if kind == "wrong")
    print(f"{given.count} damaged captures of {len(corpus.names())}, {wrong} wrong")
    for form in sorted({form for form, _kind in forms}):
        row = ", ".join(f"{kind} {forms[form, kind]}" for kind in ("planned", "refused", "wrong"))
        print(f"  {form:6} {row}")
    spent = time.process_time() - begin
    print(
        f"  {spent:.0f} s of computing, {spent / given.count * 1000:.1f} ms each, the slowest {slowest:.2f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
