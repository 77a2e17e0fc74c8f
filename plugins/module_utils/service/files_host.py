# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the service user can write, read by root: regular ones only, bounded, and without waiting.

Imports nothing of the collection: the metrics collector on the hosts uses this file as it is.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from typing import Any

MOST_BYTES = 256 * 1024
MOST_DEPTH = 12
MOST_DIGITS = 18
# O_NONBLOCK: neither a FIFO without a writer nor a file under another process's lease stops the reader.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class UnsafeFileError(ValueError):
    """Names the file and why root does not read it."""


def read_bytes(path: str, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file that has one name; only the last component of the path may be the user's."""
    descriptor = os.open(path, FILE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeFileError(f"{path}: not a regular file")
        if found.st_nlink != 1:
            raise UnsafeFileError(f"{path}: has {found.st_nlink} names, must have one")
        if found.st_size > most:
            raise UnsafeFileError(f"{path}: {found.st_size} bytes, at most {most} are read")
        content = b""
        # A file can grow while it is read.
        while len(content) <= most and (block := os.read(descriptor, most + 1 - len(content))):
            content += block
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise UnsafeFileError(f"{path}: more than {most} bytes, at most {most} are read")
    return content


def read_text(path: str, most: int = MOST_BYTES) -> str:
    return read_bytes(path, most).decode("utf-8", "replace")


def read_json(path: str, most: int = MOST_BYTES, depth: int = MOST_DEPTH) -> Any:
    try:
        return parse_json(read_bytes(path, most).decode("utf-8"), depth)
    except UnsafeFileError:
        raise
    except ValueError as error:
        raise UnsafeFileError(f"{path}: invalid JSON ({error})") from None


def read_object(path: str, most: int = MOST_BYTES, depth: int = MOST_DEPTH) -> dict[str, Any]:
    found = read_json(path, most, depth)
    if not isinstance(found, dict):
        raise UnsafeFileError(f"{path}: must be a JSON object")
    return found


def parse_json(text: str, depth: int = MOST_DEPTH) -> Any:
    """JSON of bounded depth with finite numbers; raises ValueError only."""
    open_now = 0
    for letter in STRING.sub("", text):
        if letter in "[{":
            open_now += 1
            if open_now > depth:
                raise ValueError(f"nested more than {depth} levels deep")
        elif letter in "]}":
            open_now -= 1
    return json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_constant)


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    found = float(text) if len(text) <= 64 else math.inf
    if not math.isfinite(found):
        raise ValueError("a number that is too large or too long")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def printable(value: object, most: int = 500) -> str:
    """Text of the service on a terminal: no control characters, no surrogates, no changes of direction."""
    text = str(value)[:most].replace("\t", " ")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
