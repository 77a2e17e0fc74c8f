# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurements between hosts: who meets whom, and what the figures say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .nccl_log import problems, read

Plans = Mapping[str, Mapping[str, Any]]
"""Host -> its plan."""
BYE = ""
CORNER = "from -> to"
# One of them going out does not make a pattern: a host is blamed when all its links are bad.
LEAST_LINKS = 2
UNITS = {"bandwidth": "Gb/s", "latency": "us", "tcp": "Gb/s"}
TITLES = {
    "bandwidth": "RDMA write, Gb/s, all ports of a host at once",
    "latency": "RDMA write latency, microseconds",
    "tcp": "TCP, Gb/s: what would be left without RDMA",
}


def rounds(hosts: Iterable[str]) -> list[list[tuple[str, str]]]:
    """Everybody meets everybody once, nobody twice in a round: N-1 rounds for N hosts, N for an odd number."""
    ring = sorted(hosts)
    if len(ring) % 2:
        ring.append(BYE)
    found = []
    for _round in range(len(ring) - 1):
        half = len(ring) // 2
        pairs = zip(ring[:half], reversed(ring[half:]))
        found.append([pair for pair in pairs if BYE not in pair])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found


def seconds_a_match(bounds: Mapping[str, float], count: int) -> float:
    """The more is measured, the shorter: both directions of each round share the budget."""
    return min(float(bounds["most"]), max(float(bounds["least"]), bounds["budget"] / max(2 * count, 1)))


def groups(plans: Plans) -> list[list[str]]:
    """Hosts that serve together, directly or through another instance."""
    found: list[set[str]] = []
    for host, plan in plans.items():
        if not plan.get("fabric", {}).get("devices"):
            continue
        mine = {host, *(name for name in plan["fabric"]["members"] if name in plans)}
        apart = []
        for group in found:
            if group & mine:
                mine |= group
            else:
                apart.append(group)
        found = [*apart, mine]
    return sorted(sorted(group) for group in found if len(group) > 1)


def specification(plans: Plans, host: str, patience: float, token: str) -> dict[str, Any]:
    """What gate.py of one host is given; {} where it has nobody to measure with. `token`: hex digits, new in each run."""
    group = next((group for group in groups(plans) if host in group), [])
    if not group:
        return {}
    matches = rounds(group)
    gates = plans[group[0]]["fabric"]["gates"]
    return {
        "me": host,
        "token": token,
        "hosts": {
            name: {
                "address": plans[name]["fabric"]["rendezvous"]["address"],
                "devices": [
                    {key: device[key] for key in ("name", "port", "address", "link_layer", "gid_types")}
                    for device in plans[name]["fabric"]["devices"]
                ],
            }
            for name in group
        },
        "rounds": [[list(pair) for pair in pairs] for pairs in matches],
        "measures": ["bandwidth", "latency", "tcp"],
        "settings": {
            **{
                key: gates[key]
                for key in ("ports", "message_bytes", "latency_iterations", "tcp_seconds", "tcp_streams")
            },
            "seconds": seconds_a_match(gates["seconds"], len(matches)),
            "patience": patience,
        },
    }


@dataclass(frozen=True)
class Cell:
    """One direction of one pair."""

    value: float | None = None
    parts: tuple[tuple[str, float], ...] = ()
    error: str = ""
    bad: bool = False

    def words(self) -> str:
        if self.value is None:
            return "failed" if self.error else "-"
        return f"{self.value:.{1 if self.value >= 1 else 3}f}" + (" !" if self.bad else "")


Grid = dict[tuple[str, str], Cell]


@dataclass
class Verdict:
    hosts: list[str]
    grids: dict[str, Grid]
    gates: dict[str, float | None]
    problems: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """Figures of all members together."""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "text": text(self),
            "html": html(self),
            "seconds": self.seconds,
        }


