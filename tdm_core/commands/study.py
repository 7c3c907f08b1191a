"""``study``: a blind study's life from a shell, and what its figures are worth."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tdm_core.errors import ConfigError
from tdm_core.study import StudyReport, StudyStatus
from tdm_core.wiring import Wiring

SIMULATION_OPTIONS = {
    "raters": "how many take part (default: %(default)s)",
    "prompts": "how many there are (default: %(default)s)",
    "votes": "real ones per rater (default: %(default)s)",
    "rater_sd": "spread of the raters' taste, on the logit (default: %(default)s)",
    "prompt_sd": "spread of the prompts, on the logit (default: %(default)s)",
    "share": "true mean share of the student (default: %(default)s)",
    "runs": "how many studies to simulate (default: %(default)s)",
    "seed": "equal seeds give equal figures (default: %(default)s)",
}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "study", help="a blind study: create, build, open, close, report, export, verify ..."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create_parser = actions.add_parser("create", help="register a study from its TOML file; prints its hash")
    create_parser.add_argument("file", type=Path, metavar="FILE")
    create_parser.add_argument("--name", metavar="NAME", help="default: the file's name without its ending")
    create_parser.set_defaults(run=create)
    for name, run, text in (
        ("build", build, "make the pairs that the study lacks; can be stopped and taken up again"),
        ("open", open_study, "begin to take votes"),
        ("close", close, "end the study for good"),
        ("status", status, "state, pairs and votes; nothing on how the votes fell"),
        ("report", report, "what the votes of a closed study say"),
        ("export", export, "votes as CSV and JSONL, rules, report and data card"),
        ("verify", verify, "look for a changed, dropped, added or moved vote; exit 1 if there is one"),
        ("invite", invite, "print new one-use codes"),
        ("replay", replay_study, "make the study again from its segments in an empty database"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("name", metavar="NAME")
        action.set_defaults(run=run)
        if name in ("status", "report"):
            action.add_argument("--json", action="store_true", help="print one JSON object")
        if name in ("report", "export"):
            action.add_argument("--unblind", action="store_true", help="of an open study, too; this is noted in it")
        if name == "export":
            action.add_argument("--out", required=True, type=Path, metavar="DIR")
        if name == "invite":
            action.add_argument("--count", type=int, default=1, metavar="N")
    _add_simulate(actions)
    listing = actions.add_parser("list", help="all studies of the database")
    listing.set_defaults(run=list_studies)


def create(args: argparse.Namespace) -> int:
    from tdm_core.generation.bank import read_prompts
    from tdm_core.study.authoring import read_rules, study_id
    from tdm_core.study.service import new_study, utc_now_ms

    name, rules = study_id(args.name or args.file.stem), read_rules(args.file, read_prompts)
    args.wiring.study_preset(rules.preset)
    with args.wiring.store.writing(name) as records:
        if records.study() is not None:
            raise ConfigError(f"there is a study {name!r} already, and its rules cannot change; choose another --name")
        records.add_study(new_study(name, rules, now_ms=utc_now_ms()))
    print(f"{name}: {rules.target} pairs, {rules.real_trials} real trials per rater, {rules.target_raters} raters")
    print(f"pre-registration (publish it before the first vote): sha256 {rules.sha256}")
    return 0


def build(args: argparse.Namespace) -> int:
    wiring: Wiring = args.wiring
    shown = None
    for progress in wiring.build_bank(args.name, wiring.study(args.name), wiring.engine.sample):
        if progress.pairs != shown:
            shown = progress.pairs
            print(f"{progress.pairs} of {progress.target} pairs", flush=True)
    return 0


def open_study(args: argparse.Namespace) -> int:
    return _tell(args.wiring.study(args.name).open())


def close(args: argparse.Namespace) -> int:
    return _tell(args.wiring.study(args.name).close())


def status(args: argparse.Namespace) -> int:
    return _tell(args.wiring.study(args.name).status(), as_json=args.json)


def list_studies(args: argparse.Namespace) -> int:
    for name in args.wiring.store.study_ids():
        now = args.wiring.study(name).status()
        print(f"{name:20} {now.state:10} {now.pairs:4} pairs {now.votes:6} votes")
    return 0


def report(args: argparse.Namespace) -> int:
    found = _report(args)
    if args.json:
        print(json.dumps(found.to_json()))
        return 0
    from tdm_core.study.export import data_card

    print(data_card(args.wiring.study(args.name).rules, found).partition("`votes.csv`")[0].strip())
    return 0


def export(args: argparse.Namespace) -> int:
    from tdm_core.generation.media import write_whole
    from tdm_core.study.export import export_files

    found = _report(args)
    with args.wiring.store.reading(args.name) as records:
        votes, withdrawn = records.votes(), records.withdrawn()
    files = export_files(votes, rules=args.wiring.study(args.name).rules, report=found, withdrawn=withdrawn)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"--out {args.out}: there is a file of that name; name a folder") from None
    for name, content in files.items():
        write_whole(args.out / name, content)
        print(args.out / name)
    return 0


def verify(args: argparse.Namespace) -> int:
    from tdm_core.storage import segment_problems

    wiring: Wiring = args.wiring
    wiring.study(args.name)  # says so if there is none
    found = wiring.store.problems(args.name)
    segments = wiring.study_folder(args.name) / "segments"
    if segments.is_dir():
        found += segment_problems(wiring.store, args.name, segments)
    for problem in found:
        print(problem)
    if not found:
        with wiring.store.reading(args.name) as records:
            count, head = records.head()
        print(f"{args.name}: {count} votes hold together; the last row's sha256 is {head}")
    return 1 if found else 0


def invite(args: argparse.Namespace) -> int:
    if not 1 <= args.count <= 10_000:
        raise ConfigError(f"--count {args.count}: 1 to 10000")
    for code in args.wiring.study(args.name).invite(args.count):
        print(code)
    return 0


def replay_study(args: argparse.Namespace) -> int:
    from tdm_core.storage import replay

    count = replay(args.wiring.store, args.wiring.study_folder(args.name) / "segments")
    print(f"{args.name}: {count} votes")
    return 0


def _report(args: argparse.Namespace) -> StudyReport:
    service = args.wiring.study(args.name)
    return service.unblind() if args.unblind else service.results()


def _tell(now: StudyStatus, *, as_json: bool = False) -> int:
    words = f"{now.state}: {now.pairs} of {now.target} pairs, {now.votes} votes"
    print(json.dumps(asdict(now)) if as_json else words)
    return 0


def _add_simulate(actions: Any) -> None:
    from tdm_core.study.simulate import Simulation

    parser = actions.add_parser("simulate", help="synthetic raters through the real schedule and analysis")
    for field in fields(Simulation):
        name, kind = "--" + field.name.replace("_", "-"), type(field.default)
        parser.add_argument(name, type=kind, default=field.default, help=SIMULATION_OPTIONS[field.name], metavar="N")
    parser.add_argument("--processes", type=int, default=None, metavar="N", help="default: one per core")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=simulate)


def simulate(args: argparse.Namespace) -> int:
    from tdm_core.study.simulate import Simulation
    from tdm_core.study.simulate import simulate as run

    try:
        simulation = Simulation(**{field.name: getattr(args, field.name) for field in fields(Simulation)})
    except ValueError as error:
        raise ConfigError(f"study simulate: {error}") from None
    outcome = asdict(run(simulation, processes=args.processes or os.cpu_count() or 1))
    if args.json:
        print(json.dumps(asdict(simulation) | outcome))
    else:
        for name, value in outcome.items():
            print(f"{name.replace('_', ' '):20} {value:.4f}")
    return 0
