"""All studies of a database in one file, and back: from SQLite or PostgreSQL into SQLite or PostgreSQL.

The file is gzip over JSON lines: a header, a row a line, a last line with the SHA-256 of all before it.  It holds the
studies' secrets, so only its owner may read it.  Pictures are files already: copy ``TDM_DATA_DIR`` beside it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, insert, select, text

from tdm_core.errors import StorageError
from tdm_core.storage.files import write_once
from tdm_core.storage.migrate import HEAD
from tdm_core.storage.schema import Table as Base
from tdm_core.storage.store import SqlStore

FORMAT = "tdm-backup-1"
TABLES = tuple(Base.metadata.sorted_tables)  # what others refer to comes first
_COUNT_ON = "SELECT setval(pg_get_serial_sequence('event', 'number'), coalesce(max(number), 0) + 1, false) FROM event"
_BY_NAME = {table.name: table for table in TABLES}


def backup(store: SqlStore, path: Path) -> dict[str, int]:
    """Write a new file of one moment's state while raters go on voting; its rows by table.

    Raises:
        StorageError: if there is a file of that name, it cannot be written, or the database cannot be read.
    """
    with store.snapshot() as session:
        rows = {table.name: [dict(row) for row in session.execute(_ordered(table)).mappings()] for table in TABLES}
    counts = {name: len(found) for name, found in rows.items()}
    header = {"format": FORMAT, "schema": HEAD, "rows": counts}
    lines = [json.dumps(header), *(json.dumps([name, row]) for name, found in rows.items() for row in found)]
    body = "".join(f"{line}\n" for line in lines)
    whole = body + json.dumps({"sha256": _digest(body)}) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not write_once(path, gzip.compress(whole.encode(), mtime=0)):
            raise StorageError(f"{path}: there is a file of that name; choose another")
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror}; free space or make it writable") from error
    return counts


def restore(store: SqlStore, path: Path) -> dict[str, int]:
    """Fill an empty database from a backup, in one transaction; its rows by table.

    Raises:
        StorageError: if the file is no whole backup of this version, the database has studies, or the chains of votes
            do not hold together afterwards: then nothing is stored.
    """
    rows = _read(path)
    with store.exclusive() as session:
        if session.scalar(select(func.count()).select_from(_BY_NAME["study"])):
            raise StorageError(f"{store.name}: holds studies already; restore into an empty database")
        for table in TABLES:
            if rows[table.name]:
                session.execute(insert(table), rows[table.name])
        if session.get_bind().dialect.name == "postgresql":  # rows that brought their number did not move the counter
            session.execute(text(_COUNT_ON))
        for row in rows["study"]:
            if found := store.problems_in(session, row["id"]):
                raise StorageError(f"{path}: {found[0]}; use another backup")
    return {name: len(found) for name, found in rows.items()}


def _ordered(table: Table) -> Any:
    """By primary key; of trials those first that others repeat."""
    first = [table.c.repeat_of.is_not(None)] if "repeat_of" in table.c else []
    return select(table).order_by(*first, *table.primary_key.columns)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        body, _, last = gzip.decompress(path.read_bytes()).decode().rstrip("\n").rpartition("\n")
        header, *lines = body.split("\n")
        about = json.loads(header)
        if json.loads(last) != {"sha256": _digest(body + "\n")} or about["format"] != FORMAT:
            raise ValueError("its last line does not match")
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _BY_NAME}
        for line in lines:
            name, row = json.loads(line)
            rows[name].append(row)
    except FileNotFoundError:
        raise StorageError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: no whole backup ({error}); use another") from None
    if about["schema"] != HEAD:
        raise StorageError(
            f"{path}: of schema {about['schema']}, this app reads {HEAD}; restore it with its own version"
        )
    return rows


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
