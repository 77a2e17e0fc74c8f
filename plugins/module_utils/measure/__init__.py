# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load, timings, answers judged, and the report of a benchmark.

Sends requests to a server through `client`; `sampling_host.py` reads the machine.
"""
