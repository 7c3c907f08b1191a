"""What a metric has found in a run's files, kept beside them: judging is slow, and a new arm costs its own alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tdm_core.evaluation.manifest import Picture
from tdm_core.generation.media import write_whole

Job = TypeVar("Job")
Verdict = TypeVar("Verdict")


def kept(
    path: Path, rules: object, pictures: Mapping[str, Picture], judge: Callable[[str, Picture], Any]
) -> dict[str, Any]:
    """What ``judge`` says of each picture, as plain JSON by its key; asked only for keys that the file does not have.

    ``rules`` is whatever the answers depend on besides: the file is made again when it changes or is damaged.
    """

    def judge_all(todo: Mapping[str, Picture]) -> dict[str, Any]:
        found = on_all_cores(lambda job: judge(*job), todo.items())
        return dict(zip(todo, found, strict=True))

    return kept_together(path, rules, pictures, judge_all)


def on_all_cores(judge: Callable[[Job], Verdict], jobs: Iterable[Job]) -> list[Verdict]:
    """In the jobs' order; in threads, since NumPy and SciPy let go of the interpreter while they compute."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(judge, jobs))


def kept_together(
    path: Path,
    rules: object,
    pictures: Mapping[str, Picture],
    judge_all: Callable[[Mapping[str, Picture]], Mapping[str, Any]],
) -> dict[str, Any]:
    """The same for a judge that takes all that is missing at once."""
    edition = hashlib.sha256(str(rules).encode()).hexdigest()[:16]
    rows = _read(path, edition)
    todo = {key: picture for key, picture in pictures.items() if key not in rows}
    if todo:
        rows |= judge_all(todo)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"edition": edition, "pictures": rows}).encode())
    return rows


def _read(path: Path, edition: str) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return dict(known["pictures"]) if known["edition"] == edition else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # it is only a cache
        return {}
