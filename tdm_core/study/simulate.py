"""Synthetic raters through the real schedule and the real analysis: what the study's figures are worth.

A rater prefers the arm of interest on a prompt with ``expit(c + u + v)``, u and v normal effects of rater and prompt;
c is such that the mean over all raters and prompts is the share asked for. Storage is in memory, time is made up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdm_core.stats import logit_of_mean_share
from tdm_core.study.analysis import StudyReport, score
from tdm_core.study.exclusions import real
from tdm_core.study.memory import MemoryStore
from tdm_core.study.rules import NO_CONTROLS, Controls, StudyRules
from tdm_core.study.service import StudyService, new_study
from tdm_core.study.trials import SPOILED, Choice, Offer

VIEW_MS = 4000
Z_95 = 1.959964
FEWEST_FOR_Z = 20  # votes before the naive test is first looked at


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """How studies of one kind are simulated."""

    raters: int = 30
    prompts: int = 60
    votes: int = 20  # real ones per rater
    rater_sd: float = 0.4  # on the logit
    prompt_sd: float = 0.6
    share: float = 0.5  # true mean share of the arm of interest
    runs: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.raters, self.prompts, self.votes, self.runs) < 1 or self.votes > self.prompts:
            raise ValueError("raters, prompts, votes and runs are 1 or more, and votes at most the prompts")
        if not 0 < self.share < 1 or self.rater_sd < 0 or self.prompt_sd < 0 or self.seed < 0:
            raise ValueError("the share lies in (0, 1); spreads and seed are not below 0")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Shares of the simulated studies in which something was so."""

    coverage: float  # the two-way clustered interval held the true share
    naive_coverage: float  # Wilson's, as if votes were independent, did
    false_alarms: float  # without an effect, the betting sequence, looked at after each rater, showed one
    naive_false_alarms: float  # a z-test looked at after each vote did
    power: float  # at the true share, the sequence excluded one half by the end
    fixed_power: float  # the clustered interval did, looked at once
    non_inferiority: float  # the student was shown not to be worse by more than the margin
    mean_width: float  # of the clustered interval


@dataclass(frozen=True)
class _Pair:
    id: str
    prompt: str
    kind: str = "image"
    width: int = 1
    height: int = 1
    frames: int = 1
    fps: int = 1
    length_ms: int = 0
    category: str = ""
    control_arm: str = "teacher"


class _Pairs:
    """Pairs whose bodies name their sides, so that a synthetic rater sees them."""

    def __init__(self, count: int) -> None:
        self._pairs = [_Pair(str(index), str(index)) for index in range(count)]

    def pairs(self) -> Sequence[_Pair]:
        return self._pairs

    def packed(self, pair_id: str, left_arm: str, right_arm: str) -> bytes:
        return f"{left_arm} {right_arm}".encode()


def simulate(simulation: Simulation, *, processes: int = 1) -> Outcome:
    """Hold ``runs`` studies at the true share, and as many without an effect if that is another share.

    The outcome is the same for any number of ``processes``.
    """
    with _workers(processes) as each:
        runs = range(simulation.runs)
        studies = list(each(partial(hold, simulation, simulation.share), runs))
        quiet = studies if simulation.share == 0.5 else list(each(partial(hold, simulation, 0.5), runs))
    shares = [report.share for report, _ in studies if report.share]
    naive = [report.decisive_interval for report, _ in studies if report.decisive_interval]
    truth = simulation.share
    return Outcome(
        coverage=_part(share.low <= truth <= share.high for share in shares),
        naive_coverage=_part(interval.low <= truth <= interval.high for interval in naive),
        false_alarms=_part(report.sequential.decided for report, _ in quiet),
        naive_false_alarms=_part(_z_test_ever_fires(scores) for _, scores in quiet),
        power=_part(report.sequential.decided for report, _ in studies),
        fixed_power=_part(not share.low <= 0.5 <= share.high for share in shares),
        non_inferiority=_part(
            bool(report.non_inferiority and report.non_inferiority.is_shown) for report, _ in studies
        ),
        mean_width=float(np.mean([share.high - share.low for share in shares])),
    )


@contextmanager
def _workers(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    if processes < 2:
        yield map
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=8)


def hold(simulation: Simulation, share: float, run: int) -> tuple[StudyReport, list[float]]:
    """One whole study, rater after rater; its report, and the score of each real vote in order."""
    rng = np.random.default_rng([simulation.seed, run])
    centre = logit_of_mean_share(share, float(np.hypot(simulation.rater_sd, simulation.prompt_sd)))
    raters = rng.normal(centre, simulation.rater_sd, simulation.raters)
    prompts = rng.normal(0, simulation.prompt_sd, simulation.prompts)
    chances = 1 / (1 + np.exp(-(raters[:, None] + prompts)))
    clock, pairs, store = _Clock(), _Pairs(simulation.prompts), MemoryStore()
    draws, moods, secret = (random.Random(int(seed)) for seed in rng.integers(2**32, size=3))
    with store.writing("demo") as records:  # a study whose sides follow from the seed, too
        records.add_study(replace(new_study("demo", _rules(simulation), now_ms=0), side_secret=str(secret.random())))
    service = StudyService(store=store, pairs=pairs, clock=clock, rng=draws)
    service.open()
    for rater in range(simulation.raters):
        _take_part(service, clock, f"rater {rater}", chances[rater], moods)
    service.close()
    with store.reading("demo") as records:
        votes = real(records.votes())
    return service.results(), [score(vote, service.rules.arms[0]) for vote in votes]


class _Clock:
    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def _rules(simulation: Simulation) -> StudyRules:
    fits = Controls().pairs(simulation.votes) <= simulation.prompts
    return StudyRules(
        needed=1,
        target=simulation.prompts,
        trials_per_rater=simulation.votes,
        controls=Controls() if fits else NO_CONTROLS,
        target_raters=simulation.raters,
    )


def _take_part(
    service: StudyService, clock: _Clock, rater: str, chances: NDArray[np.float64], moods: random.Random
) -> None:
    """Vote on every trial of the plan; ``chances``: of preferring the student, [prompts]."""
    while isinstance(offer := service.next_trial(rater), Offer):
        left, right = service.media(rater, offer.media).decode().split()
        service.media_sent(rater, offer.media)
        clock.now_ms += VIEW_MS
        service.cast_vote(rater, offer.trial, _choose(left, right, chances[int(offer.prompt)], moods))


def _choose(left: str, right: str, chance: float, moods: random.Random) -> Choice:
    if left == right:
        return Choice.TIE
    if SPOILED in (left, right):
        return Choice.RIGHT if left == SPOILED else Choice.LEFT
    prefers_student = moods.random() < chance
    return Choice.LEFT if (left == "student") == prefers_student else Choice.RIGHT


def _z_test_ever_fires(scores: Sequence[float]) -> bool:
    count = np.arange(1, len(scores) + 1)
    z = (np.cumsum(scores) - count / 2) / np.sqrt(count / 4)
    return bool((np.abs(z[FEWEST_FOR_Z:]) > Z_95).any())


def _part(outcomes: Iterable[bool]) -> float:
    return float(np.mean(list(outcomes)))
