"""``presets``: the systems, what each needs, whether it can run here and if not why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tdm_core.errors import PresetError
from tdm_core.generation.presets import Preset


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("presets", help="the systems, what each needs, whether it can run here")
    parser.add_argument("--check", action="store_true", help="refuse if a preset names what is not there")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    presets: list[Preset] = list(args.wiring.presets.values())
    if args.check:
        check(presets)
    rows = [describe(preset) for preset in presets]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(_line(row))
    return 0


def check(presets: list[Preset]) -> None:
    """Raises `PresetError` with the first preset's first problem."""
    problems = [problem for preset in presets for problem in preset.problems().values()]
    if problems:
        more = f"\n(and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise PresetError(problems[0] + more)


def describe(preset: Preset) -> dict[str, Any]:
    """One system as plain values."""
    why_not = next(iter(preset.problems().values()), None) or _downloads(preset)
    return {
        "name": preset.name,
        "title": preset.title,
        "family": preset.family,
        "media": preset.media,
        "size": [preset.width, preset.height],
        "base": preset.base,
        "student": preset.student.lora,
        "teacher_steps": preset.teacher.steps,
        "student_steps": preset.student.steps,
        "licence": preset.licence,
        "gated": preset.gated,
        "runs_here": why_not is None,
        "why_not": why_not,
    }


def _downloads(preset: Preset) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    wanted = [
        repository
        for key, repository in preset.repositories().items()
        if key == "base" and not isinstance(try_to_load_from_cache(repository, "model_index.json"), str)
    ]
    gate = (
        f"; it is gated: accept its licence at https://huggingface.co/{preset.base} and log in" if preset.gated else ""
    )
    return f"needs a download of {', '.join(wanted)}{gate}" if wanted else None


def _line(row: dict[str, Any]) -> str:
    steps = f"{row['teacher_steps']} -> {row['student_steps']} steps"
    state = "runs here" if row["runs_here"] else row["why_not"]
    return f"{row['name']:16} {row['title']:28} {row['media']:6} {steps:16} {state}"
