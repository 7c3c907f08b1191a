"""VBench by its own program, in an environment of its own (``evaluation/bridges.py``), aggregated here.

The program is called once for each of the 16 dimensions; what it says is kept beside the run.  A dimension's value is
the program's own mean; intervals resample prompts over its values of single clips, scaled to that mean, since some
dimensions average frames and not clips, and one gives clips in per cent.  Clips of 5 seconds and more need
VBench-Long: another program behind the same bridge, to be named in the bridge's ``edition``.

Source: Vchitect/VBench (arXiv:2311.17982): ranges, weights and total of its leaderboard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.bridges import Bridge, call
from tdm_core.evaluation.export import lay_out, video_tags
from tdm_core.evaluation.manifest import Picture
from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.metrics.kept import kept_together
from tdm_core.evaluation.runs import Run, check_same_noise

Floats = NDArray[np.float64]

RESAMPLES = 1000
RANGES: dict[str, tuple[float, float]] = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.7060, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "object_class": (0.0, 1.0),
    "multiple_objects": (0.0, 1.0),
    "human_action": (0.0, 1.0),
    "color": (0.0, 1.0),
    "spatial_relationship": (0.0, 1.0),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
"""The least and the most that a dimension is scaled between; the first seven are quality, the others semantics."""
DIMENSIONS = tuple(RANGES)
QUALITY = DIMENSIONS[:7]
WEIGHTS = np.array([0.5 if name == "dynamic_degree" else 1.0 for name in DIMENSIONS])
QUALITY_SHARE = 0.8


def totals(means: Floats) -> Floats:
    """Total, quality and semantics of rows of dimensions, [..., 16] -> [..., 3], in 0 .. 1."""
    least, most = (np.array(side) for side in zip(*RANGES.values(), strict=True))
    scaled, cut = (means - least) / (most - least), len(QUALITY)
    quality = scaled[..., :cut] @ WEIGHTS[:cut] / WEIGHTS[:cut].sum()
    semantics = scaled[..., cut:] @ WEIGHTS[cut:] / WEIGHTS[cut:].sum()
    return np.stack([QUALITY_SHARE * quality + (1 - QUALITY_SHARE) * semantics, quality, semantics], axis=-1)


@dataclass(frozen=True, kw_only=True)
class VBench:
    bridge: Bridge
    NAME: str = "vbench"
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = True

    def measure(self, run: Run) -> Measured:
        check_same_noise(run, run.arms)
        dimensions = video_tags(run.items)
        missing = [name for name in DIMENSIONS if not any(name in named for named in dimensions.values())]
        if missing:
            raise EvaluationError(
                f"{run.folder}: no prompt of {', '.join(missing)}, so there is no total.\n"
                "Generate more prompts, with a larger --limit or without one."
            )
        prompts = list(dimensions)
        weights = _weights(len(prompts))
        means = {arm: _means(self._dimensions(run, arm), prompts, weights) for arm in run.arms}
        pairs = [(a, b) for a in ("student", "teacher") if a in means for b in means if b not in (a, "student")]
        n = len(prompts) * run.header.seeds
        return Measured(
            arms={arm: _interval(totals(rows)[:, 0]) | {"n": n} | _details(rows) for arm, rows in means.items()},
            comparisons={
                f"{a} - {b}": _interval(totals(means[a])[:, 0] - totals(means[b])[:, 0]) | {"n": n} for a, b in pairs
            },
            fingerprint={"program": "VBench's own", "edition": self.bridge.edition or "not stated"},
        )

    def _dimensions(self, run: Run, arm: str) -> dict[str, dict[str, list[float]]]:
        """Dimension -> prompt -> the values of its clips, as the program gives them."""
        made = run.pictures(arm)
        clips = {picture.sha256 + item.asked: picture for item, picture in made}
        rules = (self.VERSION, self.bridge.edition, sorted(clips))
        place = run.folder / "bridges" / "vbench" / arm
        lacking = {name: picture for name, (_, picture) in zip(DIMENSIONS, [made[0]] * len(DIMENSIONS), strict=True)}

        def judge(todo: Mapping[str, Picture]) -> dict[str, dict[str, list[float]]]:
            shutil.rmtree(place, ignore_errors=True)
            lay_out(run, made, "vbench", place / "videos")
            return {name: self._ask(name, place) for name in todo}

        return kept_together(place.with_suffix(".json"), rules, lacking, judge)

    def _ask(self, dimension: str, place: Path) -> dict[str, list[float]]:
        results = place / dimension
        results.mkdir()
        places = {"videos": str((place / "videos").resolve()), "results": str(results.resolve())}
        call("vbench", self.bridge, places | {"dimension": dimension}, log=place / f"{dimension}.log")
        return read_dimension(dimension, results)


def read_dimension(dimension: str, folder: Path) -> dict[str, list[float]]:
    """What the program wrote of one dimension: prompt -> its clips' values, scaled to the program's own mean.

    Raises:
        EvaluationError: if there is no such file, or it holds something else.
    """
    path = next(iter(sorted(folder.glob("*eval_results.json"))), folder / "eval_results.json")
    found: dict[str, list[float]] = {}
    try:
        mean, clips = json.loads(path.read_text(encoding="utf-8"))[dimension]
        for clip in clips:
            prompt = Path(clip["video_path"]).stem.rpartition("-")[0]
            found.setdefault(prompt, []).append(float(clip["video_results"]))
        mean = float(mean)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path}: not what VBench writes of {dimension} ({error!r:.100}).") from None
    if not found:
        raise EvaluationError(f"{path}: VBench found no clip of {dimension}.")
    ours = float(np.mean([value for values in found.values() for value in values]))
    return {prompt: [value * (mean / ours if ours else 1.0) for value in values] for prompt, values in found.items()}


def _means(dimensions: Mapping[str, Mapping[str, Sequence[float]]], prompts: Sequence[str], weights: Floats) -> Floats:
    """Every dimension under each row of the prompts' weights, [1 + RESAMPLES, 16]."""
    sums, counts = (
        np.array([[part(dimensions[name].get(prompt, ())) for name in DIMENSIONS] for prompt in prompts], dtype=float)
        for part in (sum, len)
    )
    seen = weights @ counts
    whole = sums.sum(axis=0) / counts.sum(axis=0)  # a resample without a prompt of a dimension tells nothing of it
    return np.where(seen > 0, weights @ sums / np.maximum(seen, 1), whole)


def _weights(prompts: int) -> Floats:
    """How often each resample draws each prompt; the first row is the suite itself."""
    drawn = np.random.default_rng(0).multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES)
    return np.concatenate([np.ones((1, prompts)), drawn])


def _interval(values: Floats) -> Result:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    below = float((values[1:] < 0).mean())
    return {"value": float(values[0]), "low": float(low), "high": float(high), "share_below_zero": below}


def _details(rows: Floats) -> Result:
    """What stands behind the total: quality, semantics, and each dimension raw and scaled."""
    least, most = (np.array(side) for side in zip(*RANGES.values(), strict=True))
    scaled = (rows[0] - least) / (most - least)
    _, quality, semantics = totals(rows[0])
    return {
        "quality": float(quality),
        "semantics": float(semantics),
        "raw": dict(zip(DIMENSIONS, rows[0].tolist(), strict=True)),
        "scaled": dict(zip(DIMENSIONS, scaled.tolist(), strict=True)),
    }
