"""Which pairs a closed study shows: where raters preferred one arm, where the other, and where they were even."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tdm_core.study.analysis import PromptShare
from tdm_core.study.trials import Pair

MOST = 3  # pairs of each kind
EVEN = 0.15  # a share this close to one half is no preference


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair, and how the votes on its prompt fell."""

    pair: Pair
    votes: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Each at most `MOST`, the clearest first."""

    preferred: tuple[Judged, ...] = ()
    rejected: tuple[Judged, ...] = ()
    even: tuple[Judged, ...] = ()
    """Votes on both sides, or ties; of at least two votes."""


def choose(shares: Iterable[PromptShare], pairs: Iterable[Pair]) -> Gallery:
    """Share is that of the arm of interest.  Of a prompt with several pairs the first is shown."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt, pair)
    judged = [
        Judged(pair=first[each.prompt], votes=each.votes, share=each.share) for each in shares if each.prompt in first
    ]
    judged.sort(key=lambda each: -each.votes * abs(each.share - 0.5))  # three of three say more than one of one
    even = sorted((each for each in judged if abs(each.share - 0.5) <= EVEN), key=lambda each: -each.votes)
    return Gallery(
        preferred=tuple(each for each in judged if each.share > 0.5 + EVEN)[:MOST],
        rejected=tuple(each for each in judged if each.share < 0.5 - EVEN)[:MOST],
        even=tuple(each for each in even if each.votes > 1)[:MOST],
    )
