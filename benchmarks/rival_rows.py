"""One run of `python -m benchmarks.rivals` as one committed row: what was run, what it cost, how it scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.rows import RESULTS
from tdm_core.scenes.moving import suite as moving_suite
from tdm_core.scenes.suite import limited, load_suite
from tdm_core.stats import BootstrapEstimate, clustered_bootstrap, paired_difference
from tdm_core.toml_config import from_mapping

FOLDER = RESULTS / "rivals"
OWN_SAMPLER = {"tdm": "kept", "dmd2": "renoised", "lcm": "renoised"}
"""Of each method: its noise is kept from step to step, or each x0 is noised afresh."""
FRESH_NOISE = "trajectory.eta=0"
"""The change that trains TDM as its rivals are, with fresh noise at each landing; so it is sampled."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of one number of steps and sampler."""

    nfe: int
    passed: str
    """A digit for each question, 1 where the picture was right, in the order of `questions`.  Of clips each one's own
    mini-VBench, in thousandths, with spaces between."""
    frechet: float
    """To true renders of the same captions; of clips their middle frames'."""
    diversity: float
    """Mean distance of pictures of one caption, over that of true renders; of clips their middle frames'."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The student on its way: what it answers after so many forwards."""

    forwards: int
    passed: str


@dataclass(frozen=True, kw_only=True)
class RivalRow:
    """A run."""

    arm: str
    system: str
    method: str
    """tdm, dmd2, lcm, or teacher."""
    seed: int
    config_hash: str
    base_hash: str
    """Of the teacher's weights."""
    changes: tuple[str, ...] = ()
    budget: int = 0
    iterations: int = 0
    forwards: int = 0
    minutes: float = 0.0
    """Of training, wall clock."""
    commit: str
    machine: str
    when: str
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    """By number of steps, then by sampler: kept, renoised (students), euler, dpm (teachers)."""
    curve: tuple[Point, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.system}-{self.arm}-s{self.seed}"

    def own(self, steps: int) -> Score:
        """As it was trained to be sampled."""
        scores = self.scores[str(steps)]
        if FRESH_NOISE in self.changes:
            return scores["renoised"]
        return scores[OWN_SAMPLER[self.method]] if self.method in OWN_SAMPLER else next(iter(scores.values()))


def save(row: RivalRow, folder: Path = FOLDER) -> Path:
    """One file a run, in place of an older one of the same arm and seed; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path, draft = folder / f"{row.name}.json", folder / f".{row.name}.draft"
    draft.write_text(json.dumps(asdict(row), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def load(folder: Path = FOLDER) -> dict[str, RivalRow]:
    """All rows by name.

    Raises:
        ConfigError: if a file is not a row; the message names the file and the key.
    """
    found = (from_mapping(RivalRow, _tables(path), where=str(path)) for path in sorted(folder.glob("*.json")))
    return {row.name: row for row in found}


def _tables(path: Path) -> dict[str, object]:
    tables: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return tables


@cache
def questions(number: int, *, moving: bool = False) -> tuple[tuple[str, str], ...]:
    """Prompt and category of each answer in ``passed``, fewer of them being the first of more.

    The scenes suite is asked again from its first prompt when it is used up, the moving one is not.
    """
    suite = limited(moving_suite.load_suite() if moving else load_suite(), None)
    asked = islice(suite if moving else cycle(suite), number)
    return tuple((item.prompt, item.tag.value) for item in asked)


def values(passed: str) -> list[float]:
    """Each answer's worth, 0 to 1."""
    return [int(part) / 1000 for part in passed.split()] if " " in passed else [float(digit) for digit in passed]


def mean(scores: Sequence[str]) -> BootstrapEstimate:
    """The scene score over seeds, with an interval over captions (all seeds of a caption together)."""
    return clustered_bootstrap(_clusters(scores), strata=_strata(scores))


def difference(first: Sequence[str], second: Sequence[str]) -> BootstrapEstimate:
    """Of two arms, caption by caption and seed by seed; an arm without seeds counts once for each of the other's.

    Where some were asked more than others, the questions that all were asked.
    """
    most = max(len(first), len(second))
    first, second = ([*scores] * (most if len(scores) == 1 else 1) for scores in (first, second))
    least = min(len(first), len(second))
    asked = min(len(values(score)) for score in (*first, *second))
    one, other = (_clusters(scores[:least], asked) for scores in (first, second))
    return paired_difference(one, other, strata=_strata(first, asked))


def seed_spread(scores: Sequence[str]) -> float:
    """Standard deviation of the seeds' scores; 0 for one seed."""
    values = [mean_of(score) for score in scores]
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def mean_of(passed: str) -> float:
    """The score of one run: the mean of the categories' means."""
    found: dict[str, list[float]] = {}
    for (_, tag), value in zip(_asked(passed), values(passed), strict=True):
        found.setdefault(tag, []).append(value)
    return float(np.mean([np.mean(of_tag) for of_tag in found.values()]))


def _asked(passed: str) -> tuple[tuple[str, str], ...]:
    return questions(len(values(passed)), moving=" " in passed)


def _clusters(scores: Sequence[str], asked: int | None = None) -> Mapping[str, Sequence[float]]:
    """All answers to a prompt, of all seeds."""
    found: dict[str, list[float]] = {}
    for score in scores:
        for (prompt, _), value in list(zip(_asked(score), values(score), strict=True))[:asked]:
            found.setdefault(prompt, []).append(value)
    return found


def _strata(scores: Sequence[str], asked: int | None = None) -> Mapping[str, str]:
    return dict(_asked(scores[0])[:asked])
