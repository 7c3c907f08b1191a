"""``presets``: the systems, what each needs, whether it can run here and if not why."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_core.errors import PresetError, TDMError
from tdm_core.generation.engine import choose_device, findings, free_gb, main_memory_gb
from tdm_core.generation.presets import Preset
from tdm_core.generation.readiness import Machine, reasons
from tdm_core.settings import Settings

GB = 1e9


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("presets", help="the systems, what each needs, whether it can run here")
    parser.add_argument(
        "--check", action="store_true", help="refuse if a preset cannot be read, or asks for what is not there"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    unreadable: dict[str, str] = args.wiring.unreadable
    presets: list[Preset] = [each for name, each in args.wiring.presets.items() if name not in unreadable]
    machine = this_machine(args.wiring.settings)
    if args.check:
        check(presets, unreadable, machine)
    rows = [describe(preset, machine) for preset in presets]
    rows += [dict.fromkeys(rows[0]) | unreadable_row(name, reason) for name, reason in unreadable.items()]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for line in _lines(rows):
            print(line)
    return 0


def check(presets: list[Preset], unreadable: Mapping[str, str], machine: Machine) -> None:
    """Raises `PresetError` with the first mistake, and how many more there are."""
    found: list[str | TDMError] = list(unreadable.values())
    for preset in presets:
        found += findings(preset, machine.snapshot)
    if found:
        mistake, *cure = str(found[0]).split("\n", 1)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise PresetError("\n".join([mistake + more, *cure]))


def describe(preset: Preset, machine: Machine) -> dict[str, Any]:
    """One system as plain values."""
    why_not = reasons(preset, machine)
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
        "download_gb": preset.download_gb,
        "memory_gb": preset.memory_gb,
        "runs_here": not why_not,
        "why_not": "; ".join(why_not) or None,
    }


def unreadable_row(name: str, reason: str) -> dict[str, Any]:
    """A file that is no preset; nothing else is known of it."""
    return {"name": name, "runs_here": False, "why_not": reason}


def this_machine(settings: Settings) -> Machine:
    """What is free here; torch is asked only where there is something but a CPU to ask for."""
    from huggingface_hub import constants, get_token

    def snapshot(repository: str, revision: str | None) -> Path | None:
        folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
        found = folder.glob(revision or "*")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    memory = main_memory_gb()
    device, device_gb = "cpu", memory
    if settings.device != "cpu" and (any(Path("/dev").glob("nvidia[0-9]*")) or os.uname().sysname == "Darwin"):
        chosen = choose_device(settings.device)
        device, device_gb = chosen.partition(":")[0], free_gb(chosen)
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    return Machine(
        device=device,
        device_gb=device_gb,
        memory_gb=memory,
        disk_gb=shutil.disk_usage(there).free / GB,
        logged_in=get_token() is not None,
        offline=constants.HF_HUB_OFFLINE,
        offload=settings.offload,
        snapshot=snapshot,
    )


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    names, titles = (max(len(row[key] or "") for row in rows) for key in ("name", "title"))
    return [
        f"{row['name']:{names}}  {row['title']:{titles}}  {row['media']}  "
        f"{row['teacher_steps']} -> {row['student_steps']} steps  {row['why_not'] or 'runs here'}"
        if row["title"]
        else f"{row['name']:{names}}  {row['why_not']}"
        for row in rows
    ]
