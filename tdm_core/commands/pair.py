"""``pair``: teacher, cut teacher and student from one prompt and one noise, as files with their figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tdm_core.commands.presets import this_machine
from tdm_core.errors import ConfigError, SamplingError
from tdm_core.generation.engine import findings
from tdm_core.generation.media import encode, write_whole
from tdm_core.generation.readiness import too_large
from tdm_core.generation.sample import Role, Sample, SampleRequest, finish
from tdm_core.wiring import Wiring

FIGURES = ("steps", "nfe", "guidance_scale", "scheduler", "seconds", "denoiser_seconds")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("pair", help="teacher, cut teacher and student from one prompt and noise, as files")
    parser.add_argument("--preset", default="mini-sd3", metavar="P", help="the system (default: %(default)s)")
    parser.add_argument("--prompt", required=True, metavar="T")
    parser.add_argument("--seed", required=True, type=int, metavar="N", help="of the start noise")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the files go")
    parser.add_argument("--steps", type=int, metavar="K", help="of student and cut teacher (default: the preset's)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    wiring: Wiring = args.wiring
    requests = [
        SampleRequest(
            preset=args.preset,
            role=role,
            prompt=args.prompt,
            seed=args.seed,
            steps=None if role is Role.TEACHER else args.steps,
        )
        for role in Role
    ]
    _refuse_what_cannot_run(wiring, args.preset)
    _make_folder(args.out)
    samples = {request.role: finish(wiring.engine.sample(request, previews=False)) for request in requests}
    write_pair(args.out, samples, fps=wiring.presets[args.preset].fps)
    for role, sample in samples.items():
        print(f"{role:12} {sample.steps:3} steps  {sample.nfe:3} NFE  {sample.seconds:8.3f} s")
    if samples[Role.STUDENT].unread:
        print(f"note: the prompt is too long for the text encoder; it did not read: {samples[Role.STUDENT].unread}")
    if not samples[Role.STUDENT].trained:
        print(f"note: the student was not trained for {samples[Role.STUDENT].steps} steps")
    return 0


def write_pair(folder: Path, samples: dict[Role, Sample], *, fps: int) -> None:
    """One file a role, and ``pair.json`` last: where it is, the other files are whole and belong to it."""
    (folder / "pair.json").unlink(missing_ok=True)
    for role, sample in samples.items():
        ending, content = encode(sample, fps=fps)
        write_whole(folder / f"{role}{ending}", content)
    (noise,) = {sample.noise_sha256 for sample in samples.values()}
    figures = {role.value: {name: getattr(sample, name) for name in FIGURES} for role, sample in samples.items()}
    write_whole(folder / "pair.json", json.dumps({"noise_sha256": noise} | figures, indent=2).encode() + b"\n")


def _refuse_what_cannot_run(wiring: Wiring, name: str) -> None:
    """Before gigabytes are fetched and read."""
    preset, machine = wiring.preset(name), this_machine(wiring.settings)
    for reason in too_large(preset, machine):
        raise SamplingError(
            f"{name} does not fit this machine: {reason}.\n"
            "Take another machine or system; or change dtype or memory_gb in a copy of the preset, at your risk."
        )
    for error in findings(preset, machine.snapshot):
        raise error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"--out {folder}: there is a file of that name; name a folder") from None
