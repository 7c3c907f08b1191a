"""``bank``: the pairs of a blind study, made before anybody votes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tdm_core.errors import ConfigError
from tdm_core.generation.bank import STUDY_PROMPTS, build_bank, check_bank, read_prompts
from tdm_core.wiring import Wiring


def add_parser(subparsers: Any) -> None:
    bank = subparsers.add_parser("bank", help="pre-generated pairs for a blind study")
    actions = bank.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="make the pairs that the bank still lacks; goes on where it was stopped")
    build.add_argument("--preset", default="mini-sd3", metavar="P", help="the system (default: %(default)s)")
    build.add_argument(
        "--prompts", type=Path, default=STUDY_PROMPTS, metavar="FILE", help="one per line (default: the shipped ones)"
    )
    build.add_argument("--pairs", type=int, default=40, metavar="N", help="how many in all (default: %(default)s)")
    build.set_defaults(run=run_build)
    check = actions.add_parser("check", help="read every pair again; exit status 1 if one is damaged")
    check.set_defaults(run=run_check)
    for parser in (build, check):
        parser.add_argument("--out", type=Path, metavar="DIR", help="the bank (default: bank in TDM_DATA_DIR)")


def run_build(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    wiring: Wiring = args.wiring
    if args.preset not in wiring.presets:
        raise ConfigError(f"--preset {args.preset}: no such preset; there are: {', '.join(wiring.presets)}")
    if args.pairs < 1:
        raise ConfigError(f"--pairs {args.pairs}: at least one")
    folder = _folder(args)
    steps = build_bank(
        folder,
        preset=args.preset,
        prompts=read_prompts(args.prompts),
        sample=lambda request: wiring.engine.sample(request, previews=False),
        pairs=args.pairs,
        fps=wiring.presets[args.preset].fps,
    )
    with tqdm(total=args.pairs, unit="pair", disable=not sys.stderr.isatty()) as bar:
        for progress in steps:
            bar.update(min(progress.pairs, args.pairs) - bar.n)
    print(f"{folder}: {progress.pairs} pairs of {args.preset}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    folder = _folder(args)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no bank there; make one with: python -m tdm_core bank build")
    problems = check_bank(folder)
    for problem in problems:
        print(problem)
    print(f"{folder}: {len(problems)} damaged" if problems else f"{folder}: all is well")
    return 1 if problems else 0


def _folder(args: argparse.Namespace) -> Path:
    return args.out or args.wiring.settings.data_dir / "bank"
