# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of NVIDIA's driver in the words of DeviceAllow=: a node, or char- and a name out of /proc/devices."""

from __future__ import annotations

OF_EVERY_GPU = ("/dev/nvidiactl", "char-nvidia-uvm", "char-nvidia-caps*")
# Older drivers register the name nvidia-frontend.
ALL_GPUS = ("char-nvidia", "char-nvidia-frontend")
NVIDIA_SMI = (*OF_EVERY_GPU, *ALL_GPUS)