def judge(reports: Mapping[str, Mapping[str, Any]], plans: Plans) -> Verdict:
    """`reports`: host -> what its gate.py printed, or {error} where it did not run."""
    hosts = sorted(name for group in groups(plans) for name in group)
    rows = [row for report in reports.values() for row in report.get("rows", ())]
    gates = {host: plans[host]["fabric"]["gates"] for host in hosts}
    verdict = Verdict(
        hosts, {}, {}, seconds=max([float(r.get("seconds", 0)) for r in reports.values()] or [0])
    )
    silent = {host for host in hosts if reports.get(host, {}).get("error")}
    verdict.problems += [
        f"{host}: its part of the measurements did not run: {reports[host]['error']}"
        for host in sorted(silent)
    ]
    for kind, limit in (("bandwidth", "bandwidth_gbps"), ("latency", "latency_us"), ("tcp", "")):
        of_pair = {(first, second): _gate(gates, first, second, limit) for first in hosts for second in hosts}
        known = [value for value in of_pair.values() if value is not None]
        verdict.gates[kind] = min(known) if known else None
        grid: Grid = {}
        for row in rows:
            pair = (row["from"], row["to"])
            if row["kind"] == kind or (row["kind"] == "" and kind == "bandwidth"):
                grid[pair] = _cell(row, kind, of_pair.get(pair))
                if row["kind"] == "":
                    grid[pair[::-1]] = grid[pair]
        verdict.grids[kind] = grid
        if limit:
            verdict.problems += _problems(kind, grid, hosts, of_pair, gates, plans, silent)
    for host in hosts:
        _judge_collective(verdict, host, reports.get(host, {}).get("collective") or {}, plans[host]["fabric"])
    return verdict


def _judge_collective(
    verdict: Verdict, host: str, report: Mapping[str, Any], fabric: Mapping[str, Any]
) -> None:
    """all_gather and all_reduce over all members, and NCCL's own word for its transport."""
    if not report:
        return
    if report.get("error"):
        verdict.problems.append(f"{host}: NCCL over all members did not run: {report['error']}")
        return
    transport = read(report.get("log", ()))
    planned = [device["name"] for device in fabric["devices"]]
    verdict.problems += [f"{host}: {item}" for item in problems(transport, planned, fabric["sockets"])]
    rows = report.get("rows", ())
    for kind in ("all_gather", "all_reduce"):
        mine = [row for row in rows if row.get("kind") == kind]
        if mine:
            shown = ", ".join(f"{row['mib']} MiB {row['gbyte']:.3g}" for row in mine)
            verdict.words.append(f"NCCL {kind}, bus bandwidth in GB/s: {shown}")
    gate = fabric["gates"]["collective_gbyte"]
    best = max((row["gbyte"] for row in rows if row.get("kind") == "all_gather"), default=None)
    if gate is not None and best is not None and best < gate:
        sockets = fabric["gates"]["socket_gbyte"]
        like = "; this is what a fallback to sockets looks like" if sockets and best < 1.25 * sockets else ""
        verdict.problems.append(
            f"NCCL all_gather over all members: {best:.3g} GB/s, the gate is {gate:g}{like}"
        )


