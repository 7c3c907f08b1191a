"""Frechet distance of an arm's pictures to true renders of the same captions, in fixed random convolutional features.

Each picture stands against `RENDERS` true ones of its caption, so that chance in the reference (which canvas it drew
where the caption names none) does not decide.  A perfect model has a distance above zero all the same, since it draws
each picture once: the floor, that of the reference's own parts to the rest of it, stands beside the results with its
range.  Not FID: no Inception, and numbers compare only within one suite and one number of pictures.

Source: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson and Landau 1982; Heusel et al. 2017); random features
rank generators much as trained ones do where the two sets are close.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.metrics.sets import between, frechet_distance, gaussian
from tdm_core.evaluation.runs import Run
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.render import draw, layout

if TYPE_CHECKING:
    from torch import Tensor

NAME = "frechet"
VERSION = "2"
HIGHER_IS_BETTER = False

CHANNELS = (3, 16, 32, 64)
SEED = 2503
RESAMPLES = 100
RENDERS = 16

Features = NDArray[np.float64]


def measure(run: Run) -> Measured:
    """The distance of every arm, and each arm's ratio to the teacher's over equal resamples of the prompts."""
    true = np.stack([features(_renders(run, stream)) for stream in range(1, RENDERS + 1)])
    found = {arm: features(run.pixels(picture) for _, picture in run.pictures(arm)) for arm in run.arms}
    draws = _draws(len(run.items), run.header.seeds)
    everything = gaussian(np.concatenate(true))
    distances = {arm: between(gaussian(rows), everything) for arm, rows in found.items()}
    resampled: dict[str, list[float]] = {arm: [] for arm in found}
    for d in draws:
        reference = gaussian(np.concatenate(true[:, d]))
        for arm, rows in found.items():
            resampled[arm].append(between(gaussian(rows[d]), reference))
    spread = {arm: np.array(values) for arm, values in resampled.items()}
    floor = _floor(true)
    arms = {arm: _interval(distances[arm], spread[arm]) | {"n": len(rows)} | floor for arm, rows in found.items()}
    comparisons = {
        f"{arm} / teacher": _interval(distances[arm] / distances["teacher"], spread[arm] / spread["teacher"])
        for arm in run.arms
        if "teacher" in run.arms and arm != "teacher"
    }
    chosen = {
        "reference": f"{RENDERS} true renders of each caption",
        "extractor": f"random filters {CHANNELS}, seed {SEED}",
        "resize": "none",
    }
    return Measured(arms=arms, comparisons=comparisons, fingerprint=chosen)


def features(pictures: Iterable[NDArray[np.uint8]], batch_size: int = 64) -> Features:
    """Mean and spread of each random filter's response over the picture, at three scales: [N, 2 x 112]."""
    import torch  # here, so that a listing of the metrics does not load it

    iterator, rows = iter(pictures), []
    with torch.inference_mode():
        while batch := list(islice(iterator, batch_size)):
            rows.append(_responses(torch.from_numpy(np.stack(batch))).numpy())
    return np.concatenate(rows).astype(np.float64)


def _responses(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> [B, 2 x 112]."""
    import torch

    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    moments = []
    for filters in _filters():
        x = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(x, filters, stride=2, padding=2), 0.2)
        moments += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
    return torch.cat(moments, dim=1)


@cache
def _filters() -> tuple[Tensor, ...]:
    """5 x 5 filters of each layer, [out, in, 5, 5]; from NumPy's generator, which promises equal streams for ever."""
    import torch

    rng = np.random.default_rng(SEED)
    shapes = [(after, before, 5, 5) for before, after in pairwise(CHANNELS)]
    return tuple(
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) * (2 / np.prod(shape[1:])) ** 0.5
        for shape in shapes
    )


def _renders(run: Run, stream: int) -> Iterable[NDArray[np.uint8]]:
    """A true picture for each of an arm's; two streams are two independent sets."""
    height, width = run.pixels(run.pictures(run.arms[0])[0][1]).shape[:2]
    if height != width:
        raise EvaluationError(f"{run.folder}: true renders are square, these pictures are {width}x{height}")
    for item in run.items:
        for number in range(run.header.seeds):
            yield draw(layout(parse(item.prompt), np.random.default_rng((item.seed(number), stream))), height)


def _floor(true: NDArray[np.float64]) -> Result:
    """What perfect models would have: mean and range of each part [n, F] of the reference [parts, n, F] to the rest."""
    parts = [frechet_distance(part, np.concatenate(np.delete(true, index, axis=0))) for index, part in enumerate(true)]
    return {"floor": float(np.mean(parts)), "floor_low": min(parts), "floor_high": max(parts)}


def _draws(prompts: int, seeds: int) -> list[NDArray[np.intp]]:
    """Rows of each resample: whole prompts, all their pictures."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(prompts, size=(RESAMPLES, prompts))
    return [(chosen[:, None] * seeds + np.arange(seeds)).ravel() for chosen in drawn]


def _interval(value: float, resampled: NDArray[np.float64]) -> Result:
    """Resampling repeats pictures, which shifts the distance: only the spread of the resamples is used."""
    low, high = np.quantile(resampled, [0.025, 0.975]) - resampled.mean()
    return {"value": value, "low": value + float(low), "high": value + float(high)}
