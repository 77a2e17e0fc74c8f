# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acceptance test of all hosts as lines, as one HTML page that needs nothing else, and as data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import judge

STYLE = """
:root{color-scheme:light dark;--line:#8884;--bad:#b91c1c;--good:#15803d;--warn:#b45309}
body{font:15px/1.45 system-ui,sans-serif;max-width:1120px;margin:0 auto;padding:20px}
h1{font-size:1.5em;margin:0 0 .2em}h2{font-size:1.2em;margin:1.8em 0 .4em;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;margin:8px 0;font-variant-numeric:tabular-nums}
td,th{padding:3px 12px 3px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}.failed{color:var(--bad)}.warning{color:var(--warn)}.passed{color:var(--good)}
"""
HEADS = (
    "GPU", "result", "bf16 TFLOP/s", "copy GB/s", "read GB/s", "from host", "to host", "memory tested", "degrees C",
    "clock MHz", "power W",
)  # fmt: skip


def report(
    measured: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    hardware: Iterable[Mapping[str, Any]],
    partial: Iterable[str] = (),
) -> dict[str, Any]:
    """`measured`: host -> document of acceptance.py; `partial`: hosts whose NVLink does not join all GPUs."""
    entries, islands = list(hardware), set(partial)
    hosts = {}
    for host, document in sorted(measured.items()):
        expected = judge.Expectations.of(data, entry_of(document, entries), host not in islands)
        findings = judge.judge(document, expected) if document else [_silent()]
        hosts[host] = {
            "passed": judge.passed(findings),
            "findings": [item.to_dict() for item in findings],
            "measured": dict(document),
        }
    failed = [host for host, found in hosts.items() if not found["passed"]]
    return {
        "passed": not failed,
        "failures": len(failed),
        "lines": lines(hosts),
        "hosts": hosts,
        "html": html(hosts),
    }


def _silent() -> judge.Finding:
    return judge.Finding(
        "no-measurement", "host", "no measurement came back", "see the run above for its failure"
    )


def entry_of(document: Mapping[str, Any], hardware: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The hardware entry of the GPUs; none where they are not all of one kind that is known."""
    products = {str(gpu.get("product") or gpu.get("name") or "") for gpu in document.get("gpus") or ()}
    found = [entry for entry in hardware if products and products <= set(entry.get("products") or ())]
    return found[0] if found else None


def lines(hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    for host, one in hosts.items():
        gpus = one["measured"].get("gpus") or []
        verdict = "accepted" if one["passed"] else "NOT ACCEPTED"
        found.append(f"{host}  {len(gpus)} GPUs {verdict}, {one['measured'].get('seconds', 0):.0f} s")
        for gpu in gpus:
            found.append("  " + _line(gpu))
        reduced = (one["measured"].get("all_reduce") or {}).get("bus_gb_per_second")
        if reduced is not None:
            found.append(f"  all-reduce  {reduced:g} GB/s on the bus")
        for item in one["findings"]:
            mark = "FAILED " if item["severity"] == judge.FAILED else "WARNING"
            found.append(f"  {mark}  {item['subject']}: {item['what']} -> {item['fix']}")
    return found


def _line(gpu: Mapping[str, Any]) -> str:
    words = [judge.name_of(gpu)]
    for name, (_words, unit, _peak) in judge.RATES.items():
        value = judge.rate(gpu, name)
        if value is not None and name in ("matmul_bf16_tflops", "copy_gb_per_second"):
            words.append(f"{value:.4g} {unit}")
    memory, sensors = gpu.get("memory") or {}, gpu.get("sensors") or {}
    if memory:
        words.append(f"{memory.get('tested_mib', 0)} MiB tested")
    if sensors.get("temperature_max") is not None:
        words.append(f"{sensors['temperature_max']:g} C")
    return "  ".join(words)


def html(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>GPU acceptance test</title><style>{STYLE}</style></head><body><h1>GPU acceptance test</h1>",
    ]
    for host, one in hosts.items():
        kind, verdict = ("passed", "accepted") if one["passed"] else ("failed", "not accepted")
        parts.append(f'<h2>{escape(host)} <span class="{kind}">{verdict}</span></h2>')
        parts.append(_about(one["measured"]))
        parts.append(
            _table(HEADS, [_cells(gpu, one["findings"]) for gpu in one["measured"].get("gpus") or ()], 2)
        )
        parts.append(_findings(one["findings"]))
        parts.append(_links(one["measured"]))
    return "\n".join([*(part for part in parts if part), "</body></html>\n"])


def _about(document: Mapping[str, Any]) -> str:
    gpus = document.get("gpus") or [{}]
    first = gpus[0]
    words = [
        f"{len(gpus)} x {first.get('product') or first.get('name') or 'unknown'}",
        f"driver {first['driver']}" if first.get("driver") else "",
        f"torch {first['torch']}" if first.get("torch") else "",
        f"{document.get('seconds', 0):g} s",
    ]
    return f"<p>{escape(', '.join(word for word in words if word))}</p>"


def _cells(gpu: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> list[str]:
    mine = [item for item in findings if item["subject"] == judge.name_of(gpu)]
    worst = "passed"
    if mine:
        worst = judge.FAILED if any(item["severity"] == judge.FAILED for item in mine) else judge.WARNED
    memory, sensors = gpu.get("memory") or {}, gpu.get("sensors") or {}
    rates = [judge.rate(gpu, name) for name in judge.RATES]
    return [
        escape(str(gpu.get("index"))),
        f'<span class="{worst}">{worst}</span>',
        *("-" if value is None else f"{value:.4g}" for value in rates),
        f"{memory.get('tested_mib', 0)} MiB",
        *(_number(sensors.get(key)) for key in ("temperature_max", "sm_clock_median", "power_max")),
    ]


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "-"


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return ""
    rows = [
        [f'<span class="{item["severity"]}">{item["severity"]}</span>',
         *(escape(str(item[key])) for key in ("subject", "what", "fix"))]
        for item in findings
    ]  # fmt: skip
    return _table(("", "where", "what", "what to do"), rows)


def _links(document: Mapping[str, Any]) -> str:
    pairs = document.get("pairs") or []
    reduced = (document.get("all_reduce") or {}).get("bus_gb_per_second")
    said = f"<p>All-reduce: {reduced:g} GB/s on the bus.</p>" if reduced is not None else ""
    if not pairs:
        return said
    names = sorted({pair["from"] for pair in pairs})
    rate = {(pair["from"], pair["to"]): pair["gb_per_second"] for pair in pairs}
    rows = [
        [escape(str(one)), *(f"{rate[one, other]:g}" if (one, other) in rate else "-" for other in names)]
        for one in names
    ]
    return (
        said
        + "<p>Copies between GPUs, GB/s, from row to column:</p>"
        + _table(("", *map(str, names)), rows, 1)
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place >= numbers_from else ''}>{cell}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{row('th', heads)}</tr></thead><tbody>{body}</tbody></table>"
