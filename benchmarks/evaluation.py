"""Whether the harness can be trusted: the scorer on what is known, intervals on known truths, and runs that are killed.

Coverage is measured on simulated studies: prompts differ in difficulty (sd 0.8 on the probit scale, so the truth is
``mean Phi(level / sqrt(1 + 0.8^2))``), pictures pass by chance.  Killed is a real system, the shipped mini.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap, norm, t

from benchmarks.rows import ROOT, Measure, save
from tdm_core.evaluation.manifest import read_pictures
from tdm_core.evaluation.metrics.kept import on_all_cores
from tdm_core.evaluation.runs import Run
from tdm_core.scenes.detect import Detection, detect
from tdm_core.scenes.grammar import parse
from tdm_core.scenes.render import Layout, draw, layout
from tdm_core.scenes.scorer import judge
from tdm_core.scenes.suite import SuitePrompt, load_suite
from tdm_core.stats import clustered_bootstrap, clustered_mean, paired_difference, wilson_interval

STUDIES = 1000
LEVELS, SPREAD, GAIN, OWN_SPREAD = (-0.3, 1.0), 0.8, 0.2, 0.4
KILLS, PROMPTS, SEEDS, BATCH = 10, 40, 2, 2
LATEST_SECONDS = 0.1  # from the first files of a life to its kill


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measures = [*scorer(), *(coverage(design) for design in DESIGNS), against_scipy(), *killed(Path(folder))]
    for measure in measures:
        print(f"{measure.what:75} {measure.value:9.4g} {measure.bar} {measure.met}")
    print(save("evaluation", "make bench ARGS=evaluation", measures))


# --- the scorer -----------------------------------------------------------------------------------------------------


def scorer() -> list[Measure]:
    """The whole suite's true renders, each beside the next prompt of its category, and as many pictures of noise."""
    suite, rng = load_suite(), np.random.default_rng(0)
    layouts = [layout(parse(item.prompt), rng) for item in suite]
    seen = on_all_cores(lambda scene: detect(draw(scene)), layouts)
    noise = [rng.integers(0, 256, draw(scene).shape, dtype=np.uint8) for scene in layouts]
    true = _shares(suite, seen, suite)
    nothing = _shares(suite, on_all_cores(detect, noise), suite)
    others = _next_of_category(suite)
    shuffled, floor = _shares(suite, seen, others), _shares(suite, [_as_laid_out(scene) for scene in layouts], others)
    least, overall, chance = min(true.values()), _mean(shuffled), _mean(floor)
    n = len(suite)
    return [
        Measure(what="true renders, worst category", value=least, n=n, bar=">= 0.99", met=least >= 0.99),
        Measure(what="noise", value=_mean(nothing), n=n, bar="<= 0.005", met=_mean(nothing) <= 0.005),
        Measure(
            what=f"true renders, the category's next prompt (floor of a perfect detector: {chance:.3f})",
            value=overall,
            n=n,
            bar="the floor, to 0.005",
            met=abs(overall - chance) <= 0.005,
        ),
    ]


def _shares(
    suite: Sequence[SuitePrompt], seen: Sequence[list[Detection]], asked: Sequence[SuitePrompt]
) -> dict[str, float]:
    """Category -> share of the pictures that are what ``asked`` asks for."""
    passed: dict[str, list[float]] = {}
    for item, found, prompt in zip(suite, seen, asked, strict=True):
        passed.setdefault(item.tag, []).append(float(judge(found, parse(prompt.prompt), item.tag).passed))
    return {tag: float(np.mean(values)) for tag, values in passed.items()}


def _next_of_category(suite: Sequence[SuitePrompt]) -> list[SuitePrompt]:
    by_tag = {item.tag: [other for other in suite if other.tag == item.tag] for item in suite}
    places = {item: place for of_tag in by_tag.values() for place, item in enumerate(of_tag)}
    return [by_tag[item.tag][(places[item] + 1) % len(by_tag[item.tag])] for item in suite]


