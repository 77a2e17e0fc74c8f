# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that take the requests of instances while those are exchanged; no boot brings them back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..service.application import STANDBY
from ..service.serving_host import Question, Watch
from . import folder_host as folder
from . import switching
from .members import Member, Release
from .switching import Found, Switch

if TYPE_CHECKING:
    from .host import Host

# A gateway looks at its servers every second or two; what it has not seen gets no requests.
SEEN_SECONDS = 6


def begin(host: Host, found: Found, decided: Switch) -> None:
    """Starts what takes the requests of those that will stop, out of the release that is about to serve."""
    release, members = found.releases[decided.to], switching.relieved(found, decided)
    if not members:
        return
    end(host)
    folder.write_link(_link(host), os.path.join(release.folder, STANDBY))
    os.makedirs(host.passing_units, exist_ok=True)
    for member in members:
        folder.write(_unit(host, member), release.text_of(member.standby_unit))
    host.systemctl("daemon-reload")
    units = [member.standby_unit for member in members]
    host.systemctl("start", "--no-block", *units)
    watch = Watch(host.run, host.timeout, sleep=host.sleep, is_healthy=host.is_healthy, since=host.clock())
    watch.all([_question(host, release, member) for member in members], fresh=units)
    host.sleep(SEEN_SECONDS)


def end(host: Host) -> None:
    """Those of a switch that was cut off too. What they answer is answered to the end."""
    if not os.path.lexists(_link(host)):
        return
    paths = there(host)
    if paths:
        # The gateway must have seen that the other one is back.
        host.sleep(SEEN_SECONDS)
        host.systemctl("stop", *map(os.path.basename, paths))
        for path in paths:
            os.unlink(path)
        host.systemctl("daemon-reload")
    os.unlink(_link(host))


def there(host: Host) -> list[str]:
    """Unit files of them that are there now."""
    members = [m for release in folder.listed(host.releases).values() for m in release.members.values()]
    paths = {_unit(host, member) for member in members if member.standby}
    return sorted(path for path in paths if os.path.lexists(path))


def _link(host: Host) -> str:
    return os.path.join(host.root, STANDBY)


def _unit(host: Host, member: Member) -> str:
    return os.path.join(host.passing_units, member.standby_unit)


def _question(host: Host, release: Release, member: Member) -> Question:
    place = os.path.join(release.folder, STANDBY, member.standby)
    return host.question_at(place, member.standby_unit, member.standby_port, member)
