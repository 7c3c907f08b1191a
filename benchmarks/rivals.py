"""TDM against its rivals, its own ablations and other numbers of steps: ``python -m benchmarks.rivals TABLE``.

A run is one row under ``benchmarks/results/rivals``; what is there and still true (recipe, teacher's weights, number of
questions) is not run again, so a stopped table goes on where it was.  Then the tables and plots of ``README.md`` and
``train/README.md`` are made anew from the rows alone (``--report`` does only that).  On one core of an ordinary machine
a student takes about five minutes; ``rivals`` and ``ablations`` are an hour each.

========= =============================================================================================
table     what
========= =============================================================================================
rivals    K = 4: the teacher in every way at 4 and 8 evaluations, LCM-LoRA, DMD2, TDM; three seeds, of other systems one
ablations K = 4: landing, critic target, Huber; three seeds
more      further ablations; one seed
steps     K = 1, 2, 8: the teacher and all methods; one LoRA for all K in four ways; one seed
rates     five learning rates and two batch sizes for each method, to choose from; one seed
========= =============================================================================================
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import rival_report
from benchmarks.rival_arms import (
    ABLATIONS,
    BUDGET,
    METHODS,
    MORE_ABLATIONS,
    RATES,
    SEEDS,
    STOCHASTIC,
    SYSTEMS,
    TELLING,
    Student,
    Teacher,
    alone,
    teachers,
)
from benchmarks.rival_rows import FOLDER, RivalRow, load, mean, questions, save, values
from tdm_core.errors import ConfigError, TDMError
from tdm_core.training.config import DistillConfig

TABLES = {"rivals": 1110, "ablations": 240, "more": 240, "steps": 1110, "rates": 240}
"""Questions of each; 1110 are the whole suite twice, the second time from other noise."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to be made."""

    arm: Student | Teacher
    system: str
    seed: int
    config: DistillConfig

    @property
    def name(self) -> str:
        return f"{self.system}-{self.arm.name}-s{self.seed}"

    @property
    def hash(self) -> str:
        """Twelve digits of all that decides the row, besides the teacher's weights and the questions."""
        if isinstance(self.arm, Student):
            return self.config.hash
        decides = f"{self.arm} {self.config.objective.guidance_scale} {self.config.trajectory}"
        return hashlib.sha256(decides.encode()).hexdigest()[:12]


def jobs(table: str, system: str, budget: int) -> Iterator[Job]:
    """All runs of a table, in the order in which they are best made: one seed of everything first."""
    config = METHODS[0].config(system, 0, budget)
    teaching: Sequence[Teacher] = ()
    students, seeds = {
        "rivals": ((*METHODS, STOCHASTIC), SEEDS),
        "ablations": (ABLATIONS, SEEDS),
        "more": (MORE_ABLATIONS, SEEDS[:1]),
        "steps": ((*TELLING, *alone(METHODS, 1), *alone(METHODS, 2), *alone(METHODS, 8)), SEEDS[:1]),
        "rates": (RATES, SEEDS[:1]),
    }[table]
    if system != "mini-sd3":
        seeds = seeds[:1]
    if table == "rivals":
        teaching = (SYSTEMS[system].full, *teachers(4))
    if table == "steps":
        # Guided in one step is two evaluations: it belongs to K = 1 and to K = 2.
        teaching = tuple({arm.name: arm for steps in (1, 2, 8) for arm in teachers(steps)}.values())
    yield from (Job(arm=arm, system=system, seed=0, config=config) for arm in teaching)
    for seed in seeds:
        yield from (Job(arm=arm, system=system, seed=seed, config=arm.config(system, seed, budget)) for arm in students)


def is_current(job: Job, row: RivalRow | None, base: str, number: int) -> bool:
    """Does this row answer what the job asks?"""
    if row is None or row.base_hash != base or row.config_hash != job.hash:
        return False
    asked = len(questions(number, moving=SYSTEMS[job.system].moving))
    return all(len(values(score.passed)) >= asked for by_name in row.scores.values() for score in by_name.values())


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        if options.check:
            return check(options)
        if not options.report:
            make(options)
        if options.folder == FOLDER:
            rival_report.write(load())
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TDMError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(options: argparse.Namespace) -> None:
    """Make the rows that are missing."""
    from benchmarks.rival_runs import base_hash  # noqa: PLC0415 - a report needs no torch

    rows, chosen = load(options.folder), choose(options)
    base = base_hash(chosen[0].config)
    missing = [job for job in chosen if not is_current(job, rows.get(job.name), base, options.questions)]
    print(f"{options.table}: {len(chosen) - len(missing)} of {len(chosen)} rows are there", flush=True)
    for job in missing:
        if options.dry_run:
            print(job.name)
            continue
        print(job.name, flush=True)
        row = run(job, options.questions, options.budget)
        best = {steps: round(mean([row.own(int(steps)).passed]).value, 3) for steps in row.scores}
        print(f"  {best}, {row.forwards:,} forwards, {row.minutes} minutes -> {save(row, options.folder)}", flush=True)


def check(options: argparse.Namespace) -> int:
    """Make rows anew that are there, and hold each against its interval; 1 if one lies outside."""
    rows, outside = load(options.folder), 0
    for job in choose(options):
        if old := rows.get(job.name):
            new = run(job, options.questions, options.budget)
            for steps in old.scores:
                was, found = mean([old.own(int(steps)).passed]), mean([new.own(int(steps)).passed]).value
                held = was.low <= found <= was.high
                outside += not held
                told = f"{was.value:.3f} [{was.low:.3f}, {was.high:.3f}], now {found:.3f}"
                print(f"{job.name}, {steps} steps: {told}: {'inside' if held else 'OUTSIDE'}", flush=True)
    return 1 if outside else 0


def choose(options: argparse.Namespace) -> list[Job]:
    """The table's jobs, or those of some arms.

    Raises:
        ConfigError: if no job is left.
    """
    planned = list(jobs(options.table, options.system, options.budget))
    chosen = [job for job in planned if job.seed < options.seeds and (not options.only or job.arm.name in options.only)]
    if not chosen:
        names = ", ".join(dict.fromkeys(job.arm.name for job in planned))
        raise ConfigError(f"--only: no such arm in {options.table}; there are: {names}")
    return chosen


def run(job: Job, number: int, budget: int) -> RivalRow:
    """Make one row."""
    import torch  # noqa: PLC0415

    from benchmarks.rival_runs import run_student, run_teacher  # noqa: PLC0415

    torch.set_num_threads(job.config.run.threads)
    if isinstance(job.arm, Teacher):
        row = run_teacher(job.arm, job.system, job.config, number)
    else:
        row = run_student(job.arm, job.system, job.config, number, budget, print)
    return replace(row, config_hash=job.hash)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", choices=TABLES, default="rivals")
    parser.add_argument("--system", choices=tuple(SYSTEMS), default="mini-sd3")
    parser.add_argument("--only", action="append", default=[], metavar="ARM", help="these arms alone")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="the first so many seeds alone")
    parser.add_argument("--budget", type=int, default=BUDGET, help="network forwards of a student's training")
    parser.add_argument("--questions", type=int, help="of the suite (default: the table's, 1110 or 240)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the rows are")
    parser.add_argument("--dry-run", action="store_true", help="name the missing rows")
    parser.add_argument("--check", action="store_true", help="make rows anew and hold them against their intervals")
    parser.add_argument("--report", action="store_true", help="make tables and plots from the rows, run nothing")
    options = parser.parse_args(arguments)
    options.questions = options.questions or TABLES[options.table]
    return options


if __name__ == "__main__":
    sys.exit(main())