def _as_laid_out(scene: Layout) -> list[Detection]:
    return [Detection(kind=item.kind, x=item.x, y=item.y, confidence=1.0, tile=item.tile) for item in scene.objects]


def _mean(shares: Mapping[str, float]) -> float:
    return float(np.mean(list(shares.values())))


# --- intervals ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Design:
    """A simulated study; the categories differ in level and hold equally many prompts."""

    prompts: int
    pictures: int
    categories: int = 1
    paired: bool = False
    small: bool = False
    """Too few prompts for the bar: measured to be told."""

    def __str__(self) -> str:
        strata = f", {self.categories} categories" if self.categories > 1 else ""
        return f"{self.prompts} x {self.pictures}{strata}{', paired' if self.paired else ''}"


DESIGNS = (
    Design(prompts=80, pictures=4),
    Design(prompts=96, pictures=4, categories=6),
    Design(prompts=96, pictures=4, categories=6, paired=True),
    Design(prompts=24, pictures=4),
    Design(prompts=24, pictures=4, categories=6),
    Design(prompts=12, pictures=2),
    Design(prompts=12, pictures=2, categories=6, small=True),
    Design(prompts=12, pictures=2, categories=6, paired=True, small=True),
)


def coverage(design: Design, studies: int = STUDIES) -> Measure:
    """How often the nominal 95 % interval holds the truth, with Wilson's interval of that share."""
    levels = np.linspace(*LEVELS, design.categories)
    truth = float(np.mean(norm.cdf(levels / (1 + SPREAD**2) ** 0.5)))
    if design.paired:
        spread = 1 + SPREAD**2 + OWN_SPREAD**2
        truth = float(np.mean(norm.cdf((levels + GAIN) / spread**0.5) - norm.cdf(levels / spread**0.5)))
    strata = {f"{number:03d}": number % design.categories for number in range(design.prompts)}
    rng, covered = np.random.default_rng(0), 0
    for study in range(studies):
        level = levels[list(strata.values())] + rng.normal(0, SPREAD, design.prompts)
        arms = []
        for gain in (GAIN, 0.0) if design.paired else (0.0,):
            chance = norm.cdf(level + gain + (rng.normal(0, OWN_SPREAD, design.prompts) if design.paired else 0))
            passed = rng.random((design.prompts, design.pictures)) < chance[:, None]
            arms.append(dict(zip(strata, passed.astype(float).tolist(), strict=True)))
        estimate = (paired_difference if design.paired else clustered_bootstrap)(*arms, strata=strata, seed=study)
        covered += estimate.low <= truth <= estimate.high
    low, high = wilson_interval(covered, studies)
    share = covered / studies
    return Measure(
        what=f"coverage of 95 % intervals, {design}",
        value=share,
        low=low,
        high=high,
        n=studies,
        bar="" if design.small else "0.93 to 0.97",
        met=None if design.small else 0.93 <= share <= 0.97,
    )


class OneFewer(np.random.Generator):
    """What our bootstrap draws, as SciPy asks for it: a column more, which the statistic then leaves out."""

    def integers(self, low, high=None, size=None, **options):  # type: ignore[override]
        drawn = super().integers(high, size=(size[0], size[1] - 1))
        return np.concatenate([drawn, np.zeros((size[0], 1), drawn.dtype)], axis=1)


def scipys_interval(scores: Mapping[str, Sequence[float]], *, confidence: float, seed: int) -> tuple[float, float]:
    """SciPy's percentile interval of the mean on the resamples that `clustered_bootstrap` draws.

    ``scores``: cluster -> values, equally many in each; the tails are Student's, as Hesterberg widens them.
    """
    means = np.array([np.mean(scores[name]) for name in sorted(scores)])
    found = bootstrap(
        (means,),
        lambda drawn, axis: drawn[..., :-1].mean(axis=axis),
        n_resamples=2000,
        confidence_level=1 - 2 * norm.cdf(t.ppf((1 - confidence) / 2, df=len(means) - 1)),
        method="percentile",
        rng=OneFewer(np.random.PCG64(seed)),
    ).confidence_interval
    return float(found.low), float(found.high)


