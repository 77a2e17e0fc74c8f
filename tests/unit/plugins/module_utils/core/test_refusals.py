# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, text_lines


def test_what_is_the_same_on_four_hosts_is_said_once() -> None:
    hosts = ["spark-1", "spark-2", "spark-3", "spark-4"]
    same = [Refusal("x", host, "driver = 570", "is too old", "install 580") for host in hosts]
    other = Refusal("x", "spark-2", "memory", "is too small", "take another host")
    assert text_lines([*same[:2], other, *same[2:]]) == [
        "REFUSED  driver = 570 on spark-1, spark-2, spark-3, spark-4",
        "  is too old",
        "  install 580",
        "REFUSED  memory on spark-2",
        "  is too small",
        "  take another host",
    ]
    assert text_lines([Refusal("x", "", "serve", "is empty", "say what to serve")])[0] == "REFUSED  serve"
