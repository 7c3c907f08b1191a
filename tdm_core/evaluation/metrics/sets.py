"""Metrics of whole sets and of pairs: FID and KID to the teacher or a folder, LPIPS to the teacher, diversity.

Four things go by the name of FID, so reference, number of pictures, resizing and extractor are part of the
fingerprint.  Teacher against student needs no data set and asks what a student should be asked first.

Sources: Heusel et al. (arXiv:1706.08500); Binkowski et al. (arXiv:1801.01401), the unbiased cubic kernel; Zhang et al.
(arXiv:1801.03924); diversity as mean distance between pictures of one prompt (DMD2, arXiv:2405.14867).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation.metrics import Measured, Result
from tdm_core.evaluation.metrics.clip import Encoder, Features, TransformersClip, cosines
from tdm_core.evaluation.metrics.extras import TORCH_CACHE, device, fetching, need
from tdm_core.evaluation.metrics.items import Pixels
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.stats import clustered_bootstrap, paired_difference

RESAMPLES = 100
BATCH_SIZE = 32


class Extractor(Protocol):
    """Pictures to feature rows, [N, D]."""

    name: str
    resize: str

    def features(self, pictures: Sequence[Pixels]) -> Features: ...


class Inception:
    """Inception-v3 as torch-fidelity ships it: pool features [N, 2048], resized inside as TensorFlow did."""

    name = "Inception-v3"
    resize = "bilinear 299, as TensorFlow 1"

    def __init__(self, metric: str) -> None:
        module: Any = need("torch_fidelity.feature_extractor_inceptionv3", metric, "eval")
        with fetching(f"{metric}: {self.name}", TORCH_CACHE):
            network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        self._network = network.eval().to(device())

    def features(self, pictures: Sequence[Pixels]) -> Features:
        import torch

        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device())
        with torch.inference_mode():
            return self._network(batch)[0].double().cpu().numpy()


class Gaussian(NamedTuple):
    """A mean [D] and a root [R, D] of the covariance, ``root^T root``."""

    mean: Features
    root: Features


def gaussian(rows: Features) -> Gaussian:
    """The Gaussian of a set of rows [N, D], to be measured against many."""
    mean = rows.mean(axis=0)
    root = (rows - mean) / np.sqrt(len(rows) - 1)
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return Gaussian(mean, root)


def between(first: Gaussian, second: Gaussian) -> float:
    """The Frechet distance.

    ``tr (S1 S2)^(1/2)`` is the nuclear norm of ``A B^T`` with ``S1 = A^T A``, ``S2 = B^T B``: no matrix root, and fast
    where there are fewer pictures than features.
    """
    a, b = first.root, second.root
    means = np.square(first.mean - second.mean).sum()
    distance = means + np.square(a).sum() + np.square(b).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(distance, 0.0))


def frechet_distance(first: Features, second: Features) -> float:
    """Between the Gaussians of two sets of rows, [N, D] and [M, D]."""
    return between(gaussian(first), gaussian(second))


def kernel_distance(first: Features, second: Features) -> float:
    """Unbiased squared MMD under ``(x y / D + 1)^3``; may fall below 0, unlike FID it does not depend on the number."""

    def kernel(x: Features, y: Features) -> Features:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(first), len(second)
    own = [(k.sum() - np.trace(k)) / (c * (c - 1)) for k, c in ((kernel(first, first), n), (kernel(second, second), m))]
    return float(sum(own) - 2 * kernel(first, second).mean())


@dataclass(frozen=True, kw_only=True)
class SetMetric:
    """A distance of each arm's pictures to a reference: the teacher's, or a folder's ``reference``."""

    NAME: str
    distance: Callable[[Features, Features], float]
    make: Callable[[], Extractor]
    reference: Path | None = None
    """None: the teacher's pictures."""
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = False

    def measure(self, run: Run) -> Measured:
        against_teacher = self.reference is None
        if against_teacher and "teacher" not in run.arms:
            raise EvaluationError(
                f"{run.folder}: {self.NAME} needs the teacher's pictures.\nGenerate --role teacher too."
            )
        extractor = self.make()
        found = {arm: _features(extractor, (run.pixels(p) for _, p in run.pictures(arm))) for arm in run.arms}
        fixed = found["teacher"] if against_teacher else _features(extractor, _folder_pictures(self.reference))
        seeds = run.header.seeds
        arms = {}
        for arm, rows in found.items():
            if arm == "teacher" and against_teacher:
                continue
            arms[arm] = self._interval(rows, fixed, seeds, paired=against_teacher) | {"n": len(rows)}
        chosen = {
            "reference": "teacher" if against_teacher else str(self.reference and self.reference.name),
            "reference_n": str(len(fixed)),
            "n": str(len(next(iter(found.values())))),
            "resize": extractor.resize,
            "extractor": extractor.name,
        }
        return Measured(arms=arms, fingerprint=chosen)

    def _interval(self, rows: Features, fixed: Features, seeds: int, *, paired: bool) -> Result:
        """Repeating pictures shifts such distances, so only the spread of the resamples is used."""
        rng, prompts = np.random.default_rng(0), len(rows) // seeds
        value, drawn = self.distance(rows, fixed), []
        for _ in range(RESAMPLES):
            chosen = (rng.integers(prompts, size=prompts)[:, None] * seeds + np.arange(seeds)).ravel()
            drawn.append(self.distance(rows[chosen], fixed[chosen] if paired else fixed))
        low, high = np.quantile(drawn, [0.025, 0.975]) - np.mean(drawn)
        return {"value": value, "low": value + float(low), "high": value + float(high)}


