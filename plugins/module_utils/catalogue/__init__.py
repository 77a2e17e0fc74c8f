# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases, models and hardware as typed values, with the arithmetic of shapes, shards and memory.

Pure: the data itself lies in `files/`, and callers hand it in.
"""
