"""Votes once more, as files: immutable segments from which a lost database is made again.

A study's folder holds ``study.json`` (its rules, its secret, its raters: private while the study is open) and
``00000001-00000200.jsonl`` and so on, a row of the chain per line. A segment never changes; the next one begins where
the last one ends, so the folder is its own bookkeeping. Processes that share it take turns: of two that had both
looked before either wrote, each could begin a segment at the same vote, and end it at another.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tdm_core.errors import StorageError
from tdm_core.storage.files import replace_whole, write_once
from tdm_core.storage.store import SqlRecords, SqlStore
from tdm_core.study.chain import Link, problems
from tdm_core.study.rules import Study, StudyRules
from tdm_core.study.trials import Rater

ROWS = 1000  # at most, per segment
SEGMENT = re.compile(r"\d{8}-\d{8}\.jsonl")

logger = logging.getLogger("tdm")


def write_segments(store: SqlStore, study_id: str, folder: Path) -> int:
    """Write the votes that no segment holds yet; how many they were.

    Raises:
        StorageError: if the folder cannot be written, or its segments do not fit the study.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_writer(folder):
            return _write(store, study_id, folder)
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror}; free space or make it writable") from error


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Wait for other processes' rounds."""
    handle = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(store: SqlStore, study_id: str, folder: Path) -> int:
    last = _last(folder)
    with store.reading(study_id) as records:
        about, links = study_record(records), records.links(after=last)
    if about is None:
        raise StorageError(f"{study_id}: no such study, so no segments of it")
    if last and not links and _count(store, study_id) < last:
        raise StorageError(f"{folder}: holds {last} votes, more than the study has; the database lost rows")
    for name, content in as_segments(links, rows=ROWS):
        write_once(folder / name, content)
    path = folder / "study.json"
    if not path.exists() or path.read_bytes() != about:
        replace_whole(path, about)
    return len(links)


def as_segments(links: Sequence[Link], *, rows: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the segments that hold these rows of the chain."""
    for start in range(0, len(links), rows):
        part = links[start : start + rows]
        content = "".join(f"{row.to_line()}\n" for row in part).encode()
        yield f"{part[0].number:08d}-{part[-1].number:08d}.jsonl", content


def last_number(names: Iterable[str]) -> int:
    """Of the last vote that segments of these names hold."""
    return max((int(name[9:17]) for name in names if SEGMENT.fullmatch(name)), default=0)


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
    study, raters, invites = _read_about(folder / "study.json")
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
        for rater in raters:
            records.put_rater(rater)
        records.add_invites(invites)
    return len(rows)


class Rounds:
    """Calls ``write`` every few seconds, in a thread, until it is closed; the last time on closing."""

    def __init__(self, write: Callable[[], object], *, what: str, every_seconds: float) -> None:
        self._write, self._what, self._every_seconds = write, what, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tdm-{what}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        told = ""
        while True:
            stopping = self._stop.wait(self._every_seconds)
            try:
                self._write()
                told = ""
            except StorageError as error:  # votes are safe in the database; the next round takes them along
                if str(error) != told:
                    logger.error("%s: %s", self._what, error)
                told = str(error)
            if stopping:
                return


class SegmentWriter(Rounds):
    """Keeps a study's folder of segments up to date."""

    def __init__(self, store: SqlStore, study_id: str, folder: Path, *, every_seconds: float = 10.0) -> None:
        super().__init__(partial(write_segments, store, study_id, folder), what="segments", every_seconds=every_seconds)


def _count(store: SqlStore, study_id: str) -> int:
    with store.reading(study_id) as records:
        return records.vote_count()


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-[0-9]*.jsonl"))


def _last(folder: Path) -> int:
    return last_number(path.name for path in _segments(folder))


def study_record(records: SqlRecords) -> bytes | None:
    """``study.json``: what the chain of votes does not hold; ``None`` if there is no such study."""
    study = records.study()
    if study is None:
        return None
    values = asdict(replace(study, rules=None)) | {
        "rules": json.loads(study.rules.to_json()) if study.rules else None,
        "raters": [asdict(rater) for rater in records.raters()],
        "invites": sorted(records.invites()),
    }
    return json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n"


def _read_about(path: Path) -> tuple[Study, list[Rater], list[str]]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rules, raters, invites = values.pop("rules"), values.pop("raters", []), values.pop("invites", [])
        # An earlier version kept the ids of those alone who had withdrawn.
        raters += [{"id": rater, "withdrawn_at_ms": values["created_at_ms"]} for rater in values.pop("withdrawn", [])]
        parsed = StudyRules.from_json(json.dumps(rules), where=str(path)) if rules else None
        return Study(**values, rules=parsed), [Rater(**rater) for rater in raters], list(invites)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: not a study's record ({error}); restore it from a copy") from None
