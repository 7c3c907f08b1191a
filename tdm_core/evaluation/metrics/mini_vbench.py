"""mini-VBench of a run on the moving suite: one total, its dimensions, prompt-clustered intervals.

The dimensions, their floors and ceilings: ``tdm_core/scenes/moving/mini_vbench.py``.  Prompts are resampled within
each category, and the total is made anew from each resample, since it is no mean of values of single clips; draws and
percentiles are mended for few prompts as in ``tdm_core/stats/bootstrap.py``.  What a clip contributes is kept beside
the run (``clips.json``).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.metrics.gap import gap_closed
from tdm_core.evaluation.metrics.kept import kept
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.evaluation.suites import Item
from tdm_core.scenes.detect import THRESHOLDS
from tdm_core.scenes.moving import mini_vbench

NAME = "mini-vbench"
VERSION = "1"
HIGHER_IS_BETTER = True
RESAMPLES = 1000
CACHE = "clips.json"


@dataclass(frozen=True)
class _Judged:
    """An arm's clips, prompt by prompt in the suite's order."""

    items: tuple[Item, ...]
    columns: list[list[mini_vbench.Columns]]

    @property
    def all(self) -> list[mini_vbench.Columns]:
        return [row for rows in self.columns for row in rows]

    @property
    def of_clips(self) -> dict[str, list[float]]:
        """Prompt -> the total of each of its clips alone: what the report's pairs are chosen by."""
        return {
            item.id: [mini_vbench.total(mini_vbench.raw([row])) for row in rows]
            for item, rows in zip(self.items, self.columns, strict=True)
        }

    def of_tags(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Category -> its total under each row of weights."""
        tags = [item.tag for item in self.items]
        return {tag: self.totals(weights * [other == tag for other in tags]) for tag in dict.fromkeys(tags)}

    def totals(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The total under each row of weights of the prompts: [R, prompts] -> [R]."""
        names = sorted({name for row in self.all for name in row})
        sums, counts = (
            np.array([[sum(part(row, name) for row in rows) for name in names] for rows in self.columns])
            for part in (lambda row, name: row.get(name, 0.0), lambda row, name: float(name in row))
        )
        seen = weights @ counts
        means = np.divide(weights @ sums, seen, out=np.zeros_like(seen), where=seen > 0)
        rows = ({n: m for n, m, c in zip(names, *row, strict=True) if c > 0} for row in zip(means, seen, strict=True))
        return np.array([mini_vbench.total(mini_vbench.raw_from_means(row)) for row in rows])


def measure(run: Run) -> Measured:
    """Judge every arm; compare student and teacher with all others, on the same resamples of the prompts."""
    check_same_noise(run, run.arms)
    weights = _weights(run.items)
    judged = {arm: _judge(run, arm) for arm in run.arms}
    totals = {arm: found.totals(weights) for arm, found in judged.items()}
    pairs = [(a, b) for a in ("student", "teacher") if a in judged for b in judged if b not in (a, "student")]
    n, tail = len(run.items) * run.header.seeds, _tail(run.items)
    return Measured(
        arms={
            arm: _interval(totals[arm], tail) | {"n": n} | _details(found, weights, run.header.seeds)
            for arm, found in judged.items()
        },
        comparisons={f"{a} - {b}": _interval(totals[a] - totals[b], tail) | {"n": n} for a, b in pairs}
        | gap_closed(
            {arm: float(row[0]) for arm, row in totals.items()}, {arm: row[1:] for arm, row in totals.items()}, n=n
        ),
        items={arm: found.of_clips for arm, found in judged.items()},
        fingerprint=_fingerprint(),
    )


def _fingerprint() -> dict[str, str]:
    thresholds = {name: str(value) for name, value in asdict(THRESHOLDS).items()}
    scaling = hashlib.sha256(repr([mini_vbench.ANCHORS, mini_vbench.QUALITY]).encode()).hexdigest()[:16]
    return {"tracker": "glyph templates", "floors, ceilings and weights": scaling} | thresholds


def difference(first: Run, second: Run, arm: str) -> Result:
    """How much better the arm is in the second run; both runs hold the same prompts and numbers."""
    weights = _weights(first.items)
    before, after = (_judge(run, arm).totals(weights) for run in (first, second))
    return _interval(after - before, _tail(first.items)) | {"n": len(first.items) * first.header.seeds}


def _judge(run: Run, arm: str) -> _Judged:
    pictures = {f"{picture.sha256} {item.id}": (item, picture) for item, picture in run.pictures(arm)}
    known = kept(
        run.folder / CACHE,
        f"{VERSION} {asdict(THRESHOLDS)}",
        {key: picture for key, (_, picture) in pictures.items()},
        lambda key, picture: mini_vbench.measure(run.pixels(picture), pictures[key][0].prompt),
    )
    columns: dict[str, list[mini_vbench.Columns]] = defaultdict(list)
    for item, picture in run.pictures(arm):
        columns[item.id].append(known[f"{picture.sha256} {item.id}"])
    return _Judged(run.items, [columns[item.id] for item in run.items])


def _details(judged: _Judged, weights: NDArray[np.float64], seeds: int) -> Result:
    """What stands behind the total: unscaled and scaled dimensions, and the total of each category."""
    raw = mini_vbench.raw(judged.all)
    moving = [row for row in judged.all if "cosine" in row]
    of_tags = judged.of_tags(weights)
    members = {tag: [item for item in judged.items if item.tag == tag] for tag in of_tags}
    return {
        "raw": raw,
        "scaled": mini_vbench.scale(raw),
        "per_tag": {tag: float(totals[0]) for tag, totals in of_tags.items()},
        "per_tag_intervals": {
            tag: _interval(totals, _tail(members[tag])) | {"n": len(members[tag]) * seeds}
            for tag, totals in of_tags.items()
        },
        "mean_cosine": float(np.mean([row["cosine"] for row in moving])) if moving else None,
        "median_speed_ratio": float(np.median([row["speed_ratio"] for row in moving])) if moving else None,
    }


def _weights(items: Sequence[Item]) -> NDArray[np.float64]:
    """How much of each prompt is in each resample, [1 + RESAMPLES, prompts]; the first row is the suite itself.

    Of a category's n prompts n - 1 are drawn, and weighted so that it counts as much as in the suite.
    """
    rng = np.random.default_rng(0)
    weights = np.zeros((RESAMPLES, len(items)))
    for tag in dict.fromkeys(item.tag for item in items):
        members = np.array([i for i, item in enumerate(items) if item.tag == tag])
        draws = max(1, len(members) - 1)
        drawn = members[rng.integers(len(members), size=(RESAMPLES, draws))]
        np.add.at(weights, (np.arange(RESAMPLES)[:, None], drawn), len(members) / draws)
    return np.concatenate([np.ones((1, len(items))), weights])


def _tail(items: Sequence[Item]) -> float:
    """The share of the resamples below a 95 % interval: Student's tail, of as many degrees as are free."""
    freedom = len(items) - len({item.tag for item in items})
    return float(ndtr(stdtrit(max(1, freedom), 0.025)))


def _interval(totals: NDArray[np.float64], tail: float) -> Result:
    """The value of the suite itself, and the resamples between the tails."""
    low, high = np.quantile(totals[1:], [tail, 1 - tail])
    below = float((totals[1:] < 0).mean())
    return {"value": float(totals[0]), "low": float(low), "high": float(high), "share_below_zero": below}
