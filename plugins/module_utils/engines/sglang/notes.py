# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How launch commands of SGLang in somebody's notes are read."""

from __future__ import annotations

from ..base import Notes

NOTES = Notes(
    modules=("sglang.launch_server", "sglang.srt.launch_server"),
    example="python3 -m sglang.launch_server --model-path MODEL --tp-size 8, or sglang serve MODEL",
    model=("model-path", "model"),
    nodes="nnodes",
    rendezvous="dist-init-addr",
    ignored=("node-rank",),
    device="device",
    gpus=("base-gpu-id", "gpu-id-step"),
    short={
        "tp": "tp-size",
        "pp": "pp-size",
        "dp": "dp-size",
        "ep": "ep-size",
        "model": "model-path",
        "nccl-init-addr": "dist-init-addr",
    },
    left_out={
        "trust-remote-code": "no release needs it for a model that it serves",
        "enable-metrics": "the plan sets it",
    },
    of_model={"tool-call-parser": "tool_call_parser", "reasoning-parser": "reasoning_parser"},
)
