"""The scenes score: is the picture what its caption asked for?  GenEval's six categories, prompt-clustered intervals.

Detecting is the only slow part, so detections are kept beside the run (``detections.json``) by the picture's hash: a
new student costs the scoring of its own pictures alone.

Source: evaluation as in GenEval (djghosh13/geneval); intervals by resampling prompts within each category.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.metrics.gap import gap_closed
from tdm_core.evaluation.metrics.kept import kept
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.evaluation.suites import Item
from tdm_core.scenes.detect import THRESHOLDS, Detection, detect
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.scorer import Verdict, judge
from tdm_core.stats import bootstrap_means, clustered_bootstrap, clustered_mean, paired_difference

NAME = "scenes"
VERSION = "1"
HIGHER_IS_BETTER = True
CACHE = "detections.json"

Passes = dict[str, list[float]]
"""Prompt id -> 1.0 or 0.0 for each of its pictures."""


def measure(run: Run) -> Measured:
    """Score every arm; compare student and teacher with all others, picture by picture."""
    check_same_noise(run, run.arms)
    detections = _detections(run)
    strata = {item.id: item.tag for item in run.items}
    verdicts = {arm: _judge(run, arm, detections) for arm in run.arms}
    passes = {arm: _passes(judged) for arm, judged in verdicts.items()}
    arms = {
        arm: _summary(passes[arm], strata, verdicts[arm]) | {"floor": _floor(run, arm, detections)} for arm in run.arms
    }
    thresholds = {name: str(value) for name, value in asdict(THRESHOLDS).items()}
    return Measured(
        arms=arms,
        comparisons=_comparisons(passes, strata),
        items=passes,
        fingerprint={"detector": "glyph templates"} | thresholds,
    )


def difference(first: Run, second: Run, arm: str) -> Result:
    """How much better the arm is in the second run, prompt by prompt; both runs hold the same prompts and numbers."""
    before, after = (_passes(_judge(run, arm, _detections(run, (arm,)))) for run in (first, second))
    return asdict(paired_difference(after, before, strata={item.id: item.tag for item in first.items}))


Judged = list[tuple[Item, Verdict]]


def _judge(run: Run, arm: str, detections: Mapping[str, list[Detection]]) -> Judged:
    return [
        (item, judge(detections[picture.sha256], parse(item.prompt), item.tag)) for item, picture in run.pictures(arm)
    ]


def _passes(judged: Judged) -> Passes:
    passes: Passes = defaultdict(list)
    for item, verdict in judged:
        passes[item.id].append(float(verdict.passed))
    return dict(passes)


def _summary(passes: Passes, strata: Mapping[str, str], judged: Judged) -> Result:
    """The overall score with its interval, and what GenEval's summary prints besides."""
    estimate = clustered_bootstrap(passes, strata=strata)
    per_tag = _per_tag(passes, strata)
    confidences = [found.confidence for _, verdict in judged for found in verdict.detections]
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "prompts": estimate.clusters,
        "per_tag": {tag: interval["value"] for tag, interval in per_tag.items()},
        "per_tag_intervals": per_tag,
        "picture_accuracy": float(np.mean([verdict.passed for _, verdict in judged])),
        "prompt_accuracy_any": float(np.mean([max(values) for values in passes.values()])),
        "reasons": dict(Counter(reason.value for _, verdict in judged for reason in verdict.reasons)),
        "mean_confidence": float(np.mean(confidences)) if confidences else 0.0,
    }


def _per_tag(passes: Passes, strata: Mapping[str, str]) -> Result:
    found: dict[str, Result] = {}
    for tag in dict.fromkeys(strata.values()):
        estimate = clustered_bootstrap({item: values for item, values in passes.items() if strata[item] == tag})
        found[tag] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    return found


def _floor(run: Run, arm: str, detections: Mapping[str, list[Detection]]) -> float:
    """The score of the same pictures against the next prompt of their category: what chance alone reaches."""
    by_tag: dict[str, list[Item]] = defaultdict(list)
    for item in run.items:
        by_tag[item.tag].append(item)
    following = {a.id: b for items in by_tag.values() for a, b in zip(items, items[1:] + items[:1], strict=True)}
    judged = [
        (item, judge(detections[picture.sha256], parse(following[item.id].prompt), item.tag))
        for item, picture in run.pictures(arm)
        if following[item.id] != item
    ]
    return clustered_mean(_passes(judged), strata={item.id: item.tag for item in run.items}) if judged else 0.0


def _comparisons(passes: Mapping[str, Passes], strata: Mapping[str, str]) -> dict[str, Result]:
    """Paired differences of student and teacher with all others, and the share of the gap that distilling closed."""
    pairs = [(a, b) for a in ("student", "teacher") if a in passes for b in passes if b not in (a, "student")]
    found = {f"{a} - {b}": asdict(paired_difference(passes[a], passes[b], strata=strata)) for a, b in pairs}
    means = {arm: clustered_mean(of_arm, strata=strata) for arm, of_arm in passes.items()}
    drawn = {arm: bootstrap_means(of_arm, strata=strata) for arm, of_arm in passes.items()}
    n = sum(map(len, next(iter(passes.values())).values())) if passes else 0
    return found | gap_closed(means, drawn, n=n)


def _detections(run: Run, arms: tuple[str, ...] | None = None) -> dict[str, list[Detection]]:
    """What is to be seen in every picture of the run, by the picture's hash; found once, then read."""
    pictures = {picture.sha256: picture for arm in arms or run.arms for _, picture in run.pictures(arm)}
    rules = f"{VERSION} {asdict(THRESHOLDS)}"
    rows = kept(run.folder / CACHE, rules, pictures, lambda _, picture: _rows(detect(run.pixels(picture))))
    names = tuple(Detection.__dataclass_fields__)
    return {
        sha256: [Detection(**dict(zip(names, row, strict=True))) for row in found] for sha256, found in rows.items()
    }


def _rows(found: Sequence[Detection]) -> list[list[object]]:
    return [list(asdict(item).values()) for item in found]
