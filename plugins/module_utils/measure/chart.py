# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as inline SVG: no script, no network, prints as it looks, and says its numbers to a screen reader. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 16, 44
BAR, GAP = 22, 12
LABEL_LETTERS = 26
# Told apart by dash and mark too, not by colour alone.
COLOURS = ("#1261a0", "#c2410c", "#15803d", "#7e22ce", "#0f766e", "#a16207")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "10 4")


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    low: float
    high: float


def number(value: float) -> str:
    """Three digits that matter, and no more letters than needed."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def said_of(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "share" else f"{number(value)} {unit}"


def steps(most: float) -> list[float]:
    """Round numbers from zero up to the first that holds everything."""
    if most <= 0:
        return [0.0, 1.0]
    raw = most / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    return [step * count for count in range(math.ceil(most / step - 1e-9) + 1)]


def lines(title: str, series: Sequence[tuple[str, Sequence[Dot]]], x_name: str, y_name: str) -> str:
    """The spread of each point is a bar through it. The x axis is even in factors where sizes span them."""
    dots = [dot for _unused, members in series for dot in members]
    places = sorted({dot.x for dot in dots})
    ticks = steps(max(dot.high for dot in dots))
    wide = places[0] > 0 and places[-1] / places[0] > 8

    def scaled(value: float) -> float:
        return math.log(value) if wide else value

    first, last = scaled(places[0]), scaled(places[-1])
    span = last - first or 1.0

    def across(value: float) -> float:
        return LEFT + 12 + (scaled(value) - first) / span * (WIDTH - LEFT - RIGHT - 24)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / ticks[-1] * (HEIGHT - TOP - BOTTOM)

    legend = 18 if len(series) > 1 else 0
    said = "; ".join(
        f"{name}: " + ", ".join(f"{number(dot.x)} {number(dot.y)}" for dot in members)
        for name, members in series
    )
    parts = [_open(title, said, WIDTH, HEIGHT + legend)]
    parts += [_grid(up(tick), number(tick)) for tick in ticks]
    before = -100.0
    for place in places:
        middle = across(place)
        if middle - before > 34:
            parts.append(
                f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(place)}</text>'
            )
            before = middle
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle" class="axis">{escape(x_name)}</text>'
    )
    parts.append(_upright(y_name, HEIGHT))
    for index, (name, members) in enumerate(series):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        path = " ".join(f"{across(dot.x):.1f},{up(dot.y):.1f}" for dot in members)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        for dot in members:
            middle = across(dot.x)
            parts.append(
                f'<path d="M{middle:.1f} {up(dot.low):.1f}V{up(dot.high):.1f}" stroke="{colour}" stroke-width="5" opacity=".3"/>'
                f'<circle cx="{middle:.1f}" cy="{up(dot.y):.1f}" r="3.5" fill="{colour}">'
                f"<title>{escape(name)} {number(dot.x)}: {number(dot.y)} ({number(dot.low)} to {number(dot.high)})</title></circle>"
            )
        if legend:
            left = LEFT + index * 150
            parts.append(
                f'<path d="M{left} {HEIGHT + 8}h26" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
                f'<text x="{left + 32}" y="{HEIGHT + 12}">{escape(name)}</text>'
            )
    return "".join([*parts, "</svg>"])


def bars(title: str, items: Sequence[tuple[str, Dot]], unit: str) -> str:
    most = steps(max(dot.high for _unused, dot in items))[-1]
    height = TOP + len(items) * (BAR + GAP) + 8
    left, room = 190, WIDTH - 190 - 100
    said = "; ".join(f"{name}: {said_of(dot.y, unit)}" for name, dot in items)
    parts = [_open(title, said, WIDTH, height)]
    for index, (name, dot) in enumerate(items):
        top = TOP + index * (BAR + GAP)
        colour = COLOURS[index % len(COLOURS)]
        width = dot.y / most * room
        short = name if len(name) <= LABEL_LETTERS else name[: LABEL_LETTERS - 1] + "…"
        parts.append(
            f'<text x="{left - 8}" y="{top + 15}" text-anchor="end"><title>{escape(name)}</title>{escape(short)}</text>'
            f'<rect x="{left}" y="{top}" width="{max(1.0, width):.1f}" height="{BAR}" fill="{colour}" opacity=".85"/>'
            f'<path d="M{left + dot.low / most * room:.1f} {top + BAR / 2:.1f}H{left + dot.high / most * room:.1f}" '
            f'stroke="currentColor" stroke-width="2"/>'
            f'<text x="{left + max(width, dot.high / most * room) + 8:.1f}" y="{top + 15}">{escape(said_of(dot.y, unit))}</text>'
        )
    return "".join([*parts, "</svg>"])


def spark(title: str, values: Sequence[float]) -> str:
    """A course over time, small enough for a table."""
    width, height, most = 150, 28, max(values) or 1.0
    path = " ".join(
        f"{index / max(1, len(values) - 1) * (width - 4) + 2:.1f},{height - 3 - value / most * (height - 6):.1f}"
        for index, value in enumerate(values)
    )
    said = f"from {number(values[0])} to {number(values[-1])}, at most {number(max(values))}"
    head = _open(title, said, width, height, "spark")
    return f'{head}<polyline points="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="1.5"/></svg>'


def _open(title: str, said: str, width: int, height: float, kind: str = "chart") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>"
    )


def _grid(height: float, text: str) -> str:
    return (
        f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _upright(text: str, height: int) -> str:
    middle = (TOP + height - BOTTOM) / 2
    return f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle" class="axis">{escape(text)}</text>'
