"""What a rater sees next, and which side lies left.

Sides come in permuted blocks per rater: within a block of 4 or 6 trials each arm lies left equally often, and the
block's length is drawn too, so that its end cannot be foreseen. Prompts rotate through the categories and go
least-voted first, so that votes per pair differ by little; among equals, the pair that has had the side least often.
No rater sees a pair twice, but for repeats, which exchange the sides of a trial at least `REPEAT_GAP` before.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tdm_core.study.rules import REPEAT_GAP, Controls
from tdm_core.study.trials import Pair, Purpose

BLOCK_LENGTHS = (4, 6)

Usage = Counter[tuple[str, str]]  # (pair id, arm that lies left) -> real trials that are voted on or may still be


@dataclass(frozen=True)
class Slot:
    """One place in a rater's plan."""

    purpose: Purpose
    side: int  # which arm, 0 or 1, lies left; of a known answer: whether the spoiled picture does
    repeat_of: int | None = None  # the position whose sides are exchanged


def plan(side_secret: str, rater_id: str, *, real_trials: int, controls: Controls) -> tuple[Slot, ...]:
    """All that a rater will see, from the first trial to a fixed end; always the same for the same arguments.

    So a restart or a second process goes on with the same plan, and nothing of it has to be stored.
    """
    rng = random.Random(f"{side_secret}:{rater_id}:plan")
    golds, identical = controls.golds(real_trials), controls.identical(real_trials)
    purposes = [Purpose.REAL] * real_trials + [Purpose.GOLD] * golds + [Purpose.IDENTICAL] * identical
    if golds or identical:
        rng.shuffle(purposes)
    sides = _sides(random.Random(f"{side_secret}:{rater_id}"))
    other_sides = _sides(random.Random(f"{side_secret}:{rater_id}:controls"))
    slots = [Slot(purpose, next(sides if purpose is Purpose.REAL else other_sides)) for purpose in purposes]
    practice = [Slot(Purpose.PRACTICE, next(other_sides)) for _ in range(controls.practice)]
    return tuple(practice + _with_repeats(slots, controls.repeats(real_trials), len(practice), rng))


def choose_pair(
    pairs: Iterable[Pair],
    *,
    seen: Collection[str],
    usage: Usage,
    left_arm: str,
    right_arm: str,
    rng: random.Random,
    had: Mapping[str, int] | None = None,
) -> Pair | None:
    """The pair for a rater who has ``seen`` these pairs and gets the arms this way round; ``None`` if none is left.

    ``had``: how many trials of each category this rater has had.
    """
    fresh = [pair for pair in pairs if pair.id not in seen]
    if had and len({pair.category for pair in fresh}) > 1:
        fresh = _least(fresh, [had.get(pair.category, 0) for pair in fresh])
    used = [(usage[pair.id, left_arm], usage[pair.id, right_arm]) for pair in fresh]
    fresh = _least(fresh, [(this_way + other_way, this_way - other_way) for this_way, other_way in used])
    return rng.choice(fresh) if fresh else None


def _least(pairs: Sequence[Pair], measures: Sequence[Any]) -> list[Pair]:
    least = min(measures, default=None)
    return [pair for pair, measure in zip(pairs, measures, strict=True) if measure == least]


def _with_repeats(slots: list[Slot], count: int, start: int, rng: random.Random) -> list[Slot]:
    """The slots with ``count`` repeats put in between; positions are counted from ``start``."""
    early = [slot for slot in range(len(slots) - REPEAT_GAP + 1) if slots[slot].purpose is Purpose.REAL]
    originals = sorted(rng.sample(early, min(count, len(early))))
    # Keyed by the slot they follow; what is put in between can only widen the gaps of the others.
    after: dict[int, list[int]] = {}
    for original in originals:
        after.setdefault(rng.randrange(original + REPEAT_GAP - 1, len(slots)), []).append(original)
    placed: list[Slot] = []
    place: dict[int, int] = {}
    for index, slot in enumerate(slots):
        place[index] = start + len(placed)
        placed.append(slot)
        for original in after.get(index, ()):
            placed.append(Slot(Purpose.REPEAT, 1 - slots[original].side, place[original]))
    return placed


def _sides(rng: random.Random) -> Iterator[int]:
    while True:
        half = rng.choice(BLOCK_LENGTHS) // 2
        block = [0] * half + [1] * half
        rng.shuffle(block)
        yield from block


cached_plan = lru_cache(maxsize=1024)(plan)
