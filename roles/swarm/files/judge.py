# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which peer of a swarm sends damaged pieces: lies beside the agent, and knows no network."""

from __future__ import annotations

from collections.abc import Callable

# So often those who were cut off without proof are let in again; then they stay outside.
PARDONS = 50


class Judge:
    """Who sends damaged pieces. The library cuts off everybody who gave to several, whoever spoiled them.

    Proof is a failed piece that one peer gave alone, block by block; blocks are counted once a piece has failed.
    Who is cut off without proof stays so while it is the only one: whoever shares blame with it is let in again.
    """

    def __init__(self, blocks: Callable[[int], int]) -> None:
        self.blocks = blocks
        self.givers: dict[int, dict[int, set[str]]] = {}
        self.proven: set[str] = set()
        self.cut_off: dict[str, int] = {}
        self.pardons = 0

    def came(self, piece: int, block: int, address: str) -> None:
        self.givers.setdefault(piece, {}).setdefault(block, set()).add(address)

    def passed(self, piece: int) -> None:
        self.givers.pop(piece, None)

    def failed(self, piece: int) -> None:
        seen = self.givers.pop(piece, {})
        givers = set().union(*seen.values())
        if len(seen) == self.blocks(piece) and len(givers) == 1:
            self.proven |= givers

    def banned(self, address: str) -> None:
        self.cut_off[address] = self.cut_off.get(address, 0) + 1

    def guilty(self) -> dict[str, int]:
        alone = len(self.cut_off) == 1 and not self.proven
        return {address: times for address, times in self.cut_off.items() if alone or address in self.proven}

    def pardon(self, nothing_comes: bool) -> set[str]:
        """Those to let in again: what they send from now on is counted."""
        suspects = set(self.cut_off) - self.proven
        if not suspects or self.pardons == PARDONS:
            return set()
        if not (nothing_comes or self.proven or len(suspects) > 1):
            return set()
        self.pardons += 1
        for address in suspects:
            del self.cut_off[address]
        return suspects
