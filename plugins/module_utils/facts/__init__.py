# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is: gathered on the host, or declared in the inventory, in one schema.

Probes read through `host.HostIo` only; parsers are pure and name every fault.
"""
