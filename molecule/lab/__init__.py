# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A laboratory of real systemd hosts on one machine, in a network that leads nowhere.

from lab import Lab

lab = Lab.from_inventory(Path("inventories/lab"))
lab.up()
lab.host("a1").ssh("systemctl is-system-running")
lab.down()
"""

from __future__ import annotations

from .host import Host
from .lab import Lab
from .problems import LabError
from .spec import HostSpec, LabSpec

__all__ = ["Host", "HostSpec", "Lab", "LabError", "LabSpec"]
