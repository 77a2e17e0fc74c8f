# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command-line contract of an engine release: flags, types, choices, and values checked against it.

Pure: contracts are data in `files/engines/<engine>/flags`, made from a wheel without importing it.
"""
