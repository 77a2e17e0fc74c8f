# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to rows with spread, and against an earlier result. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from .scenarios import METRICS
from .summary import interval, noise

SCHEMA = 1
SAME, BETTER, WORSE, NEW = "same", "better", "worse", "new"
# What two results must have in common to be compared.
OF_THE_MODEL = ("model", "weights_revision")


class BaselineError(ValueError):
    """Why an earlier result cannot be compared with."""


def value_at(record: Mapping[str, Any], path: str) -> float | None:
    found: Any = record
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def rows(records: Iterable[Mapping[str, Any]], floor: float) -> list[dict[str, Any]]:
    """One row for each quantity of each point: the median of its blocks, the range, and how much of it is noise."""
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        point = record["point"]
        key = (record["instance"], point["scenario"], point["label"], point.get("setting", ""))
        groups.setdefault(key, []).append(record)
    found = []
    for (instance, scenario, label, setting), members in groups.items():
        for path, name, unit, better in METRICS[scenario]:
            # A block that failed says nothing about speed; it is listed among the failures.
            values = [value for one in members if usable(one) and (value := value_at(one, path)) is not None]
            if not values:
                continue
            low, high = interval(values)
            found.append(
                {
                    "instance": instance, "scenario": scenario, "label": label, "setting": setting, "metric": path,
                    "name": name, "unit": unit, "better": better, "x": members[0]["point"].get("x", 0),
                    "median": round(statistics.median(values), 4), "low": round(low, 4), "high": round(high, 4),
                    "noise": round(noise(values, 0.0 if unit in ("share", "calls") else floor), 4),
                    "values": [round(value, 4) for value in values],
                }
            )  # fmt: skip
    return found


def usable(record: Mapping[str, Any]) -> bool:
    """Answers with some failures still tell a speed of those that came; a died server's point does not."""
    requests = record.get("requests", {})
    return not record.get("died") and not record.get("error") and bool(requests.get("good"))


def check_baseline(now: Mapping[str, Any], before: Any, path: str) -> dict[str, str]:
    """For each instance the one of the earlier result that it is compared with."""
    if not isinstance(before, Mapping) or before.get("schema") != SCHEMA or "rows" not in before:
        raise BaselineError(f"baseline = {path}: not a result of bench.yml; give its results.json")
    pairs = {}
    theirs = before["instances"]
    for name, mine in now.items():
        same = [
            other for other, entry in theirs.items() if all(entry.get(k) == mine.get(k) for k in OF_THE_MODEL)
        ]
        match = name if name in same else (same[0] if len(same) == 1 else "")
        if not match:
            shown = ", ".join(
                f"{other}: {entry.get('model')} {entry.get('weights_revision')}"
                for other, entry in theirs.items()
            )
            raise BaselineError(
                f"baseline = {path} is of another model ({shown}); {name} serves {mine.get('model')} "
                f"{mine.get('weights_revision')}: give a result of that one"
            )
        pairs[name] = match
    return pairs


def compare(
    mine: Iterable[Mapping[str, Any]], before: Mapping[str, Any], pairs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each row with what it was; a change counts beyond the noise of both."""
    names = ("scenario", "label", "setting", "metric")
    theirs = {(row["instance"], *(row[name] for name in names)): row for row in before["rows"]}
    found = []
    for row in mine:
        old = theirs.get((pairs[row["instance"]], *(row[name] for name in names)))
        entry = {key: row[key] for key in ("instance", *names, "name", "unit", "better", "median")}
        if old is None:
            found.append({**entry, "verdict": NEW})
            continue
        was, noisy = float(old["median"]), row["noise"] + old["noise"]
        difference = row["median"] - was
        share = difference / was if was else (1.0 if difference else 0.0)
        verdict = SAME
        if abs(share) > noisy or (not was and difference):
            verdict = BETTER if (share > 0) == (row["better"] == "higher") else WORSE
        found.append(
            {**entry, "was": was, "change": round(share, 4), "noise": round(noisy, 4), "verdict": verdict}
        )
    return found


def settings_compared(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where a point has several settings: each beside the first, in one list."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in found:
        if row["setting"]:
            key = (row["instance"], row["scenario"], row["label"], row["metric"])
            groups.setdefault(key, []).append(row)
    made = []
    for members in groups.values():
        first = members[0]
        for other in members[1:]:
            share = (other["median"] - first["median"]) / first["median"] if first["median"] else 0.0
            beyond = abs(share) > first["noise"] + other["noise"]
            better = (share > 0) == (first["better"] == "higher")
            made.append(
                {
                    **{key: first[key] for key in ("instance", "scenario", "label", "name", "unit")},
                    "first": first["setting"], "first_median": first["median"], "second": other["setting"],
                    "second_median": other["median"], "change": round(share, 4),
                    "verdict": (BETTER if better else WORSE) if beyond else SAME,
                }
            )  # fmt: skip
    return made


def best_setting(found: Iterable[Mapping[str, Any]], instance: str) -> dict[str, Any] | None:
    """The setting of a sweep with the highest output, where it beats the planned one beyond noise."""
    mine = [row for row in found if row["instance"] == instance and row["scenario"] == "sweep"]
    output = [row for row in mine if row["metric"] == METRICS["sweep"][0][0]]
    if not output:
        return None
    best = max(output, key=lambda row: float(row["median"]))
    planned = next((row for row in output if row["setting"] == "as planned"), None)
    gain = (best["median"] - planned["median"]) / planned["median"] if planned and planned["median"] else 0.0
    sure = planned is not None and gain > best["noise"] + planned["noise"]
    return {
        "setting": best["setting"],
        "median": best["median"],
        "gain": round(gain, 4),
        "beyond_noise": sure,
    }


def failures(records: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {"instance": record["instance"], "point": record["point"]["key"], "why": str(record.get("why") or record.get("error"))}
        for record in records
        if record.get("error") or record.get("died") or not record.get("valid", True)
    ]  # fmt: skip


def best_lines(
    found: Iterable[Mapping[str, Any]], instance: str, records: Iterable[Mapping[str, Any]]
) -> list[str]:
    """The best of a sweep as lines for the inventory; a comment where nothing beats the plan."""
    best = best_setting(found, instance)
    if best is None:
        return []
    if not best["beyond_noise"]:
        return [f"# {instance}: nothing that was tried beats the plan beyond noise"]
    setting = next(
        record["point"]["server"]
        for record in records
        if record["point"]["scenario"] == "sweep" and record["point"].get("setting") == best["setting"]
    )
    lines = [
        f"# {best['median']:.1f} tokens/s, {best['gain']:+.1%} over the plan",
        "serve:",
        f"  {instance}:",
    ]
    for key, value in setting.items():
        if isinstance(value, Mapping):
            inner = ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items())
            lines.append(f"    {key}: {{{inner}}}")
        else:
            lines.append(f"    {key}: {_yaml(value)}")
    return lines


def _yaml(value: Any) -> str:
    return json.dumps(value)
