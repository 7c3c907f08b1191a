"""``python -m tdm_core evaluate generate | score | compare | bench``."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tdm_core.errors import ConfigError
from tdm_core.evaluation import metrics, report, speed
from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.export import LAYOUTS, export
from tdm_core.evaluation.harness import BatchSampler, generate
from tdm_core.evaluation.publish import PUBLISHED, publish
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import OWN, load_suite, suite_list
from tdm_core.generation.media import write_whole
from tdm_core.generation.presets import Preset


class Wiring(Protocol):
    """What the entry point hands to a command; the engine is made when it is asked for."""

    @property
    def presets(self) -> Mapping[str, Preset]: ...

    @property
    def engine(self) -> BatchSampler: ...

    @property
    def settings(self) -> Any: ...


def add_parser(subparsers: Any) -> None:
    """Add ``evaluate``; each command sets ``run``, which takes the parsed arguments and returns the exit status."""
    evaluate = subparsers.add_parser("evaluate", help="benchmarks: generate, score, compare, bench")
    commands = evaluate.add_subparsers(dest="action", metavar="ACTION", required=True)

    parser = commands.add_parser("suites", help="list the suites: source, licence, and whether they are here")
    parser.set_defaults(run=_suites)

    parser = commands.add_parser("generate", help="make a run's pictures, or what is missing of them")
    parser.add_argument("--suite", help="which prompts, or a file of prompts (default: scenes; for clips, moving)")
    parser.add_argument("--preset", default="mini-sd3", help="the system (default: %(default)s)")
    parser.add_argument("--role", action="append", help="one row; may be repeated (default: all)")
    parser.add_argument("--limit", help="only so many prompts, spread over the categories")
    parser.add_argument("--seeds", default="4", help="pictures for each prompt (default: 4)")
    parser.add_argument("--batch-size", default="16")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.set_defaults(run=_generate)

    parser = commands.add_parser("score", help="measure a run: results.json and report.md")
    parser.add_argument("--run", dest="folder", type=Path, required=True)
    parser.add_argument("--metrics", help="separated by commas (default: all that fit the run's suite)")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="the pictures that fid and kid measure against")
    parser.add_argument("--bridges", type=Path, metavar="FILE", help="commands of the geneval and vbench programs")
    parser.set_defaults(run=_score)

    parser = commands.add_parser("export", help="lay a run's files out for somebody else's scorer")
    parser.add_argument("--run", dest="folder", type=Path, required=True)
    parser.add_argument("--layout", required=True, help=", ".join(LAYOUTS))
    parser.add_argument("--role", required=True, help="whose files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.set_defaults(run=_export)

    parser = commands.add_parser("publish", help="keep a scored run's report for the page: figures, plots, pairs")
    parser.add_argument("--run", dest="folder", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="assets/reports/NAME of a shipped model")
    parser.set_defaults(run=_publish)

    parser = commands.add_parser("compare", help="paired differences: of two runs, or of one run's rows")
    parser.add_argument("--run", dest="folders", type=Path, action="append", required=True, help="once or twice")
    parser.set_defaults(run=_compare)

    parser = commands.add_parser("bench", help="time student and teacher")
    parser.add_argument("--preset", default="mini-sd3", help="the system (default: %(default)s)")
    parser.add_argument("--runs", default="10")
    parser.add_argument("--batch-size", action="append", help="may be repeated (default: 1 and 8)")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.set_defaults(run=_bench)


def _suites(options: Namespace) -> int:
    print("\n".join(suite_list(_downloads(options))))
    return 0


def _generate(options: Namespace) -> int:
    preset = _preset(options)
    started = time.monotonic()

    def show(arm: str, done: int, total: int) -> None:
        minutes = (time.monotonic() - started) / 60
        print(f"\r{arm:<34} {done:>5} of {total}  {minutes:5.1f} min", end="\n" if done == total else "", flush=True)

    generate(
        options.out,
        preset=preset,
        suite=load_suite(options.suite or OWN[preset.media], _downloads(options)),
        arms=choose_arms(preset, options.role),
        sampler=options.wiring.engine,
        limit=None if options.limit is None else _positive("--limit", options.limit),
        seeds=_positive("--seeds", options.seeds),
        batch_size=_positive("--batch-size", options.batch_size),
        shard=_shard(),
        report=show,
    )
    return 0


def _score(options: Namespace) -> int:
    run = Run.open(options.folder)
    suite, media = run.header.suite, run.media
    names = options.metrics.split(",") if options.metrics else metrics.names(suite)
    if not names:
        raise ConfigError(
            f"--metrics: the {suite} suite has none of its own, so name some, separated by commas.\n"
            f"There are: {', '.join(metrics.fitting(suite, media))}"
        )
    places = {"reference": options.reference, "bridges": options.bridges}
    chosen = [metrics.load_metric(name.strip(), suite, media=media, **places) for name in names]
    report.score(run, chosen)
    print((options.folder / report.REPORT).read_text(encoding="utf-8"))
    return 0


def _publish(options: Namespace) -> int:
    publish(Run.open(options.folder), options.to)
    print(options.to / PUBLISHED)
    return 0


def _export(options: Namespace) -> int:
    count = export(Run.open(options.folder), options.role, options.layout, options.out)
    print(f"{count} files in {options.out}")
    return 0


def _compare(options: Namespace) -> int:
    if len(options.folders) > 2:
        raise ConfigError(f"--run was given {len(options.folders)} times; name one run or two")
    first, second = options.folders[0], options.folders[-1]
    if len(options.folders) == 1:
        print(report.within(Run.open(first)))
    else:
        print(report.compare(Run.open(first), Run.open(second)))
    return 0


def _bench(options: Namespace) -> int:
    preset = _preset(options)
    row = speed.measure_speed(
        options.wiring.engine,
        preset,
        load_suite(OWN[preset.media]).items,
        batch_sizes=[_positive("--batch-size", size) for size in options.batch_size or ("1", "8")],
        runs=_positive("--runs", options.runs),
    )
    if options.out:
        write_whole(options.out, (json.dumps(row, indent=2) + "\n").encode())
    print(speed.speed_text(row))
    return 0


def _preset(options: Namespace) -> Preset:
    wiring: Wiring = options.wiring
    if options.preset not in wiring.presets:
        raise ConfigError(f"--preset {options.preset}: no such preset; there are: {', '.join(wiring.presets)}")
    return wiring.presets[options.preset]


def _shard() -> tuple[int, int]:
    """Which of how many processes this is, as ``accelerate launch`` and ``torchrun`` tell it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _downloads(options: Namespace) -> Path:
    return Path(options.wiring.settings.data_dir) / "suites"


def _positive(option: str, text: str) -> int:
    """Checked here, not by argparse: a mistake then costs two lines, not the usage text."""
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} {text}: not a whole number from 1")
    return int(text)
