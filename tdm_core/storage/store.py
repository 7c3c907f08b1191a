"""The study's store on a database: what it has committed survives a killed process and a power cut.

SQLite on a local disk: write-ahead log, ``synchronous=FULL`` (a commit returns when the log is on the disk), writers
one at a time by ``BEGIN IMMEDIATE``, so that two processes of the app share one file safely. Not for network folders
or mounted buckets, whose locks do not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, or_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError
from sqlalchemy.orm import Session

from tdm_core.errors import DuplicateVoteError, StorageError
from tdm_core.storage.schema import SCHEMA_VERSION, SchemaVersionRow, StudyRow, Table, TrialRow, VoteRow
from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Study, Trial, Vote

CURES = {  # what the database's own message contains -> what to do
    "locked": "another program holds it: close that program, then try again",
    "readonly": "it cannot be written: make its folder writable or point TDM_DATA_DIR elsewhere",
    "unable to open": "it cannot be opened: make its folder writable or point TDM_DATA_DIR elsewhere",
    "full": "the disk is full: free some space, then try again",
    "disk I/O error": "the disk failed: check it, and keep the database on a local disk",
    "not a database": "it is no database: move the file away, or restore it from a copy",
    "malformed": "it is damaged: keep the file, and restore it from a copy",
}


def open_store(data_dir: Path, *, busy_timeout_seconds: float = 5.0) -> SqlStore:
    """The store in ``data_dir/study.sqlite3``; both are made if they are not there.

    Raises:
        StorageError: if the folder or the database cannot be made or used.
    """
    path = data_dir / "study.sqlite3"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{data_dir}: {error.strerror}; name a writable folder in TDM_DATA_DIR") from error
    return SqlStore(_sqlite_engine(path, busy_timeout_seconds), name=str(path))


class SqlStore:
    """Keeps the contract of `tdm_core.study.records.Store` on a database."""

    def __init__(self, engine: Engine, *, name: str) -> None:
        self._writer, self._reader = engine.execution_options(begin="BEGIN IMMEDIATE"), engine
        self._name = name
        with self._unit_of_work(self._writer) as session:
            self._create_tables(session)

    @contextmanager
    def writing(self, study_id: str) -> Iterator[SqlRecords]:
        with self._unit_of_work(self._writer) as session:
            yield SqlRecords(session, study_id)

    @contextmanager
    def reading(self, study_id: str) -> Iterator[SqlRecords]:
        with self._unit_of_work(self._reader) as session:
            yield SqlRecords(session, study_id)

    def close(self) -> None:
        """Let go of the database's connections."""
        self._reader.dispose()

    @contextmanager
    def _unit_of_work(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine) as session, session.begin():
                yield session
        except IntegrityError:  # a constraint that no caller expected: our own mistake
            raise
        except (DBAPIError, TimeoutError) as error:
            raise StorageError(f"{self._name}: {_cure(error)}. Nothing was stored.") from error

    def _create_tables(self, session: Session) -> None:
        connection = session.connection()
        Table.metadata.create_all(connection, tables=[Table.metadata.tables[SchemaVersionRow.__tablename__]])
        version = session.scalar(select(SchemaVersionRow.version))
        if version is None:
            Table.metadata.create_all(connection)
            session.add(SchemaVersionRow(version=SCHEMA_VERSION))
        elif version != SCHEMA_VERSION:
            raise StorageError(
                f"{self._name}: schema version {version}, but this app reads version {SCHEMA_VERSION};\n"
                "start the version of the app that made it, or point TDM_DATA_DIR to another folder."
            )


class SqlRecords:
    """One study's records inside one transaction; see `tdm_core.study.records.Records`."""

    def __init__(self, session: Session, study_id: str) -> None:
        self._session, self._study_id = session, study_id

    def study(self) -> Study | None:
        row = self._session.get(StudyRow, self._study_id)
        return row.study() if row else None

    def add_study(self, study: Study) -> None:
        self._session.add(StudyRow.of(study))
        self._session.flush()

    def close_study(self, at_ms: int) -> None:
        self._session.execute(update(StudyRow).where(StudyRow.id == self._study_id).values(closed_at_ms=at_ms))

    def trial(self, trial_id: str) -> Trial | None:
        return self._trial(TrialRow.id == trial_id)

    def trial_of_media(self, media_token: str) -> Trial | None:
        return self._trial(TrialRow.media_token == media_token)

    def trials_of(self, rater_id: str) -> list[Trial]:
        mine = select(TrialRow).where(TrialRow.study_id == self._study_id, TrialRow.rater_id == rater_id)
        return [row.trial() for row in self._session.scalars(mine.order_by(TrialRow.position))]

    def add_trial(self, trial: Trial) -> None:
        self._session.add(TrialRow.of(trial, self._study_id))
        self._session.flush()

    def mark_sent(self, trial_id: str, at_ms: int) -> None:
        self._session.execute(update(TrialRow).where(TrialRow.id == trial_id).values(sent_at_ms=at_ms))

    def usage(self, now_ms: int) -> Usage:
        counted = (
            select(TrialRow.pair_id, TrialRow.left_arm, func.count())
            .outerjoin(VoteRow, VoteRow.trial_id == TrialRow.id)
            .where(TrialRow.study_id == self._study_id)
            .where(or_(VoteRow.number.is_not(None), TrialRow.expires_at_ms > now_ms))
            .group_by(TrialRow.pair_id, TrialRow.left_arm)
        )
        return Counter({(pair_id, left_arm): count for pair_id, left_arm, count in self._session.execute(counted)})

    def vote_on(self, trial_id: str) -> Vote | None:
        row = self._session.scalar(select(VoteRow).where(VoteRow.trial_id == trial_id))
        return row.vote() if row else None

    def add_vote(self, vote: Vote) -> None:
        self._session.add(VoteRow.of(vote))
        try:
            self._session.flush()
        except IntegrityError as error:
            raise DuplicateVoteError(f"Trial {vote.trial.id} already has a vote.") from error

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        votes = select(VoteRow).join(VoteRow.trial_row).where(TrialRow.study_id == self._study_id)
        if rater_id is not None:
            votes = votes.where(TrialRow.rater_id == rater_id)
        return [row.vote() for row in self._session.scalars(votes.order_by(VoteRow.number))]

    def vote_count(self) -> int:
        votes = select(func.count()).select_from(VoteRow).join(TrialRow).where(TrialRow.study_id == self._study_id)
        return self._session.scalar(votes) or 0

    def _trial(self, condition: Any) -> Trial | None:
        row = self._session.scalar(select(TrialRow).where(TrialRow.study_id == self._study_id, condition))
        return row.trial() if row else None


def _sqlite_engine(path: Path, busy_timeout_seconds: float) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), pool_timeout=busy_timeout_seconds + 5)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in (
            f"busy_timeout = {int(busy_timeout_seconds * 1000)}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _cure(error: Exception) -> str:
    message = str(getattr(error, "orig", None) or "too many requests at once: try again")
    return next((f"{message}; {cure}" for sign, cure in CURES.items() if sign in message), message)
