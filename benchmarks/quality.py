"""A shipped mini on its whole suite: every row of the README's quality table, and the scores on both model cards.

``python -m benchmarks.quality [PRESET]`` generates what is missing under ``runs/quality/PRESET`` (56 network
evaluations for each of 2,220 teacher's pictures: about 20 minutes on two cores), scores it and writes it down, also
for the page's Benchmarks tab (``assets/reports``).  Pictures are asked the scenes suite, clips the moving one.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.rows import ROOT, Measure, save
from tdm_core.evaluation.arms import arms_of, choose_arms
from tdm_core.evaluation.harness import changed_arms, generate
from tdm_core.evaluation.manifest import HEADER, read_header, write_header
from tdm_core.evaluation.metrics import Metric, frechet, mini_vbench, scenes
from tdm_core.evaluation.publish import publish
from tdm_core.evaluation.report import score, table
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import OWN, load_suite
from tdm_core.generation.presets import Preset
from tdm_core.settings import Settings
from tdm_core.wiring import Wiring

SCORES = "## Scores"
DEFAULT = "mini-sd3"
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What a world's models are asked, and judged by."""

    suite: str
    metrics: tuple[Metric, ...]
    seeds: int
    what: str

    @property
    def judge(self) -> str:
        return self.metrics[0].NAME

    @classmethod
    def of(cls, preset: Preset) -> Exam:
        return MOVING if preset.media == "video" else STILL


STILL = Exam(
    suite=OWN["image"],
    metrics=(scenes, frechet),
    seeds=4,
    what="Overall is the mean of the six categories; intervals resample prompts. Frechet: to true renders, lower is"
    " better; true renders drawn anew have one as well (`floor` in the report).",
)
MOVING = Exam(
    suite=OWN["video"],
    metrics=(mini_vbench,),
    seeds=2,
    what="Overall is mini-VBench: 1 is a true clip, 0 the floor that was measured for each dimension; intervals"
    " resample prompts.",
)


def main(name: str = DEFAULT) -> None:
    wiring = Wiring(Settings.from_env())
    preset = wiring.presets[name]
    exam = Exam.of(preset)
    folder = ROOT / "runs" / "quality" / name
    forget_changed(folder, preset)
    generate(
        folder,
        preset=preset,
        suite=load_suite(exam.suite),
        arms=choose_arms(preset, None),
        sampler=wiring.engine,
        limit=None,
        seeds=exam.seeds,
        batch_size=32,
        report=_Lines(),
    )
    run = Run.open(folder)
    results = score(run, exam.metrics)
    publish(run, ROOT / "assets" / "reports" / name)
    measures = bars(results, exam.judge, of_world=name == DEFAULT)
    for measure in measures:
        print(f"{measure.what:60} {measure.value:6.3f} {measure.bar:9} {measure.met}")
    cards = [preset.local(preset.student.lora)]
    if Path(preset.base).name == name:  # a second preset of the same base leaves its card alone
        cards.append(preset.local(preset.base))
    for card in filter(None, cards):
        write_scores(card / "README.md", scores_section(preset, results))
    print(save(f"quality-{name}", f"python -m benchmarks.quality {name}", measures))


def forget_changed(folder: Path, preset: Preset) -> None:
    """Drop what an earlier model made here, which ``generate`` refuses to do.

    The folder is this benchmark's own, and a new student need not wait for an old teacher's pictures.
    """
    if not (folder / HEADER).exists():
        return
    header = read_header(folder)
    changed = changed_arms(header, preset)
    for arm in changed:
        shutil.rmtree(folder / arm, ignore_errors=True)
    kept = {name: entry for name, entry in header.arms.items() if name not in changed}
    write_header(folder, replace(header, arms=kept))


