# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's dmesg: the lines that a test wrote for this boot. The real one would show the kernel of the lab's machine."""

from __future__ import annotations

from pathlib import Path

LOG = Path("/run/lab-gpu/kernel.log")

if __name__ == "__main__":
    print(LOG.read_text() if LOG.exists() else "", end="")