def against_scipy() -> Measure:
    rng, furthest = np.random.default_rng(0), 0.0
    for seed, confidence in enumerate((0.8, 0.95, 0.99)):
        scores = {f"{number:02d}": rng.random(4).tolist() for number in range(20)}
        ours = clustered_bootstrap(scores, confidence=confidence, seed=seed)
        low, high = scipys_interval(scores, confidence=confidence, seed=seed)
        furthest = max(furthest, abs(ours.low - low), abs(ours.high - high))
        furthest = max(furthest, abs(ours.value - clustered_mean(scores)))
    return Measure(
        what="an interval's end against SciPy's on the same resamples, furthest",
        value=furthest,
        n=3,
        bar="<= 1e-6",
        met=furthest <= 1e-6,
    )


# --- crashes --------------------------------------------------------------------------------------------------------


def killed(folder: Path) -> list[Measure]:
    """The shipped mini's student, its process killed ten times; then one quiet run, and one by two processes."""
    rng, total = random.Random(0), PROMPTS * SEEDS
    for _ in range(KILLS):
        before, process = _lines(folder / "killed"), _generate(folder / "killed")
        while _lines(folder / "killed") <= before:
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with status {process.returncode} before it could be killed")
            time.sleep(0.002)
        time.sleep(rng.random() * LATEST_SECONDS)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError("the run ended before it could be killed")
    kept = _lines(folder / "killed")
    for started in ([_generate(folder / "killed"), _generate(folder / "whole")], [_rank(folder, 0), _rank(folder, 1)]):
        if any([process.wait() for process in started]):
            raise RuntimeError("a run that nobody killed has failed")
    broken, twice = _faults(folder / "killed")
    whole = _hashes(folder / "whole")
    unlike, apart = (_differing(whole, _hashes(folder / name)) for name in ("killed", "two"))
    return [
        Measure(what=f"killed {KILLS} times, pictures kept by then", value=kept, n=total),
        Measure(what="the same, files that cannot be read or lie about", value=broken, bar="0", met=broken == 0),
        Measure(what="the same, pictures made twice", value=twice, n=total, bar="0", met=twice == 0),
        Measure(what="the same, pictures unlike the quiet run's", value=unlike, n=total, bar="0", met=unlike == 0),
        Measure(what="two processes, pictures unlike one's", value=apart, n=total, bar="0", met=apart == 0),
    ]


def _rank(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    return _generate(folder / "two", {"RANK": str(rank), "WORLD_SIZE": "2"})


def _generate(run: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    options = ["--preset=mini-sd3", "--role=student", f"--limit={PROMPTS}", f"--seeds={SEEDS}", f"--batch-size={BATCH}"]
    return subprocess.Popen(
        [sys.executable, "-m", "tdm_core", "evaluate", "generate", *options, f"--out={run}"],
        cwd=ROOT,
        env=os.environ | {"TDM_DEVICE": "cpu", "TDM_THREADS": "1", "OMP_NUM_THREADS": "1"} | (environment or {}),
        stdout=subprocess.DEVNULL,
    )


def _lines(run: Path) -> int:
    path = run / "manifest.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _faults(run: Path) -> tuple[int, int]:
    """Files that are broken or left over, and pictures with more than one whole line."""
    opened, broken = Run.open(run), sum(1 for _ in run.rglob(".*.part"))
    for _, picture in opened.pictures("student"):
        broken += opened.pixels(picture).shape != (96, 96, 3)  # a file unlike its line is an error
    keys = []
    for path in run.glob("manifest*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith("}"):  # a kill may tear the last one
                keys.append(json.loads(line)["key"])
    return broken, len(keys) - len(set(keys))


def _hashes(run: Path) -> dict[str, str]:
    return {picture.key: picture.sha256 for picture in read_pictures(run).values()}


def _differing(first: Mapping[str, str], second: Mapping[str, str]) -> int:
    return sum(first.get(key) != second.get(key) for key in first.keys() | second.keys())


if __name__ == "__main__":
    main()
