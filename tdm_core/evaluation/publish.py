"""A scored run's report as the page shows it: plain tables, plots and pairs in one JSON file, pictures beside it.

What is published is small enough to be committed, and reads without any of our code: ``report.json`` holds strings
and SVG, so the page needs neither the run nor this package.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation.html_report import plots
from tdm_core.evaluation.report import ANCHORS, ANCHORS_HEADER, COMPARISONS, RESULTS
from tdm_core.evaluation.runs import Run
from tdm_core.generation.media import write_whole

PUBLISHED = "report.json"


def publish(run: Run, folder: Path) -> None:
    """Write the report and the pictures of its pairs into ``folder``, in place of an earlier report.

    Raises:
        ConfigError: if the folder holds anything else.
        EvaluationError: if the run was not scored, or its pictures have changed since; an earlier report stays.
    """
    try:
        results = json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))
        results["pairs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(f"{run.folder}: not scored yet.\nCall evaluate score --run {run.folder}") from None
    _check_free(folder)
    folder = folder.resolve()  # "." has no name
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    new.mkdir(parents=True)
    try:
        _write(run, results, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _check_free(folder: Path) -> None:
    """Refuse a folder in which anything is no part of a report: it is replaced as a whole."""
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    try:
        pairs = json.loads((folder / PUBLISHED).read_text(encoding="utf-8"))["pairs"]
        ours = {PUBLISHED, *(side["file"] for pair in pairs for side in pair["sides"])}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if strangers := found - ours:
        raise ConfigError(
            f"--to {folder}: holds {min(strangers)}, which is no part of a published report; name another folder"
        )


def _write(run: Run, results: Mapping[str, Any], folder: Path) -> None:
    content = {
        "title": f"{run.header.preset} on the {run.header.suite} suite",
        "lead": f"{len(run.items)} prompts × {run.header.seeds} pictures a row, all rows from the same noises. "
        "Intervals: 95 %, prompts resampled.",
        "tables": [table for name in results["metrics"] for table in _tables(name, results)] + _anchors(results),
        "plots": [
            {"title": title, "svg": svg}
            for name in results["metrics"]
            for title, svg in plots(name, results[name], results["run"]["rows"])
        ],
        "pairs": [
            {"title": title, "prompt": pair["prompt"], "seed": pair["seed"], "sides": _sides(run, pair, folder)}
            for title, found in results["pairs"].items()
            for pair in found
        ],
        "foot": "Made with " + ", ".join(f"{key} {value}" for key, value in run.header.environment.items() if value),
    }
    write_whole(folder / PUBLISHED, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _tables(name: str, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = results["run"]["rows"]
    better = "higher" if results["metrics"][name]["higher_is_better"] else "lower"
    arms = [
        [_words(arm), str(rows[arm]["steps"]), f"{rows[arm]['nfe']:g}", _figure(row)]
        for arm, row in results[name].items()
    ]
    compared = [[_words(what), _figure(row)] for what, row in results[COMPARISONS].get(name, {}).items()]
    tables = [
        {"title": f"{name} ({better} is better)", "header": ["row", "steps", "evaluations", "value"], "rows": arms}
    ]
    if compared:
        header = ["paired, same prompts and noises", "difference"]
        tables.append({"title": f"{name}, row against row", "header": header, "rows": compared})
    return tables


def _anchors(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Published figures beside ours, each with the reason why it may or may not be compared."""
    return [
        {"title": f"{name}: published figures beside ours", "header": list(ANCHORS_HEADER), "rows": rows}
        for name, rows in results[ANCHORS].items()
        if rows
    ]


def _sides(run: Run, pair: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The pair's two files, copied under names that tell nothing but their place."""
    sides = []
    for side, role in enumerate(("teacher", "student")):
        source = run.folder / pair[role]
        made = {picture.file: picture for _, picture in run.pictures(role)}
        run.check(made[pair[role]])
        name = f"{len(list(folder.iterdir())):02d}{source.suffix}"
        shutil.copyfile(source, folder / name)
        value = f"{pair['values'][side]:.3g}" if pair["values"] else ""
        sides.append({"role": role, "file": name, "value": value})
    return sides


def _words(name: str) -> str:
    return name.replace("_", " ")


def _figure(row: Mapping[str, Any]) -> str:
    return "–" if row["value"] is None else f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
