"""What an evaluation run holds: ``run.json`` says what was asked, ``manifest.jsonl`` has a line for each picture.

Of many processes each writes lines of its own (``manifest-1.jsonl``, ...); they are read together.

A picture is written whole, then its line is appended: a crash leaves both, or a picture that is made again.  A line
counts only under the key that the run asks for now (suite, prompt, seed and the arm's fingerprint), so pictures of two
models never mix; and only while the file has the hash that the line names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation.suites import Item
from tdm_core.generation.media import write_whole
from tdm_core.toml_config import from_mapping

HEADER = "run.json"
LINES = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class ArmEntry:
    """An arm as it was run; ``fingerprint`` names its weights and settings."""

    steps: int
    nfe: int
    guidance_scale: float
    sigmas: tuple[float, ...] | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a run was asked for."""

    preset: str
    suite: str
    suite_sha256: str
    limit: int | None
    seeds: int
    arms: dict[str, ArmEntry]
    environment: dict[str, str | None]
    family: str = ""
    base: str = ""
    """As the preset names it: which published figures may stand beside this run's."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One line of the manifest: a finished picture and how it came about."""

    key: str
    arm: str
    item: str
    number: int
    prompt: str
    seed: int
    file: str
    sha256: str
    noise_sha256: str
    steps: int
    nfe: int
    guidance_scale: float
    scheduler: str
    sigmas: tuple[float, ...]
    seconds: float
    denoiser_seconds: float
    batch_size: int


def picture_key(suite_sha256: str, item: Item, number: int, fingerprint: str) -> str:
    """Equal keys, equal pictures."""
    return hashlib.sha256(f"{suite_sha256}\0{item.id}\0{item.seed(number)}\0{fingerprint}".encode()).hexdigest()[:32]


def write_header(run: Path, header: Header) -> None:
    write_whole(run / HEADER, (json.dumps(asdict(header), indent=2) + "\n").encode())


def read_header(run: Path) -> Header:
    """What the run was asked for.

    Raises:
        EvaluationError: if the folder is no run, or its header is damaged.
    """
    path = run / HEADER
    try:
        return from_mapping(Header, json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except FileNotFoundError:
        raise EvaluationError(
            f"{run}: no evaluation run here (no {HEADER}).\nMake one with: evaluate generate --out {run}"
        ) from None
    except (ValueError, ConfigError):
        raise EvaluationError(f"{path}: damaged or of another version.\nGenerate the run again.") from None


def append_pictures(run: Path, pictures: Iterable[Picture], *, rank: int = 0) -> None:
    """Add lines; they are on the disk when this returns."""
    path = run / (f"manifest-{rank}.jsonl" if rank else LINES)
    text = "".join(json.dumps(asdict(picture)) + "\n" for picture in pictures)
    with path.open("a+b") as file:
        if file.tell() and _last_byte(file.fileno()) != b"\n":
            file.write(b"\n")  # a crash tore the line before: it stays unreadable, these shall not
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_pictures(run: Path) -> dict[str, Picture]:
    """The finished pictures by key; torn lines are passed over, of equal keys the last counts."""
    paths = sorted(run.glob("manifest*.jsonl"))
    found = (_picture(line) for path in paths for line in path.read_text("utf-8", errors="replace").splitlines())
    return {picture.key: picture for picture in found if picture is not None}


def is_whole(run: Path, picture: Picture) -> bool:
    """Whether the picture's file is there as it was written."""
    path = run / picture.file
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == picture.sha256


def _picture(line: str) -> Picture | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or values.keys() != _KINDS.keys():
        return None
    if not all(isinstance(values[name], kind) for name, kind in _KINDS.items()):
        return None
    return Picture(**values | {"sigmas": tuple(values["sigmas"])})


def _in_json(hint: Any) -> Any:
    """What a field's value is in a line."""
    kind = get_origin(hint) or hint
    return {float: int | float, tuple: list}.get(kind, kind)


_KINDS = {name: _in_json(hint) for name, hint in get_type_hints(Picture).items()}
# Not `from_mapping`: a run has thousands of lines.


def _last_byte(descriptor: int) -> bytes:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)
