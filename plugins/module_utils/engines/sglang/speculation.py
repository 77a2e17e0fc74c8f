# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance speculates with the model's own draft, and why."""

from __future__ import annotations

from ...planner.case import Case


def speculation(case: Case) -> tuple[str, str]:
    """Why it is on, or why it is off: one of the two is empty."""
    wanted, model = case.instance.speculative, case.model
    off = ""
    if case.device != "cuda" and not wanted:
        off = "off: not worth it on a CPU"
    elif case.parallel.pipeline > 1 and not wanted:
        off = "off: it does not go together with pipeline stages"
    elif wanted is False:
        off = f"off: serve.{case.instance.name}.speculative = false"
    elif not model.speculative and "speculative-algorithm" in case.instance.options:
        off = f"as serve.{case.instance.name}.options say"
    elif not model.speculative and model.shape.mtp_layers:
        off = (
            f"off: {model.key} has an MTP layer, but no settings for it are known; give speculative-algorithm and its "
            "numbers in options"
        )
    elif not model.speculative:
        off = f"off: {model.key} has no MTP layer"
    elif wanted is None and case.instance.thinking_budget:
        off = "off: a thinking budget is asked for, and only one of them is applied"
    elif wanted is None and "speculative-algorithm" in case.instance.options:
        off = ""
    elif wanted is None and model.speculative.get("draft_architecture") not in (
        None,
        "",
        *case.release.architectures,
    ):
        off = f"off: {case.release.key} has no right draft class for {model.key}"
    if off:
        return "", off
    if wanted:
        return f"serve.{case.instance.name}.speculative = true", ""
    return f"{model.name} brings its own draft (MTP): more tokens a step, same answers", ""
