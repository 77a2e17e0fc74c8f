# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says at the end of a run how long each stage took."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stages
type: aggregate
short_description: Print how long each stage took
version_added: 0.1.0
description:
  - Prints one line for each play that ran, with its time, after a run of at least ten seconds.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
requirements:
  - Listed in C(callbacks_enabled).
"""

import time
from typing import Any

from ansible.plugins.callback import CallbackBase

SHORT_SECONDS = 10
"""A run that is over sooner needs no table."""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "baremetal.sglang.stages"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._stages: list[tuple[str, float]] = []

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._stages.append((play.get_name(), time.monotonic()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if not self._stages or time.monotonic() - self._stages[0][1] < SHORT_SECONDS:
            return
        ends = [started for _unused, started in self._stages[1:]] + [time.monotonic()]
        self._display.banner("STAGES")
        for (name, started), end in zip(self._stages, ends):
            self._display.display(f"{end - started:7.1f} s  {name}")
