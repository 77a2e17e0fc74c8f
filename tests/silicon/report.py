# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTML page of a run's JSON: stages, comparison, load, faults, with nothing from outside the file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

STYLE = (
    "body{font:14px system-ui;max-width:72em;margin:2em auto;color:#222}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left;vertical-align:top}th{background:#f3f3f3}"
    ".bad{background:#fbdcdc}.good{background:#e4f5e4}.unknown{background:#f6f1d8}pre{white-space:pre-wrap}"
)
MEGA = 1e6


def page(run: Mapping[str, Any]) -> str:
    parts = [f"<h1>{_text(run.get('title', 'Run on a GPU'))}</h1>"]
    parts.append(_pairs("Machine and software", run.get("machine", {})))
    parts.append(_stages(run.get("stages", {})))
    for name, stage in run.get("stages", {}).items():
        for title, rows in (stage.get("comparisons") or {}).items():
            parts.append(_comparison(f"{name}: {title}", rows))
        for title, rows in (stage.get("tables") or {}).items():
            parts.append(_table(f"{name}: {title}", rows))
        for title, values in (stage.get("values") or {}).items():
            parts.append(_pairs(f"{name}: {title}", values))
        if stage.get("error"):
            parts.append(f"<h3>{_text(name)}: failed</h3><pre>{_text(stage['error'])}</pre>")
    body = "\n".join(part for part in parts if part)
    return f"<!doctype html><meta charset=utf-8><title>GPU run</title><style>{STYLE}</style>\n{body}\n"


def summary(run: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal: each stage, and each comparison that failed."""
    lines = []
    for name, stage in run.get("stages", {}).items():
        lines.append(
            f"{stage['state']:8} {name:18} {stage['seconds']:7.1f} s  {stage.get('said', '')}".rstrip()
        )
        for rows in (stage.get("comparisons") or {}).values():
            lines += [
                f"         off: {item['what']}: planned {item['planned']}, real {item['real']}"
                + (f", {item['off']:+} %" if item.get("off") is not None else "")
                for item in rows
                if item["ok"] is False
            ]
    return lines


def _stages(stages: Mapping[str, Any]) -> str:
    rows = [
        {
            "stage": name,
            "result": item["state"],
            "seconds": f"{item['seconds']:.1f}",
            "": item.get("said", ""),
        }
        for name, item in stages.items()
    ]
    return _table("Stages", rows)


def _comparison(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for item in rows:
        kind = {True: "good", False: "bad", None: "unknown"}[item["ok"]]
        off = "" if item.get("off") is None else f"{item['off']:+.2f} %"
        values = (item["what"], _amount(item["planned"]), _amount(item["real"]), off)
        cells.append(f"<tr class={kind}>{''.join(f'<td>{_text(value)}</td>' for value in values)}</tr>")
    head = "<tr><th>what<th>planned<th>real<th>off</tr>"
    return f"<h3>{_text(title)}</h3><table>{head}{''.join(cells)}</table>" if cells else ""


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for item in rows for name in item))
    head = "".join(f"<th>{_text(name)}" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(item.get(name, str()))}' for name in names)}</tr>" for item in rows
    )
    return f"<h3>{_text(title)}</h3><table><tr>{head}</tr>{body}</table>"


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    body = "".join(f"<tr><th>{_text(name)}<td>{_text(value)}</tr>" for name, value in values.items())
    return f"<h3>{_text(title)}</h3><table>{body}</table>" if body else ""


def _amount(value: Any) -> Any:
    big = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= MEGA * 100
    return f"{value / MEGA:,.0f} million" if big else value


def _text(value: Any) -> str:
    return html.escape(str(value))
