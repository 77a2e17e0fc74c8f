# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A refused run leaves a bare host bare. Shares no code with the roles."""

from __future__ import annotations

from typing import Any


def test_nothing_was_installed(host: Any) -> None:
    assert host.check_output("ls -A /opt") == ""
    assert host.check_output("find / -xdev -name '*sglang*' -not -path '/proc/*'") == ""


def test_there_is_no_user_and_no_unit(host: Any) -> None:
    assert not host.user("sglang").exists
    assert host.run("systemctl list-units --all 'sglang*' --no-legend").stdout == ""
    assert host.check_output("systemctl --failed --no-legend") == ""
