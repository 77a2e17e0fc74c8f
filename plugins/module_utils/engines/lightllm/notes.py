# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How launch commands of LightLLM in somebody's notes are read."""

from __future__ import annotations

from ..base import Notes

NOTES = Notes(
    modules=("lightllm.server.api_server",),
    example="python -m lightllm.server.api_server --model_dir MODEL --tp 1",
    model=("model_dir",),
    nodes="nnodes",
    rendezvous="nccl_host",
    ignored=("node_rank",),
    left_out={
        "trust_remote_code": "the plan never sets it",
        "nccl_port": "the engine takes a free one, which only the host itself reaches",
    },
    own_folder=("mtp_draft_model_dir",),
    of_model={"tool_call_parser": "tool_call_parser", "reasoning_parser": "reasoning_parser"},
)
