# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines as the engine writes them."""

from __future__ import annotations

import os
import time


def line(words: str, level: str = "INFO", place: str = "start_utils.py:42") -> None:
    os.write(1, f"{level} {time.strftime('%m-%d %H:%M:%S')} [{place}] {words}\r\n".encode())


def progress(what: str, percent: int) -> None:
    os.write(2, f"\r{what}: {percent:3d}%|".encode())
