# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies between hosts: who gives what to whom, the shared description, and the unit of an agent.

`host.py` and `unit_host.py` touch the machine; the rest is pure.
"""
