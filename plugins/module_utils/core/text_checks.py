# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What text must look like that ends in files which programs of root read: units, rules, network configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Control characters, the separators that some programs take for ends of lines, and halves of characters.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?\Z")
SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,127}\Z")
NETDEV = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}\Z")
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
PATH = re.compile(r"(?:/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+\Z")
FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
SECRET_NAME = re.compile(
    r"(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API|ACCESS|PRIVATE|SECRET|AUTH)?_?KEY)\Z",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    # A password in an address, a key as several services issue them, a key in PEM.
    r"[A-Za-z][A-Za-z0-9+.-]*://[^/@\s]*:[^/@\s]+@|(?:hf_|sk-|ghp_|glpat-|AKIA)[A-Za-z0-9_-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def control_characters(value: Any, place: str, lines: bool = False) -> Iterator[str]:
    """Places of a value, keys included, that hold a control character; `lines` allows tabs and ends of lines."""
    if isinstance(value, str):
        if (BUT_LINES if lines else CONTROL).search(value):
            yield place
    elif isinstance(value, Mapping):
        for key, item in value.items():
            shown = CONTROL.sub("?", str(key))
            yield from control_characters(str(key), f"{place}.{shown}")
            yield from control_characters(item, f"{place}.{shown}", lines)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from control_characters(item, f"{place}[{number}]", lines)


def one_line(value: Any) -> Any:
    """The same value with a blank for each control character of its texts."""
    if isinstance(value, str):
        return CONTROL.sub(" ", value)
    if isinstance(value, Mapping):
        return {one_line(key): one_line(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [one_line(item) for item in value]
    return value


def straight(path: str) -> bool:
    """Whether an absolute path says plainly where it leads: no part of it is empty, `.` or `..`."""
    parts = path.rstrip("/").split("/")
    return len(parts) > 1 and parts[0] == "" and not {"", ".", ".."} & set(parts[1:])


def secret_in(name: str, value: str) -> bool:
    """Whether a variable looks like one that nobody else may read."""
    return bool(SECRET_NAME.match(name)) or bool(SECRET_VALUE.search(value))
