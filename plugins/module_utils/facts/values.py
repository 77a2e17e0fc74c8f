# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What single values mean in the text that drivers and kernels print."""

from __future__ import annotations

import re

ABSENT = frozenset(
    {
        "",
        "-",
        "n/a",
        "na",
        "not supported",
        "not available",
        "unknown",
        "unknown error",
        "err!",
        "insufficient permissions",
        "no permission",
        "requested functionality has been deprecated",
        "function not found",
        "feature not supported",
        "gpu is lost",
        "gpu requires reset",
    }
)
UNREPORTED = frozenset({"n/a", "not supported", "not available"})
"""Words of a driver that works and has no such value, as on unified memory."""

TROUBLE = (
    ("gpu is lost", "gpu-lost"),
    ("gpu requires reset", "gpu-needs-reset"),
    ("unknown error", "gpu-unreadable"),
    ("err!", "gpu-unreadable"),
)
MOST_CHARACTERS = 8 * 1024 * 1024
"""Of the output of one tool: sixteen GPUs with all their processes print less than one."""
_LONGEST_VALUE = 64 * 1024
_TERMINAL_CODE = re.compile(r"\x1b?\[[0-9;]{1,8}m|\x1b\[[0-9;?]*[A-Za-z]")
_ON = frozenset({"enabled", "yes", "on", "active", "true"})
_OFF = frozenset({"disabled", "no", "off", "not active", "inactive", "false"})


def plain(text: str) -> str:
    """Without terminal codes, NULs, carriage returns and halves of surrogate pairs; never more than MOST_CHARACTERS."""
    whole = text[:MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return _TERMINAL_CODE.sub("", whole).replace("\x00", "").replace("\r\n", "\n")


def _word(value: str | None) -> str:
    return (value or "").strip().strip("[]").strip().lower()


def text(value: str | None) -> str:
    """The value, or "" where the source says that it has none."""
    return "" if _word(value) in ABSENT else (value or "").strip()


def unreported(value: str | None) -> bool:
    return _word(value) in UNREPORTED


def number(value: str | None) -> int | None:
    """The whole number at the start: `81920 MiB`, `16x`, `0`."""
    found = re.match(r"\s*(\d{1,15})(?!\d)", value or "", re.ASCII)
    return int(found.group(1)) if found else None


def mebibytes(value: str | None) -> int | None:
    """`81920 MiB` or `81920`; anything else behind the number is damage, and no size."""
    found = re.fullmatch(r"(\d{1,15}) ?(?:MiB)?", (value or "").strip(), re.ASCII)
    return int(found.group(1)) if found else None


def count(value: str | None) -> int | None:
    """A counter, which has no unit."""
    said = (value or "").strip()
    return int(said) if re.fullmatch(r"\d{1,15}", said, re.ASCII) else None


def flag(value: str | None) -> bool | None:
    word = _word(value)
    if word in _ON:
        return True
    return False if word in _OFF else None


def garbled(value: str | None) -> bool:
    """Whether something stands where yes, no or a word for "none" has to stand."""
    return bool(text(value)) and flag(value) is None


def undeprecated(value: str | None) -> str:
    """The value without a remark in brackets: `610.47 [Deprecated; will be removed ...]` is `610.47`."""
    said = (value or "").strip()
    remark = said.find("[") if not said.startswith("[") else -1
    if remark < 0:
        remark = said.lower().find("(deprecated")
    return said[:remark].strip() if remark > 0 else said


def trouble(value: str | None) -> str:
    """The fault that a value itself spells out, or ""."""
    word = _word(value)
    return next((code for phrase, code in TROUBLE if word.startswith(phrase)), "")


def pci_address(value: str | None) -> str:
    """As sysfs names it: `0000000F:01:00.0` is `000f:01:00.0`."""
    found = re.fullmatch(
        r"\s*(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-9a-f]))?\s*",
        (value or "").lower(),
    )
    if not found:
        return ""
    domain, bus, device, function = found.groups()
    return f"{int(domain or '0', 16):04x}:{bus}:{device}.{function or '0'}"


def version(value: str | None) -> str:
    """The first dotted number of a text."""
    found = re.search(r"(?<!\d)\d{1,9}(?:\.\d{1,9}){1,8}", (value or "")[:_LONGEST_VALUE], re.ASCII)
    return found.group(0) if found else ""


def labelled(text: str, separator: str = ":") -> list[tuple[str, str]]:
    """(label, value) of each line that has the separator; nothing runs over the end of its line."""
    parts = (line.partition(separator) for line in text.splitlines())
    return [(label.strip(), value.strip()) for label, found, value in parts if found]


def same_version(one: str, other: str) -> bool:
    """Compares as far as both go: NVML calls 590.48.01 `590.48`."""
    left, right = one.split("."), other.split(".")
    shared = min(len(left), len(right))
    return left[:shared] == right[:shared]