def collective(plan: Mapping[str, Any], host: str, backend: str = "nccl") -> dict[str, Any]:
    """What collective.py of one host is given; {} where no instance spans GPU hosts over RDMA."""
    for instance in plan.get("instances", {}).values():
        parallel = instance["parallel"]
        if parallel["nnodes"] < 2 or instance["device"] != "cuda" or not parallel["rdma_devices"][host]:
            continue
        gpus = len(instance["gpus"])
        names = ("NCCL_", "GLOO_", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
        return {
            "python": f"{instance['environment']['path']}/bin/python",
            "backend": backend,
            "head": parallel["addresses"][parallel["hosts"][0]],
            "port": plan["fabric"]["gates"]["ports"]["collective"],
            "processes": gpus,
            "first_rank": parallel["node_rank"] * gpus,
            "world": parallel["nnodes"] * gpus,
            "mib": list(plan["fabric"]["gates"]["collective_mib"]),
            "environment": {
                item["name"]: item["value"]
                for item in instance["environment_variables"]
                if item["name"].startswith(names)
            },
        }
    return {}


def _gate(gates: Mapping[str, Any], first: str, second: str, limit: str) -> float | None:
    """Of two hosts that differ, the lower one: no link is faster than its slower end."""
    values = [gates[host].get(limit) for host in (first, second) if limit]
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return max(known) if limit == "latency_us" else min(known)


def _cell(row: Mapping[str, Any], kind: str, gate: float | None) -> Cell:
    parts = tuple((item["name"], float(item["value"])) for item in row.get("devices", ()) if "value" in item)
    errors = [
        row.get("error", ""),
        *(f"{i['name']}: {i['error']}" for i in row.get("devices", ()) if "error" in i),
    ]
    error = "; ".join(item for item in errors if item)
    if not parts:
        return Cell(error=error or "nothing was measured", bad=kind != "tcp")
    values = [value for _name, value in parts]
    value = max(values) if kind == "latency" else sum(values)
    bad = gate is not None and (value > gate if kind == "latency" else value < gate)
    return Cell(value, parts, error, bad or (bool(error) and kind != "tcp"))


def _problems(
    kind: str,
    grid: Grid,
    hosts: list[str],
    of_pair: Mapping[tuple[str, str], float | None],
    gates: Mapping[str, Mapping[str, Any]],
    plans: Plans,
    silent: set[str],
) -> list[str]:
    bad = {pair for pair, cell in grid.items() if cell.bad and not set(pair) & silent}
    # A tie of two hosts that have only each other stays the fault of the link.
    guilty = [host for host in hosts if host not in silent and _all_bad(host, grid, bad)]
    innocent = {host for host in hosts if host not in guilty}
    if not innocent and len(hosts) > LEAST_LINKS:
        sample = grid[min(bad)]
        return [f"every link is bad ({_figures(sample, kind)}{_against(of_pair[min(bad)], kind, sample)}): the switch, "
                f"its MTU, or a setting that all hosts share{_signature(kind, sample, hosts[0], gates, plans)}"]  # fmt: skip
    found = []
    for host in guilty:
        mine = sorted(pair for pair in bad if host in pair)
        worst = _worst(mine, grid, kind)
        cell = grid[worst]
        advice = "" if cell.value is None else "; look at its cable, its switch port, then the host itself"
        found.append(
            f"{host}: every link of it is bad, such as {worst[0]} -> {worst[1]}: {_figures(cell, kind)}"
            f"{_against(of_pair[worst], kind, cell)}{advice}{_signature(kind, cell, host, gates, plans)}"
        )
    for pair in sorted(bad):
        if set(pair) & set(guilty):
            continue
        cell, back = grid[pair], grid.get(pair[::-1], Cell())
        if back.bad and pair > pair[::-1]:
            continue
        way = "in both directions" if back.bad else "in this direction only"
        advice = "" if cell.value is None else "; look at the cable and the ports between the two"
        found.append(
            f"{pair[0]} -> {pair[1]}: {_figures(cell, kind)}{_against(of_pair[pair], kind, cell)}, {way}{advice}"
            f"{_signature(kind, cell, pair[0], gates, plans)}"
        )
    return found


def _all_bad(host: str, grid: Grid, bad: set[tuple[str, str]]) -> bool:
    """Bad to or from every other, and there are enough others to tell."""
    others = {name for pair in grid if host in pair for name in pair} - {host}
    hit = {name for pair in bad if host in pair for name in pair} - {host}
    return len(others) >= LEAST_LINKS and hit == others


def _worst(pairs: list[tuple[str, str]], grid: Grid, kind: str) -> tuple[str, str]:
    sign = -1 if kind == "latency" else 1
    return min(pairs, key=lambda pair: (sign * (grid[pair].value or 0.0), pair))


def _figures(cell: Cell, kind: str) -> str:
    if cell.value is None:
        return cell.error
    shown = f"{cell.value:.3g} {UNITS[kind]}"
    if len(cell.parts) > 1:
        shown += f" ({', '.join(f'{name} {value:.3g}' for name, value in cell.parts)})"
    return f"{shown}; {cell.error}" if cell.error else shown


def _against(gate: float | None, kind: str, cell: Cell) -> str:
    return "" if gate is None or cell.value is None else f", the gate is {gate:g} {UNITS[kind]}"


def _signature(kind: str, cell: Cell, host: str, gates: Mapping[str, Mapping[str, Any]], plans: Plans) -> str:
    """A link that says its full rate and moves a tenth of it has a defect that is known, with one cure."""
    rates = [device.get("rate_gbps") or 0 for device in plans[host]["fabric"]["devices"]]
    if kind != "bandwidth" or cell.value is None or not rates:
        return ""
    for defect in gates[host].get("defects", ()):
        least, most = min(defect["moves_gbps"]), max(defect["moves_gbps"])
        if least <= cell.value <= most and min(rates) >= defect["link_gbps"]:
            said = f"The link says {min(rates):g} Gb/s and moves {least:g} to {most:g}"
            return f". {said}: {defect['what']}"
    return ""


def text(verdict: Verdict) -> str:
    """One table a measure, sender by row, receiver by column."""
    lines: list[str] = []
    for kind, grid in verdict.grids.items():
        if not grid:
            continue
        gate = verdict.gates.get(kind)
        lines.append(TITLES[kind] + (f" (gate {gate:g})" if gate is not None else ""))
        width = max(9, *(len(host) + 2 for host in verdict.hosts))
        label = max(len(CORNER), *(len(host) for host in verdict.hosts))
        lines.append(f"{CORNER:<{label}}" + "".join(f"{host:>{width}}" for host in verdict.hosts))
        for first in verdict.hosts:
            cells = [grid.get((first, second), Cell()).words() for second in verdict.hosts]
            lines.append(f"{first:<{label}}" + "".join(f"{cell:>{width}}" for cell in cells))
        lines.append("")
    lines += verdict.words
    if verdict.problems:
        lines += [f"BELOW THE GATE  {problem}" for problem in verdict.problems]
    else:
        lines.append(f"all links pass, measured in {verdict.seconds:.0f} s")
    return "\n".join(lines)


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0 2em}td,th{border:1px solid #ccc;padding:.3em .7em;text-align:right}"
    "th{background:#f4f4f4}td.bad{background:#b3261e;color:#fff;font-weight:bold}td.good{background:#e3f3e6}"
    "li{margin:.3em 0}"
)


