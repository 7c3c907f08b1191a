"""Further training seeds of mini-sd3's 4-step student on the whole suite, beside the one that ships.

``python -m train.distill train/configs/mini-sd3-tdm.toml --set seed=1 --set run.folder=runs/sd3-seed1 --set
export.folder=runs/sd3-seed1/export`` makes one; ``python -m benchmarks.seeds runs/sd3-seed1/export ...`` scores it
against the pictures of all samplers that ``python -m benchmarks.quality mini-sd3-four`` has made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality import STILL
from benchmarks.rows import ROOT, Measure, save
from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.metrics import scenes
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import load_suite
from tdm_core.generation.engine import Engine
from tdm_core.generation.presets import Preset
from tdm_core.settings import Settings
from tdm_core.stats import BootstrapEstimate, clustered_bootstrap, paired_difference
from tdm_core.wiring import Wiring

PRESET = "mini-sd3-four"
Passes = Mapping[str, Sequence[float]]


def main(*folders: str) -> None:
    preset = Wiring(Settings.from_env()).presets[PRESET]
    shipped = Run.open(ROOT / "runs" / "quality" / PRESET)
    strata = {item.id: item.tag for item in shipped.items}
    known = scenes.measure(shipped).items
    students = {0: known["student"]} | {
        number: _score(preset, Path(folder), number) for number, folder in enumerate(folders, start=1)
    }
    equal = max(
        (arm for arm in known if arm.startswith("teacher_equal")),
        key=lambda arm: clustered_bootstrap(known[arm], strata=strata).value,
    )
    measures, values, least = [], [], float("inf")
    for number, passes in students.items():
        score = clustered_bootstrap(passes, strata=strata)
        lead = paired_difference(passes, known[equal], strata=strata)
        values.append(score.value)
        least = min(least, lead.low)
        measures += [
            _measure(f"student, training seed {number}", score),
            _measure(f"the same - teacher, seed {number}", paired_difference(passes, known["teacher"], strata=strata)),
            _measure(f"the same - {equal}, seed {number}", lead),
        ]
    measures += [
        Measure(what="standard deviation over training seeds", value=float(np.std(values, ddof=1)), n=len(values)),
        Measure(what="best less worst", value=max(values) - min(values), n=len(values)),
        Measure(
            what=f"lower end of the worst lead over {equal}", value=least, bar="above 0", met=least > 0, n=len(values)
        ),
    ]
    for measure in measures:
        print(f"{measure.what:72} {measure.value:7.4f} {measure.bar} {measure.met}")
    print(save(f"seeds-{Path(preset.base).name}", f"python -m benchmarks.seeds {' '.join(folders)}", measures))


def _score(preset: Preset, lora: Path, number: int) -> Passes:
    """The answers of a student in ``lora``, on the noises of all others."""
    preset = replace(preset, student=replace(preset.student, lora=str(lora.resolve()), sigmas={}))
    folder = ROOT / "runs" / "quality" / f"{PRESET}-seed{number}"
    settings = Settings.from_env()
    engine = Engine({preset.name: preset}, device=settings.device, threads=settings.threads)
    generate(
        folder,
        preset=preset,
        suite=load_suite(STILL.suite),
        arms=choose_arms(preset, ["student"]),
        sampler=engine,
        limit=None,
        seeds=STILL.seeds,
        batch_size=32,
    )
    return scenes.measure(Run.open(folder)).items["student"]


def _measure(what: str, found: BootstrapEstimate) -> Measure:
    return Measure(what=what, value=found.value, low=found.low, high=found.high, n=found.n)


if __name__ == "__main__":
    main(*sys.argv[1:])
