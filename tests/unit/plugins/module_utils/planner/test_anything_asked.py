# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances put together by chance: whatever is asked for, the answer is a plan or a refusal in words."""

from __future__ import annotations

import random
from typing import Any

import pytest

KINDS = ("a800", "a800-without-toolkit", "a800-580", "h200", "spark", "cpu")
SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 33)
# What each key may hold; most are left out of most instances.
ASKED: dict[str, tuple[Any, ...]] = {
    "tensor_parallel": SIZES,
    "pipeline_parallel": SIZES,
    "gpus": ([0], [1, 0], [0, 1, 2, 3], [0, 0], [7], [9]),
    "device": ("cpu", "cuda"),
    "release": ("0.5.23", "0.5.10.post1", "0.5.7"),
    "context_length": (1, 4096, 202_752, 10**9),
    "memory_fraction": (0.05, 0.5, 0.88, 0.99),
    "speculative": (True, False),
    "served_model_name": ("same",),
    "options": ({"tp-size": 3}, {"nnodes": 2}, {"max-running-requests": 1}, {"ep-size": 3}, {"dp-size": 4}),
    "environment": ({"NCCL_IB_HCA": "mlx5_9"},),
}


def anything(dice: random.Random, models: list[str], hosts: list[str]) -> dict[str, Any]:
    chosen = dice.sample(hosts, dice.randint(1, len(hosts)))
    wanted: dict[str, Any] = {"model": dice.choice(models), "hosts": chosen}
    for key in dice.sample(list(ASKED), dice.randint(0, 4)):
        wanted[key] = dice.choice(ASKED[key])
    if dice.random() < 0.5:
        wanted["port"] = dice.choice((30000, 30100, 31000, 65535))
    return wanted


@pytest.mark.parametrize("seed", range(120))
def test_it_is_planned_or_refused_in_words(world: Any, seed: int) -> None:
    dice = random.Random(seed)
    facts: dict[str, Any] = {}
    for kind in dice.sample(KINDS, dice.choice((1, 1, 1, 2))):
        facts |= world.hosts(kind, dice.randint(1, 5))
    models = sorted(world.catalogues.models)
    serve = {
        name: anything(dice, models, list(facts)) for name in ("one", "two", "three")[: dice.randint(1, 3)]
    }
    result = world.plan(facts, serve)
    for refusal in result.refusals:
        assert refusal.where and refusal.what and refusal.fix, refusal
    assert bool(result.plans) or bool(result.refusals), serve