def html(verdict: Verdict) -> str:
    """One file without anything to load."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Fabric</title><style>{STYLE}</style><h1>Fabric</h1>",
    ]
    if verdict.problems:
        parts.append("<ul>" + "".join(f"<li>{escape(item)}</li>" for item in verdict.problems) + "</ul>")
    else:
        parts.append(f"<p>All links pass. Measured in {verdict.seconds:.0f} s.</p>")
    parts += [f"<p>{escape(item)}</p>" for item in verdict.words]
    for kind, grid in verdict.grids.items():
        if not grid:
            continue
        gate = verdict.gates.get(kind)
        title = TITLES[kind] + (f" (gate {gate:g})" if gate is not None else "")
        head = "".join(f"<th scope=col>{escape(host)}</th>" for host in verdict.hosts)
        parts.append(f"<h2>{escape(title)}</h2><table><tr><th>{escape(CORNER)}</th>{head}</tr>")
        for first in verdict.hosts:
            cells = "".join(_html_cell(grid.get((first, second))) for second in verdict.hosts)
            parts.append(f"<tr><th scope=row>{escape(first)}</th>{cells}</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def _html_cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    shown = "; ".join(
        [*(f"{name}: {value:.4g}" for name, value in cell.parts), *([cell.error] if cell.error else [])]
    )
    kind = "bad" if cell.bad else "good"
    return f'<td class={kind} title="{escape(shown, quote=True)}">{escape(cell.words())}</td>'
