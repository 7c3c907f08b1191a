"""Votes once more, as files: immutable segments from which a lost database is made again.

A study's folder holds ``study.json`` (its rules, its secret, who withdrew: private while the study is open) and
``00000001-00000200.jsonl`` and so on, a row of the chain per line. A segment never changes; the next one begins where
the last one ends, so the folder is its own bookkeeping, and two writers make the same file or none.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tdm_core.errors import StorageError
from tdm_core.storage.files import replace_whole, write_once
from tdm_core.storage.store import SqlStore
from tdm_core.study.chain import Link, problems
from tdm_core.study.rules import Study, StudyRules
from tdm_core.study.trials import Rater

ROWS = 1000  # at most, per segment

logger = logging.getLogger("tdm")


def write_segments(store: SqlStore, study_id: str, folder: Path) -> int:
    """Write the votes that no segment holds yet; how many they were.

    Raises:
        StorageError: if the folder cannot be written, or its segments do not fit the study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        last = _last(folder)
        with store.reading(study_id) as records:
            study, withdrawn, links = records.study(), records.withdrawn(), records.links(after=last)
        if study is None:
            raise StorageError(f"{study_id}: no such study, so no segments of it")
        if last and not links and _count(store, study_id) < last:
            raise StorageError(f"{folder}: holds {last} votes, more than the study has; the database lost rows")
        for start in range(0, len(links), ROWS):
            rows = links[start : start + ROWS]
            content = "".join(f"{row.to_line()}\n" for row in rows).encode()
            write_once(folder / f"{rows[0].number:08d}-{rows[-1].number:08d}.jsonl", content)
        about = _about(study, withdrawn)
        path = folder / "study.json"
        if not path.exists() or path.read_bytes() != about:
            replace_whole(path, about)
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}; free space or make it writable") from error
    return len(links)


def read_segments(folder: Path) -> Iterator[Link]:
    """All rows of a study's folder, in order.

    Raises:
        StorageError: if a file is missing or holds what is no row of votes.
    """
    expected = 1
    for path in _segments(folder):
        first, last = map(int, path.stem.split("-"))
        if first != expected:
            raise StorageError(f"{folder}: no segment begins at vote {expected}; restore the file that is missing")
        try:
            rows = [Link.from_line(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (ValueError, OSError) as error:
            raise StorageError(f"{path}: {error}; restore it from a copy") from None
        if [row.number for row in rows] != list(range(first, last + 1)):
            raise StorageError(f"{path}: does not hold votes {first} to {last}; restore it from a copy")
        yield from rows
        expected = last + 1


def segment_problems(store: SqlStore, study_id: str, folder: Path) -> list[str]:
    """Where segments and database differ, and what is wrong with the segments' own chain; one line each."""
    try:
        rows = list(read_segments(folder))
    except StorageError as error:
        return [str(error)]
    with store.reading(study_id) as records:
        stored = {row.number: row for row in records.links()}
    head = rows[-1].sha256 if rows else "0" * 64
    found = [f"segments: {problem}" for problem in problems(rows, votes=len(rows), head=head)]
    for row in rows:
        if row.number not in stored:
            found.append(f"vote {row.number} is in the segments and not in the database")
        elif stored[row.number] != row:
            found.append(f"vote {row.number} differs between the segments and the database")
    return found


def replay(store: SqlStore, folder: Path) -> int:
    """Make the study of a folder again in a database that does not hold it; its number of votes.

    Raises:
        StorageError: if the folder is broken, or the database has a study of that name.
    """
    study, withdrawn = _read_about(folder / "study.json")
    rows = list(read_segments(folder))
    broken = list(problems(rows, votes=len(rows), head=rows[-1].sha256)) if rows else []
    if broken:
        raise StorageError(f"{folder}: {broken[0]}; restore the segments from a copy")
    with store.writing(study.id) as records:
        if records.study() is not None:
            raise StorageError(f"the database has a study {study.id!r} already; replay into an empty one")
        records.add_study(study)
        for row in rows:
            records.add_trial(row.vote.trial)
            records.add_vote(row.vote)
        for rater in withdrawn:
            records.put_rater(Rater(id=rater, withdrawn_at_ms=study.created_at_ms))
    return len(rows)


class SegmentWriter:
    """Writes a study's segments every few seconds, in a thread, until it is closed; the last time on closing."""

    def __init__(self, store: SqlStore, study_id: str, folder: Path, *, every_seconds: float = 10.0) -> None:
        self._store, self._study_id, self._folder, self._every_seconds = store, study_id, folder, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tdm-segments", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        told = ""
        while True:
            stopping = self._stop.wait(self._every_seconds)
            try:
                write_segments(self._store, self._study_id, self._folder)
                told = ""
            except StorageError as error:  # votes are safe in the database; the next round takes them along
                if str(error) != told:
                    logger.error("segments: %s", error)
                told = str(error)
            if stopping:
                return


def _count(store: SqlStore, study_id: str) -> int:
    with store.reading(study_id) as records:
        return records.vote_count()


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-[0-9]*.jsonl"))


def _last(folder: Path) -> int:
    found = _segments(folder)
    return int(found[-1].stem.split("-")[1]) if found else 0


def _about(study: Study, withdrawn: set[str]) -> bytes:
    values = asdict(replace(study, rules=None)) | {
        "rules": json.loads(study.rules.to_json()) if study.rules else None,
        "withdrawn": sorted(withdrawn),
    }
    return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"


def _read_about(path: Path) -> tuple[Study, list[str]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        withdrawn, rules = values.pop("withdrawn"), values.pop("rules")
        parsed = StudyRules.from_json(json.dumps(rules), where=str(path)) if rules else None
        return Study(**values, rules=parsed), withdrawn
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: not a study's record ({error}); restore it from a copy") from None