def bars(results: Result, judge: str, *, of_world: bool = True) -> list[Measure]:
    """The figures that a few-step student is held against, and what it is held against.

    ``of_world``: also whether the world can be learnt, and is hard enough that steps matter; the first mini shows it.
    """
    arms, compared = results[judge], results["comparisons"][judge]
    equal = _better(arms, "teacher_equal")
    gap = next(row for what, row in compared.items() if what.startswith("gap closed"))
    unguided, guided = _better(arms, "teacher_equal_unguided"), _better(arms, "teacher_equal_guided")
    few, lead = _better(arms, "teacher_few"), compared[f"teacher - {equal}"]
    rows = [
        ("teacher, full steps", arms["teacher"], 0.80 if of_world else None, "value"),
        ("student", arms["student"], None, "value"),
        ("student - teacher", compared["student - teacher"], -0.02, "value"),
        *((f"student - {arm}", compared[f"student - {arm}"], 0.0, "low") for arm in (unguided, guided) if arm),
        (f"student - {few}", compared[f"student - {few}"], 0.0, "value"),
        (f"teacher - {equal}", lead, 0.15 if of_world else None, "value"),
        ("share of that gap which the student closes", gap, 0.8, "value"),
    ]
    measures = [_measure(what, row, least, key) for what, row, least, key in rows]
    if "frechet" not in results["comparisons"]:
        return measures
    distances, ratio = results["frechet"], results["comparisons"]["frechet"]["student / teacher"]
    drawn = distances["teacher"]
    perfect = {"value": drawn["floor"], "low": drawn["floor_low"], "high": drawn["floor_high"]}
    return [
        *measures,
        _row("Frechet distance, teacher", drawn, "", None),
        _row("Frechet distance, student", distances["student"], "", None),
        _row("Frechet distance, true renders drawn anew [least, most]", perfect, "", None),
        _row("Frechet distance, student / teacher", ratio, "<= 1.15", ratio["value"] <= 1.15),
    ]


def _better(arms: Result, beginning: str) -> str:
    """Of the time grids on which a cut teacher ran, the one that suits it best."""
    return max((arm for arm in arms if arm.startswith(beginning)), key=lambda arm: arms[arm]["value"], default="")


def _measure(what: str, row: Result, least: float | None, key: str) -> Measure:
    if least is None:
        return _row(what, row, "", None)
    bar = "interval above 0" if key == "low" else f">= {least:g}"
    return _row(what, row, bar, row[key] > 0 if key == "low" else row[key] >= least)


def _row(what: str, row: Result, bar: str, met: bool | None) -> Measure:
    return Measure(what=what, value=row["value"], low=row["low"], high=row["high"], n=row.get("n"), bar=bar, met=met)


def scores_section(preset: Preset, results: Result) -> str:
    """Markdown for the model cards: every sampler with its interval, then the paired differences."""
    arms, exam = arms_of(preset), Exam.of(preset)
    scored, distances = results[exam.judge], results.get("frechet", {})
    tags = list(scored["student"]["per_tag"])
    rows = []
    for arm, row in scored.items():
        by_tag = [f"{row['per_tag'][tag]:.2f}" for tag in tags]
        distance = [f"{distances[arm]['value']:.3f}"] if distances else []
        rows.append([arm, arms[arm].steps, _nfe(preset, arm), _interval(row), *by_tag, *distance])
    header = ["sampler", "steps", "network evaluations", "overall [95 %]", *tags, *(["Frechet"] if distances else [])]
    compared = [[what, _interval(row)] for what, row in results["comparisons"][exam.judge].items()]
    samples = "clips" if preset.media == "video" else "pictures"
    return "\n".join(
        [
            f"{SCORES}\n",
            f"The {exam.suite} suite, {scored['student']['n'] // exam.seeds} prompts x {exam.seeds} {samples}, the same"
            f" noises for all; made by `python -m benchmarks.quality {preset.name}`. {exam.what}\n",
            table(header, rows),
            table(["paired, same prompts and noises", "difference [95 %]"], compared),
        ]
    )


def _nfe(preset: Preset, arm: str) -> int:
    found = arms_of(preset)[arm]
    return found.steps * (2 if found.guidance_scale > 1 else 1)


def _interval(row: Result) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def write_scores(card: Path, section: str) -> None:
    """Put the section at the card's end, in place of an older one."""
    text = card.read_text(encoding="utf-8").partition(f"\n{SCORES}\n")[0]
    card.write_text(f"{text.rstrip()}\n\n{section}", encoding="utf-8")


class _Lines:
    """A line of progress every half minute."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, arm: str, done: int, total: int) -> None:
        if time.monotonic() - self._told > 30 or done == total:
            self._told = time.monotonic()
            print(f"{arm:<34} {done:>5} of {total}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
