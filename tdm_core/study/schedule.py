"""Which pair a rater sees next, and which of its arms lies left.

Sides come in permuted blocks per rater: within a block of 4 or 6 trials each arm lies left equally often, and the
block's length is drawn too, so that its end cannot be foreseen. Pairs go least-voted first, so that votes per pair
differ by little; among equals, the pair that has had the side least often. No rater sees a pair twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from tdm_core.study.trials import Pair

BLOCK_LENGTHS = (4, 6)

Usage = Counter[tuple[str, str]]  # (pair id, arm that lies left) -> trials that are voted on or may still be


def side_at(side_secret: str, rater_id: str, position: int) -> int:
    """Which of the two arms, 0 or 1, lies left in the rater's trial number ``position`` (0 for the first).

    Always the same answer for the same arguments, so a restart or a second process goes on with the same block.
    """
    return next(islice(_sides(random.Random(f"{side_secret}:{rater_id}")), position, None))


def choose_pair(
    pairs: Iterable[Pair],
    *,
    seen: Collection[str],
    usage: Usage,
    left_arm: str,
    right_arm: str,
    rng: random.Random,
) -> Pair | None:
    """The pair for a rater who has ``seen`` these pairs and gets the arms this way round; ``None`` if none is left."""

    def rank(pair: Pair) -> tuple[int, int, float]:
        this_way, other_way = usage[pair.id, left_arm], usage[pair.id, right_arm]
        return this_way + other_way, this_way - other_way, rng.random()

    return min((pair for pair in pairs if pair.id not in seen), key=rank, default=None)


def _sides(rng: random.Random) -> Iterator[int]:
    while True:
        half = rng.choice(BLOCK_LENGTHS) // 2
        block = [0] * half + [1] * half
        rng.shuffle(block)
        yield from block
