"""``python -m tdm_core``: every command that scripts rely on.

Exit status: 0 success; 2 a mistake in usage or configuration, told in at most two lines on stderr; 1 a failure at
run time.  Usage text appears only under ``--help``.  Only the family that is called is imported.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from tdm_core.errors import ConfigError, RequestError, TDMError

FAMILIES = {
    "presets": "tdm_core.commands.presets",
    "pair": "tdm_core.commands.pair",
    "bank": "tdm_core.commands.bank",
    "study": "tdm_core.commands.study",
    "backup": "tdm_core.commands.backup",
    "evaluate": "tdm_core.evaluation.cli",
    "doctor": "tdm_core.commands.doctor",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _tell(f"{self.prog}: {' '.join(message.split())[:400]} (usage: {self.prog} --help)")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # stderr is for what the user can mend
    args = _parser(arguments).parse_args(arguments)
    try:
        return _run(args)
    except TDMError as error:
        _tell(str(error))
        return 2 if isinstance(error, ConfigError | RequestError) else 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        _tell(f"{error.filename or 'system'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(arguments: Sequence[str]) -> Parser:
    parser = Parser(prog="python -m tdm_core", description="Few-step diffusion: compare, study, evaluate.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    present = {name: module for name, module in FAMILIES.items() if find_spec(module)}
    called = [name for name in arguments[:1] if name in present]
    for name in called or present:
        import_module(present[name]).add_parser(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument(
            "--presets", type=Path, metavar="DIR", help="a folder of further preset files (default: TDM_PRESETS)"
        )
    return parser


def _run(args: argparse.Namespace) -> int:
    from tdm_core.settings import Settings
    from tdm_core.wiring import Wiring

    settings = Settings.from_env()
    args.wiring = Wiring(replace(settings, presets=args.presets) if args.presets else settings)
    try:
        return int(args.run(args) or 0)
    finally:
        args.wiring.close()


def _tell(message: str) -> None:
    print("\n".join(message.splitlines()[:2]), file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
