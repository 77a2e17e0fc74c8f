# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where tuned kernels are kept: inside the package, whose owner is root on a host."""

from __future__ import annotations

import os
from pathlib import Path


class Autotuner:
    def __init__(self, kernel: str) -> None:
        self.kernel = kernel

    @property
    def cache_dir(self) -> str:
        if not hasattr(self, "_cache_dir"):
            self._cache_dir = os.path.join(
                Path(__file__).parent, "autotune_kernel_configs", "triton_3.6.0", "NVIDIA_H200", self.kernel
            )
            os.makedirs(self._cache_dir, exist_ok=True)
        return self._cache_dir