@dataclass(frozen=True, kw_only=True)
class PairMetric:
    """Mean distance of each arm's picture to the teacher's from the same noise."""

    NAME: str
    make: Callable[[], Distance]
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = False

    def measure(self, run: Run) -> Measured:
        if "teacher" not in run.arms:
            raise EvaluationError(
                f"{run.folder}: {self.NAME} needs the teacher's pictures.\nGenerate --role teacher too."
            )
        check_same_noise(run, run.arms)
        distance, values = self.make(), {}
        for arm in run.arms:
            if arm == "teacher":
                continue
            found: dict[str, list[float]] = {}
            for (item, left), (_, right) in zip(run.pictures("teacher"), run.pictures(arm), strict=True):
                found.setdefault(item.id, []).append(distance(run.pixels(left), run.pixels(right)))
            values[arm] = found
        return _measured(values, {"distance": distance.name})


@dataclass(frozen=True, kw_only=True)
class DiversityMetric:
    """Mean distance between the pictures of one prompt; few-step students tend to lose it."""

    NAME: str
    make: Callable[[], Distance]
    VERSION: str = "1"
    HIGHER_IS_BETTER: bool = True

    def measure(self, run: Run) -> Measured:
        if run.header.seeds < 2:
            raise EvaluationError(
                f"{run.folder}: {self.NAME} needs two pictures of a prompt.\nGenerate with --seeds 2."
            )
        distance, values = self.make(), {}
        for arm in run.arms:
            shown: dict[str, list[Pixels]] = {}
            for item, picture in run.pictures(arm):
                shown.setdefault(item.id, []).append(run.pixels(picture))
            values[arm] = {
                item: [float(np.mean([distance(a, b) for a, b in combinations(pictures, 2)]))]
                for item, pictures in shown.items()
            }
        return _measured(values, {"distance": distance.name})


class Distance(Protocol):
    name: str

    def __call__(self, first: Pixels, second: Pixels) -> float: ...


class ClipDistance:
    """One minus the cosine of two pictures."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self._encoder = f"1 - cosine, {encoder.name}", encoder

    def __call__(self, first: Pixels, second: Pixels) -> float:
        a, b = self._encoder.pictures([first, second])
        return float(1 - cosines(a[None], b[None])[0])


class Lpips:
    """LPIPS with AlexNet, as the package has it."""

    name = "LPIPS, AlexNet"

    def __init__(self, metric: str, network: Callable[..., Any] | None = None) -> None:
        self._network = network or self._load(metric)

    def __call__(self, first: Pixels, second: Pixels) -> float:
        import torch

        a, b = (torch.from_numpy(x.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None] for x in (first, second))
        with torch.inference_mode():
            return float(self._network(a.to(device()), b.to(device())))

    @staticmethod
    def _load(metric: str) -> Callable[..., Any]:
        module: Any = need("lpips", metric, "eval")
        with fetching(f"{metric}: the AlexNet of {Lpips.name}", TORCH_CACHE):
            network = module.LPIPS(net="alex", verbose=False)
        return network.eval().to(device())


def _measured(values: dict[str, dict[str, list[float]]], chosen: dict[str, str]) -> Measured:
    arms = {}
    for arm, found in values.items():
        estimate = clustered_bootstrap(found)
        arms[arm] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    others = [arm for arm in values if arm != "student" and "student" in values]
    compared = {f"student - {arm}": asdict(paired_difference(values["student"], values[arm])) for arm in others}
    return Measured(arms=arms, comparisons=compared, fingerprint=chosen)


def _features(extractor: Extractor, pictures: Iterable[Pixels]) -> Features:
    """Row by row.  Pictures of other sizes are other batches: extractors resize by themselves, each in its own way."""
    iterator, rows = iter(pictures), []
    while batch := list(islice(iterator, BATCH_SIZE)):
        rows += [extractor.features(list(alike)) for _, alike in groupby(batch, key=np.shape)]
    return np.concatenate(rows)


def _folder_pictures(folder: Path | None) -> Iterable[Pixels]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg")) if folder else []
    if len(paths) < 2:
        raise ConfigError(f"--reference {folder}: no pictures (png, jpg) in it")
    for path in paths:
        try:
            yield np.asarray(Image.open(path).convert("RGB"))
        except OSError:
            raise ConfigError(f"--reference {path}: not a whole picture") from None


def metric(name: str, reference: Path | None = None) -> SetMetric | PairMetric | DiversityMetric:
    """fid, kid (to ``reference``), fid-teacher, kid-teacher, lpips-teacher, diversity/clip, diversity/lpips."""
    kind, _, variant = name.replace("-teacher", "/teacher").partition("/")
    if kind in ("fid", "kid"):
        if variant != "teacher" and (reference is None or not reference.is_dir()):
            raise ConfigError(
                f"--metrics {name}: name a folder of reference pictures with --reference (not {reference})"
            )
        return SetMetric(
            NAME=name,
            distance=frechet_distance if kind == "fid" else kernel_distance,
            make=lambda: Inception(name),
            reference=None if variant == "teacher" else reference,
        )
    if kind == "lpips":
        return PairMetric(NAME=name, make=lambda: Lpips(name))
    if variant == "lpips":
        return DiversityMetric(NAME=name, make=lambda: Lpips(name))
    return DiversityMetric(NAME=name, make=lambda: ClipDistance(TransformersClip("openai/clip-vit-base-patch32")))
