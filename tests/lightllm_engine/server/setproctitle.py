# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renames the process: what /proc shows as its command line is memory of its own."""

from __future__ import annotations

import ctypes


def setproctitle(title: str) -> None:
    with open("/proc/self/stat", encoding="utf-8") as stream:
        cells = stream.read().rpartition(")")[2].split()
    begin, end = int(cells[45]), int(cells[46])
    if end > begin:
        text = title.encode()[: end - begin - 1].ljust(end - begin, b"\0")
        ctypes.memmove(begin, text, end - begin)
