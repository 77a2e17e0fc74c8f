# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as one HTML page that needs nothing else, and as Markdown. Pure."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import categories, chart
from .results import BETTER, NEW, SAME, WORSE
from .samples import GPU_NAMES

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--bad:#b91c1c;--good:#15803d}
body{font:15px/1.45 system-ui,sans-serif;max-width:1120px;margin:0 auto;padding:20px}
h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.2em;margin:1.8em 0 .4em;border-bottom:1px solid var(--line)}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}
.card{flex:1 1 240px;border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.card b{display:block;font-size:1.25em}.card.bad{border-color:var(--bad)}.card.bad b{color:var(--bad)}
.card.good b{color:var(--good)}
table{border-collapse:collapse;margin:8px 0;font-variant-numeric:tabular-nums;max-width:100%}
td,th{padding:3px 10px 3px 0;text-align:left;border-bottom:1px solid var(--soft);vertical-align:top}
td.n,th.n{text-align:right}tr.worse{background:#b91c1c22}tr.better{background:#15803d1c}
.worse td:last-child{color:var(--bad);font-weight:600}.better td:last-child{color:var(--good)}
.charts{display:flex;flex-wrap:wrap;gap:18px}figure{margin:0;flex:1 1 440px;max-width:540px}
figcaption{font-weight:600;margin-bottom:2px}svg.chart{width:100%;height:auto}svg.spark{width:150px;height:28px}
svg text{font:12px system-ui,sans-serif;fill:currentColor}svg .axis{opacity:.75}svg .grid{stroke:var(--line);stroke-width:1}
pre,code{font:13px/1.4 ui-monospace,monospace}pre{overflow:auto;background:var(--soft);padding:10px;border-radius:6px}
details{margin:8px 0}summary{cursor:pointer}.soft{opacity:.75}
@media print{details{display:block}}
"""
X_NAMES = {"context": "tokens of the prompt", "concurrency": "streams at once"}
VERDICTS = {SAME: "same", BETTER: "better", WORSE: "WORSE", NEW: "new"}


def html(result: Mapping[str, Any]) -> str:
    titles = result["titles"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(_title(result))}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(_title(result))}</h1><p class=soft>{escape(_when(result))}</p>",
        _cards(result),
        _since(result),
        _failed(result),
    ]
    for instance in result["instances"]:
        for scenario in titles:
            mine = [
                row for row in result["rows"] if (row["instance"], row["scenario"]) == (instance, scenario)
            ]
            if mine:
                parts.append(_scenario(result, instance, scenario, mine))
    parts += [_best(result), _skipped(result), _about(result), _machine(result), "</body></html>"]
    return "\n".join(part for part in parts if part)


def _title(result: Mapping[str, Any]) -> str:
    names = ", ".join(f"{entry['model']} on {entry['host']}" for entry in result["instances"].values())
    return f"Measured: {names}"


def _when(result: Mapping[str, Any]) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(result["made"]))
    return (
        f"{moment}; profile {result['profile']}, {result['blocks']} blocks, seed {result['seed']}; "
        f"{len(result['records'])} points; baremetal.sglang {result['collection']}"
    )


def right(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """(kind, headline, words): is it right?"""
    shares = [row for row in result["rows"] if row["scenario"] == "accuracy"]
    broken = [row for row in result["rows"] if row["metric"] == "conversation.bad_calls" and row["median"]]
    failed = len(result["failures"])
    checked = result.get("verified") or {}
    words = [f"{row['label']} {row['median']:.0%}" for row in shares]
    words += [f"{number:g} broken tool calls" for number in [sum(row["median"] for row in broken)] if number]
    words += (
        [f"{checked['failed']} of {checked['passed'] + checked['failed']} checks failed"]
        if checked.get("failed")
        else []
    )
    if failed or broken or checked.get("failed"):
        points = "1 point" if failed == 1 else f"{failed} points"
        return "bad", f"{points} with failures" if failed else "Wrong answers", "; ".join(words)
    if not shares:
        return "", "Answers not judged", "no accuracy set was run"
    return "good", "Every request was answered", "; ".join(words)


def fast(result: Mapping[str, Any]) -> tuple[str, str, str]:
    def best(metric: str) -> Mapping[str, Any] | None:
        mine = [row for row in result["rows"] if row["metric"] == metric and row["scenario"] != "sweep"]
        return max(mine, key=lambda row: float(row["median"])) if mine else None

    one, whole = best("decode_tokens_per_second.median"), best("output_tokens_per_second")
    if not one and not whole:
        return "", "Speed not measured", ""
    head = f"{chart.number(one['median'])} tokens/s" if one else "-"
    words = "one stream decodes at most so fast"
    if whole:
        words += f"; all streams together {chart.number(whole['median'])} tokens/s ({whole['scenario']}, {whole['label']})"
    return "", head, words


def since(result: Mapping[str, Any]) -> tuple[str, str, str]:
    compared = result.get("comparison") or []
    if not result.get("baseline"):
        return "", "No comparison", "-e baseline=FILE compares with an earlier results.json"
    worse = [row for row in compared if row["verdict"] == WORSE]
    better = [row for row in compared if row["verdict"] == BETTER]
    words = f"{len(better)} better, {len(compared) - len(worse) - len(better)} the same or new, against {result['baseline']}"
    if worse:
        return "bad", f"{len(worse)} slower beyond noise", words
    return "good", "Nothing is worse", words


def _cards(result: Mapping[str, Any]) -> str:
    cards = [
        ("Is it right?", right(result)),
        ("How fast is it?", fast(result)),
        ("What changed?", since(result)),
    ]
    return '<div class="cards">' + "".join(
        f'<div class="card {kind}">{name}<b>{escape(head)}</b>{escape(words)}</div>' for name, (kind, head, words) in cards
    ) + "</div>"  # fmt: skip


def _table(
    heads: Sequence[str], body: Iterable[tuple[str, Sequence[str]]], numeric: Sequence[int] = ()
) -> str:
    def cells(kind: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=n' if index in numeric else ''}>{value}</{kind}>"
            for index, value in enumerate(values)
        )

    lines = "".join(f'<tr class="{kind}">{cells("td", values)}</tr>' for kind, values in body)
    return f"<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>{lines}</tbody></table>"


def _since(result: Mapping[str, Any]) -> str:
    compared = result.get("comparison") or []
    changed = sorted(
        (row for row in compared if row["verdict"] in (WORSE, BETTER)),
        key=lambda row: (row["verdict"] != WORSE, row["scenario"]),
    )
    if not changed:
        return ""
    rows = [
        (
            row["verdict"],
            [escape(row["instance"]), escape(result["titles"][row["scenario"]]), escape(_place(row)), escape(row["name"]),
             chart.number(row["was"]), escape(chart.said_of(row["median"], row["unit"])), f"{row['change']:+.1%}",
             f"±{row['noise']:.1%}", VERDICTS[row["verdict"]]],
        )
        for row in changed
    ]  # fmt: skip
    heads = ("instance", "scenario", "point", "quantity", "was", "is", "change", "noise", "")
    return "<h2>Changed beyond noise</h2>" + _table(heads, rows, (4, 5, 6, 7))


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['label']}, {row['setting']}" if row["setting"] else str(row["label"])


def _failed(result: Mapping[str, Any]) -> str:
    if not result["failures"]:
        return ""
    rows = [
        ("worse", [escape(one["instance"]), escape(one["point"]), escape(one["why"])])
        for one in result["failures"]
    ]
    return "<h2>Failures</h2>" + _table(("instance", "point", "why"), rows)


def _scenario(result: Mapping[str, Any], instance: str, scenario: str, mine: list[Mapping[str, Any]]) -> str:
    figures = []
    for metric in dict.fromkeys(row["metric"] for row in mine):
        rows = [row for row in mine if row["metric"] == metric]
        name = f"{rows[0]['name']} ({rows[0]['unit']})"
        if scenario in X_NAMES and len(rows) > 1:
            series = [
                (setting or "now", [_dot(row) for row in rows if row["setting"] == setting])
                for setting in dict.fromkeys(row["setting"] for row in rows)
            ]
            before = _before(result, rows)
            series += [("before", before)] if before else []
            drawing = chart.lines(name, series, X_NAMES[scenario], rows[0]["unit"])
        else:
            drawing = chart.bars(name, [(_place(row), _dot(row)) for row in rows], rows[0]["unit"])
        figures.append(f"<figure><figcaption>{escape(name)}</figcaption>{drawing}</figure>")
    several = len(result["instances"]) > 1
    head = escape(result["titles"][scenario]) + (
        f" <span class=soft>{escape(instance)}</span>" if several else ""
    )
    return f'<h2>{head}</h2><div class="charts">{"".join(figures)}</div>' + _settings(result, instance, scenario) + _numbers(
        result, instance, scenario, mine
    )  # fmt: skip


def _dot(row: Mapping[str, Any]) -> chart.Dot:
    return chart.Dot(float(row["x"]), row["median"], row["low"], row["high"])


def _before(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[chart.Dot]:
    """The same points of the baseline."""
    names = ("instance", "scenario", "label", "setting", "metric")
    was = {tuple(row[name] for name in names): row.get("was") for row in result.get("comparison") or []}
    known = [(row, was.get(tuple(row[name] for name in names))) for row in rows]
    return [chart.Dot(float(row["x"]), value, value, value) for row, value in known if value is not None]


def _settings(result: Mapping[str, Any], instance: str, scenario: str) -> str:
    mine = [one for one in result["settings"] if (one["instance"], one["scenario"]) == (instance, scenario)]
    if not mine:
        return ""
    rows = [
        (one["verdict"] if one["verdict"] != SAME else "",
         [escape(one["name"]), f"{escape(one['first'])}: {chart.number(one['first_median'])}",
          f"{escape(one['second'])}: {chart.number(one['second_median'])}", f"{one['change']:+.1%}", VERDICTS[one["verdict"]]])
        for one in mine
    ]  # fmt: skip
    return _table(("quantity", "one", "other", "change", ""), rows, (3,))


def _numbers(result: Mapping[str, Any], instance: str, scenario: str, mine: list[Mapping[str, Any]]) -> str:
    rows = [
        ("", [escape(_place(row)), escape(row["name"]), escape(chart.said_of(row["median"], row["unit"])),
              f"{chart.number(row['low'])} to {chart.number(row['high'])}", ", ".join(chart.number(v) for v in row["values"])])
        for row in mine
    ]  # fmt: skip
    table = _table(("point", "quantity", "median", "nine of ten", "blocks"), rows, (2,))
    records = [
        record
        for record in result["records"]
        if record["instance"] == instance and record["point"]["scenario"] == scenario
    ]
    more = [("", _record_cells(record)) for record in records if "requests" in record]
    heads = (
        "point",
        "requests",
        "prompt, answer (tokens)",
        "server's count",
        "client",
        "GPU busy",
        "host CPU",
        "remarks",
    )
    wrong = "".join(
        f"<p>{escape(item['ask'])} <span class=soft>{escape(item['problem'])}</span></p>"
        for record in records
        for item in record.get("accuracy", {}).get("wrong", [])
    )
    details = _table(heads, more)
    names, shares = categories.table(records)
    details += _table(names, [("", row) for row in shares], (1,)) if shares else ""
    return f"<details><summary>Numbers</summary>{table}{details}{wrong}</details>"


def _record_cells(record: Mapping[str, Any]) -> list[str]:
    requests, server, client = record["requests"], record.get("server", {}), record.get("client", {})
    failed = ", ".join(f"{count} {name}" for name, count in requests["failed"].items())
    lengths = [record.get(name) or {} for name in ("prompt_length", "output_length")]
    samples = record.get("samples", {})
    off = f"{server['off']:+.2%}" if server.get("off") is not None else "-"
    return [
        escape(record["point"]["key"]),
        f"{requests['good']} of {requests['sent']}" + (f", {escape(failed)}" if failed else ""),
        ", ".join(chart.number(one["median"]) if one else "-" for one in lengths),
        off,
        f"{client['cpu_share']:.0%}, {client['lag_p99_ms']:.1f} ms late" if client else "-",
        _spark(samples, "gpu"),
        _spark(samples, "host"),
        escape("; ".join([*record.get("remarks", []), *([record["why"]] if record.get("why") else [])])),
    ]


def _spark(samples: Mapping[str, Any], what: str) -> str:
    series = samples.get("series", [])
    if what == "host":
        values = [float(entry["host_cpu_percent"]) for entry in series if "host_cpu_percent" in entry]
    else:
        busy = GPU_NAMES[1]
        values = [
            sum(gpu.get(busy, 0.0) for gpu in entry["gpus"]) / len(entry["gpus"])
            for entry in series
            if entry.get("gpus")
        ]
    if not values:
        return "-"
    return f"{chart.spark(what, values)} {sum(values) / len(values):.0f} %"


def _best(result: Mapping[str, Any]) -> str:
    lines = result.get("best") or []
    if not lines:
        return ""
    return "<h2>Best setting of the sweep</h2><pre>" + escape("\n".join(lines)) + "</pre>"


def _skipped(result: Mapping[str, Any]) -> str:
    if not result["skipped"]:
        return ""
    rows = [
        ("", [escape(one["instance"]), escape(result["titles"][one["scenario"]]), escape(one["why"])])
        for one in result["skipped"]
    ]
    return "<h2>Not measured</h2>" + _table(("instance", "scenario", "why"), rows)


def _about(result: Mapping[str, Any]) -> str:
    parts = ["<h2>What was measured</h2>"]
    for name, entry in result["instances"].items():
        rows = [("", [escape(key.replace("_", " ")), escape(str(value))]) for key, value in entry.items()
                if key not in ("argv", "environment_variables", "plan")]  # fmt: skip
        words = "\n".join(f"{key}={value}" for key, value in entry["environment_variables"].items())
        parts.append(
            f"<h3>{escape(name)}</h3>{_table(('', ''), rows)}"
            f"<details><summary>Server command</summary><pre>{escape(shlex.join(entry['argv']))}\n\n{escape(words)}</pre></details>"
            f"<details><summary>Plan</summary><pre>{escape(json.dumps(entry['plan'], indent=1, sort_keys=True))}</pre></details>"
        )
    return "".join(parts)


def _machine(result: Mapping[str, Any]) -> str:
    shown = json.dumps(result["parameters"], indent=1, sort_keys=True)
    return (
        f"<details open><summary>Command</summary><pre>{escape(result['command'])}</pre></details>"
        f"<details><summary>Parameters of the scenarios</summary><pre>{escape(shown)}</pre></details>"
        "<p class=soft>Tokens are the server's own count (usage), compared with its counters for each point. Time per "
        "token is (last token - first token) / (tokens - 1). Medians of blocks; bars show where nine of ten repetitions of "
        "the median lie.</p>"
    )


def markdown(result: Mapping[str, Any]) -> str:
    lines = [f"# {_title(result)}", "", _when(result), ""]
    for name, (_kind, head, words) in (
        ("Is it right?", right(result)), ("How fast is it?", fast(result)), ("What changed?", since(result)),
    ):  # fmt: skip
        lines.append(f"- **{name}** {head}. {words}".rstrip())
    worse = [row for row in result.get("comparison") or [] if row["verdict"] == WORSE]
    if worse:
        lines += [
            "",
            "## Slower beyond noise",
            "",
            "| scenario | point | quantity | was | is | change |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {result['titles'][row['scenario']]} | {_place(row)} | {row['name']} | {chart.number(row['was'])} | "
            f"{chart.said_of(row['median'], row['unit'])} | {row['change']:+.1%} |"
            for row in worse
        ]
    if result["failures"]:
        lines += ["", "## Failures", ""] + [
            f"- {one['instance']} {one['point']}: {one['why']}" for one in result["failures"]
        ]
    for scenario, title in result["titles"].items():
        mine = [row for row in result["rows"] if row["scenario"] == scenario]
        if mine:
            lines += [
                "",
                f"## {title}",
                "",
                "| instance | point | quantity | median | nine of ten |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {row['instance']} | {_place(row)} | {row['name']} | {chart.said_of(row['median'], row['unit'])} | "
                f"{chart.number(row['low'])} to {chart.number(row['high'])} |"
                for row in mine
            ]
            if scenario == "accuracy":
                lines += categories.lines(result["records"])
    if result.get("best"):
        lines += ["", "## Best setting of the sweep", "", "```yaml", *result["best"], "```"]
    if result["skipped"]:
        lines += ["", "## Not measured", ""]
        lines += [
            f"- {one['instance']}, {result['titles'][one['scenario']]}: {one['why']}"
            for one in result["skipped"]
        ]
    return "\n".join(lines) + "\n"
