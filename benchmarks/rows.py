"""A benchmark's run as one committed row: what was measured, against which bar, on which machine, at which commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tdm_core.toml_config import from_mapping

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a run, with its interval if it has one and the bar it was held against."""

    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    bar: str = ""
    met: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of one benchmark; ``when`` is UTC in ISO notation."""

    name: str
    when: str
    commit: str
    machine: str
    command: str
    measures: tuple[Measure, ...]


def save(name: str, command: str, measures: Sequence[Measure], *, folder: Path = RESULTS) -> Path:
    """Write the run that just ended as a row of its own; the file's name says what, when and at which commit."""
    now = datetime.now(UTC)
    row = Row(
        name=name,
        when=now.isoformat(timespec="seconds"),
        commit=commit(),
        machine=machine(),
        command=command,
        measures=tuple(measures),
    )
    path = folder / f"{now:%Y-%m-%d}-{name}-{row.commit}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(row), indent=1) + "\n", encoding="utf-8")
    return path


def load(folder: Path = RESULTS) -> list[Row]:
    """All rows, oldest first.

    Raises:
        ConfigError: if a file is not a row; the message names the file and the key.
    """
    rows = [from_mapping(Row, json.loads(path.read_text("utf-8")), where=str(path)) for path in folder.glob("*.json")]
    return sorted(rows, key=lambda row: row.when)


def commit() -> str:
    """The commit of the tree, with ``-dirty`` where tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    """Processor, usable cores and accelerator, as a reader of the table needs them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
