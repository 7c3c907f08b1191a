"""Metrics that give each picture a value: rows kept beside the run, prompt-clustered intervals, paired differences.

A picture's value depends on its bytes, its prompt and the scorer's fingerprint alone, so it is computed once: new arms,
tables and comparisons need no model again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tdm_core.evaluation.manifest import Picture
from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.evaluation.suites import Item
from tdm_core.generation.media import write_whole
from tdm_core.stats import clustered_bootstrap, paired_difference

SCORES = "scores"
BATCH_SIZE = 32

Pixels = NDArray[np.uint8]
Values = dict[str, list[float]]
"""Prompt -> the value of each of its pictures."""


class Scorer(Protocol):
    """A value for each picture; loads its weights when it is made."""

    def fingerprint(self) -> dict[str, str]: ...

    def score(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> list[float]: ...


@dataclass(frozen=True, kw_only=True)
class ItemMetric:
    """A metric of single pictures around a scorer."""

    NAME: str
    make: Callable[[], Scorer]
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = True
    BY_TAG: bool = False
    """The mean of the categories' means, as GenEval's overall score."""

    def measure(self, run: Run) -> Measured:
        check_same_noise(run, run.arms)
        scorer = self.make()
        values = {arm: self._values(run, arm, scorer) for arm in run.arms}
        return summarised(run, values, by_tag=self.BY_TAG, fingerprint=scorer.fingerprint())

    def difference(self, first: Run, second: Run, arm: str) -> Result:
        """How much the arm's value is higher in the second run, prompt by prompt."""
        scorer = self.make()
        before, after = (self._values(run, arm, scorer) for run in (first, second))
        strata = {item.id: item.tag for item in first.items} if self.BY_TAG else None
        return asdict(paired_difference(after, before, strata=strata))

    def _values(self, run: Run, arm: str, scorer: Scorer) -> dict[str, list[float]]:
        path = run.folder / SCORES / f"{self.NAME.replace('/', '-')}.json"
        edition = hashlib.sha256(json.dumps([self.VERSION, scorer.fingerprint()]).encode()).hexdigest()[:16]
        rows, made = _read(path, edition), run.pictures(arm)
        todo = [(item, picture) for item, picture in made if score_key(item, picture) not in rows]
        for start in range(0, len(todo), BATCH_SIZE):
            batch = todo[start : start + BATCH_SIZE]
            pictures = [run.pixels(picture) for _, picture in batch]
            values = scorer.score(pictures, [item for item, _ in batch])
            rows |= {score_key(*job): float(value) for job, value in zip(batch, values, strict=True)}
        if todo:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, json.dumps({"edition": edition, "values": rows}).encode())
        found: dict[str, list[float]] = {}
        for item, picture in made:
            found.setdefault(item.id, []).append(rows[score_key(item, picture)])
        return found


def summarised(run: Run, values: dict[str, Values], *, by_tag: bool, fingerprint: dict[str, str]) -> Measured:
    """Each arm's mean with its interval, and what student and teacher do better than the others, picture by picture."""
    strata = {item.id: item.tag for item in run.items} if by_tag else None
    pairs = [(a, b) for a in ("student", "teacher") if a in values for b in values if b not in (a, "student")]
    return Measured(
        arms={arm: _summary(run, found, strata) for arm, found in values.items()},
        comparisons={f"{a} - {b}": asdict(paired_difference(values[a], values[b], strata=strata)) for a, b in pairs},
        items=values,
        fingerprint=fingerprint,
    )


def score_key(item: Item, picture: Picture) -> str:
    """What a picture's value depends on, besides the scorer."""
    return hashlib.sha256(f"{picture.sha256}\0{item.asked}\0{item.clauses}".encode()).hexdigest()[:32]


def _read(path: Path, edition: str) -> dict[str, float]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        values = known["values"] if known["edition"] == edition else {}
        return {key: float(value) for key, value in dict(values).items()}
    except (OSError, ValueError, KeyError, TypeError):  # it is only a cache
        return {}


def _summary(run: Run, values: Mapping[str, list[float]], strata: Mapping[str, str] | None) -> Result:
    tags: dict[str, dict[str, list[float]]] = {}
    for item in run.items:
        tags.setdefault(item.tag, {})[item.id] = values[item.id]
    per_tag = {tag: _interval(found) for tag, found in tags.items()}
    return _interval(values, strata) | {
        "prompts": len(values),
        "per_tag": {tag: interval["value"] for tag, interval in per_tag.items()},
        "per_tag_intervals": per_tag,
    }


def _interval(values: Mapping[str, list[float]], strata: Mapping[str, str] | None = None) -> Result:
    estimate = clustered_bootstrap(values, strata=strata)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
