"""``backup``: all studies of the database in one file, and back, also from one kind of database to the other."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("backup", help="all studies of the database in one file, and back")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, run, text in (
        ("write", write, "write a new file, while raters go on voting"),
        ("restore", restore_file, "fill an empty database from a file; it may be of another kind"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("file", type=Path, metavar="FILE")
        action.set_defaults(run=run)


def write(args: argparse.Namespace) -> int:
    from tdm_core.storage import backup

    return _tell(args.file, backup(args.wiring.store, args.file))


def restore_file(args: argparse.Namespace) -> int:
    from tdm_core.storage import restore

    return _tell(args.wiring.store.name, restore(args.wiring.store, args.file))


def _tell(where: object, rows: Mapping[str, int]) -> int:
    print(f"{where}: {rows['study']} studies, {rows['trial']} trials, {rows['vote']} votes, {rows['rater']} raters")
    return 0
