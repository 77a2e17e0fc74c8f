# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab is a package of its own beside the collection's."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGES = str(Path(__file__).resolve().parents[3] / "molecule")
if PACKAGES not in sys.path:
    sys.path.insert(0, PACKAGES)
