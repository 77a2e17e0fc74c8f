# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Product names of the driver and the keys of files/hardware."""

from __future__ import annotations

import re
from collections.abc import Mapping


def normal_product(name: str) -> str:
    """White space collapsed and the maker's name taken off; nothing else is forgiven."""
    return re.sub(r"\s+", " ", name).strip().removeprefix("NVIDIA ")


def model_of(product: str, products: Mapping[str, str]) -> str:
    """The hardware key of a product name, "" when no catalogue entry has that name."""
    wanted = normal_product(product)
    return (
        next((key for name, key in products.items() if normal_product(name) == wanted), "") if wanted else ""
    )
