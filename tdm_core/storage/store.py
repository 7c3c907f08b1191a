"""The study's store on a database: what it has committed survives a killed process and a power cut.

SQLite on a local disk: write-ahead log, ``synchronous=FULL`` (a commit returns when the log is on the disk; one that
nobody is told of may wait for the next, `records.Store.writing`), writers
one at a time by ``BEGIN IMMEDIATE``, so that two processes of the app share one file safely. Not for network folders
or mounted buckets, whose locks do not hold. PostgreSQL, for many processes or machines: writers of one study take
turns by an advisory lock, readers see one snapshot.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, or_, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, TimeoutError
from sqlalchemy.orm import Session

from tdm_core.errors import ConfigError, DuplicateVoteError, StorageError
from tdm_core.storage.migrate import migrate
from tdm_core.storage.schema import EventRow, InviteRow, RaterRow, StudyRow, TrialRow, VoteRow
from tdm_core.study.chain import Link, link, problems
from tdm_core.study.rules import Study
from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Purpose, Rater, Trial, Vote

CURES = {  # what the database's own message contains -> what to do
    "locked": "another program holds it: close that program, then try again",
    "readonly": "it cannot be written: make its folder writable or point TDM_DATA_DIR elsewhere",
    "unable to open": "it cannot be opened: make its folder writable or point TDM_DATA_DIR elsewhere",
    "full": "the disk is full: free some space, then try again",
    "No space left": "the disk is full: free some space, then try again",
    "disk I/O error": "the disk failed: check it, and keep the database on a local disk",
    "not a database": "it is no database: move the file away, or restore it from a copy",
    "malformed": "it is damaged: keep the file, and restore it from a copy",
    "lock timeout": "another process is writing: try again",
    "authentication failed": "correct the name and the password in TDM_DATABASE_URL",
    "does not exist": "create it, or correct TDM_DATABASE_URL",
    "connection": "start the server, or correct TDM_DATABASE_URL",
}
MIGRATION_LOCK = 7_435_200  # any number that is no study's


def open_store(data_dir: Path, url: str | None = None, *, busy_timeout_seconds: float = 5.0) -> SqlStore:
    """The store at ``url`` (PostgreSQL), or in ``data_dir/study.sqlite3``, which is made if it is not there.

    Raises:
        ConfigError: if the URL is not one of PostgreSQL.
        StorageError: if the folder or the database cannot be made or used.
    """
    if url is not None:
        return _postgresql_store(url, busy_timeout_seconds)
    path = data_dir / "study.sqlite3"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{data_dir}: {error.strerror}; name a writable folder in TDM_DATA_DIR") from error
    return SqlStore(_sqlite_engine(path, busy_timeout_seconds), name=str(path))


class SqlStore:
    """Keeps the contract of `tdm_core.study.records.Store` on a database."""

    def __init__(self, engine: Engine, *, name: str, lock_timeout_ms: int = 5000) -> None:
        self._name, self._lock_timeout_ms = name, lock_timeout_ms
        self._takes_turns = engine.dialect.name == "postgresql"  # SQLite has one writer anyhow
        self._writer = engine if self._takes_turns else engine.execution_options(begin="BEGIN IMMEDIATE")
        self._quick_writer = self._writer.execution_options(synchronous="NORMAL")
        self._reader = engine.execution_options(isolation_level="REPEATABLE READ") if self._takes_turns else engine
        with self._unit_of_work(self._writer) as session:
            self._wait_for_turn(session, MIGRATION_LOCK)
            migrate(session.connection(), name)

    @contextmanager
    def writing(self, study_id: str, *, durable: bool = True) -> Iterator[SqlRecords]:
        with self._unit_of_work(self._writer if durable else self._quick_writer) as session:
            self._wait_for_turn(session, zlib.crc32(study_id.encode()))
            if self._takes_turns and not durable:
                session.execute(text("SET LOCAL synchronous_commit = off"))
            yield SqlRecords(session, study_id)

    @contextmanager
    def reading(self, study_id: str) -> Iterator[SqlRecords]:
        with self._unit_of_work(self._reader) as session:
            yield SqlRecords(session, study_id)

    @property
    def name(self) -> str:
        """Where the database is, without a password."""
        return self._name

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """All studies as they are at one moment."""
        with self._unit_of_work(self._reader) as session:
            yield session

    @contextmanager
    def exclusive(self) -> Iterator[Session]:
        """One transaction over all studies, alone among those that begin meanwhile."""
        with self._unit_of_work(self._writer) as session:
            self._wait_for_turn(session, MIGRATION_LOCK)
            yield session

    def study_ids(self) -> list[str]:
        """All studies of the database, oldest first."""
        with self._unit_of_work(self._reader) as session:
            return list(session.scalars(select(StudyRow.id).order_by(StudyRow.created_at_ms, StudyRow.id)))

    def problems(self, study_id: str) -> list[str]:
        """What is wrong with the study's chain of votes, one line each; empty if nothing was changed."""
        with self.snapshot() as session:
            return self.problems_in(session, study_id)

    @staticmethod
    def problems_in(session: Session, study_id: str) -> list[str]:
        """The same inside a transaction."""
        records = SqlRecords(session, study_id)
        count, head = records.head()
        return list(problems(records.links(), votes=count, head=head))

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

    def _wait_for_turn(self, session: Session, number: int) -> None:
        if self._takes_turns:
            session.execute(text(f"SET LOCAL lock_timeout = {self._lock_timeout_ms}"))
            session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


class SqlRecords:
    """One study's records inside one transaction; see `tdm_core.study.records.Records`."""

    def __init__(self, session: Session, study_id: str) -> None:
        self._session, self._study_id = session, study_id
        self._row: StudyRow | None = None

    def study(self) -> Study | None:
        row = self._study_row()
        return row.study() if row else None

    def _study_row(self) -> StudyRow | None:
        """Read once: the session forgets a row that nobody holds."""
        self._row = self._row or self._session.get(StudyRow, self._study_id)
        return self._row

    def add_study(self, study: Study) -> None:
        self._session.add(StudyRow.of(study))
        self._session.flush()

    def open_study(self, at_ms: int) -> None:
        self._session.execute(update(StudyRow).where(StudyRow.id == self._study_id).values(opened_at_ms=at_ms))

    def close_study(self, at_ms: int) -> None:
        self._session.execute(update(StudyRow).where(StudyRow.id == self._study_id).values(closed_at_ms=at_ms))

    def set_paused(self, at_ms: int | None) -> None:
        self._session.execute(update(StudyRow).where(StudyRow.id == self._study_id).values(paused_at_ms=at_ms))

    def trial(self, trial_id: str) -> Trial | None:
        return self._trial(TrialRow.id == trial_id)

    def trial_of_media(self, media_token: str) -> Trial | None:
        return self._trial(TrialRow.media_token == media_token)

    def trials_of(self, rater_id: str) -> list[Trial]:
        mine = select(TrialRow).where(TrialRow.study_id == self._study_id, TrialRow.rater_id == rater_id)
        return [row.trial() for row in self._session.scalars(mine.order_by(TrialRow.position))]

    def trials(self) -> list[Trial]:
        rows = self._session.scalars(select(TrialRow).where(TrialRow.study_id == self._study_id))
        return [row.trial() for row in rows]

    def add_trial(self, trial: Trial) -> None:
        self._session.add(TrialRow.of(trial, self._study_id))
        self._session.flush()

    def mark_sent(self, trial_id: str, at_ms: int) -> None:
        self._session.execute(update(TrialRow).where(TrialRow.id == trial_id).values(sent_at_ms=at_ms))

    def mark_skipped(self, trial_id: str, at_ms: int) -> None:
        self._session.execute(update(TrialRow).where(TrialRow.id == trial_id).values(skipped_at_ms=at_ms))

    def usage(self, now_ms: int) -> Usage:
        counted = (
            select(TrialRow.pair_id, TrialRow.left_arm, func.count())
            .outerjoin(VoteRow, VoteRow.trial_id == TrialRow.id)
            .where(TrialRow.study_id == self._study_id, TrialRow.purpose == Purpose.REAL.value)
            .where(TrialRow.skipped_at_ms.is_(None))
            .where(or_(VoteRow.number.is_not(None), TrialRow.expires_at_ms > now_ms))
            .group_by(TrialRow.pair_id, TrialRow.left_arm)
        )
        return Counter({(pair_id, left_arm): count for pair_id, left_arm, count in self._session.execute(counted)})

    def vote_on(self, trial_id: str) -> Vote | None:
        row = self._session.scalar(select(VoteRow).where(VoteRow.trial_id == trial_id))
        return row.vote() if row else None

    def add_vote(self, vote: Vote) -> None:
        count, head = self.head()
        row = link(vote, study_id=self._study_id, number=count + 1, previous=head)
        self._session.add(VoteRow.of(row))
        try:
            self._session.flush()
        except IntegrityError as error:
            raise DuplicateVoteError(f"Trial {vote.trial.id} already has a vote.") from error
        study = self._study_row()
        assert study, "a vote is in a study"
        study.votes, study.head = row.number, row.sha256

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        votes = select(VoteRow).where(VoteRow.study_id == self._study_id)
        if rater_id is not None:
            votes = votes.join(VoteRow.trial_row).where(TrialRow.rater_id == rater_id)
        return [row.vote() for row in self._session.scalars(votes.order_by(VoteRow.number))]

    def answered_by(self, rater_id: str) -> set[str]:
        mine = select(VoteRow.trial_id).join(TrialRow, TrialRow.id == VoteRow.trial_id)
        mine = mine.where(TrialRow.study_id == self._study_id, TrialRow.rater_id == rater_id)
        return set(self._session.scalars(mine))

    def vote_count(self) -> int:
        return self.head()[0]

    def head(self) -> tuple[int, str]:
        """How many votes the study has, and the hash of the last one's row."""
        row = self._study_row()
        return (row.votes, row.head) if row else (0, "")

    def links(self, after: int = 0) -> list[Link]:
        """The rows of the chain with a number above ``after``, in their order."""
        rows = select(VoteRow).where(VoteRow.study_id == self._study_id, VoteRow.number > after)
        return [row.link() for row in self._session.scalars(rows.order_by(VoteRow.number))]

    def rater(self, rater_id: str) -> Rater | None:
        row = self._session.get(RaterRow, (self._study_id, rater_id))
        return row.rater() if row else None

    def put_rater(self, rater: Rater) -> None:
        self._session.merge(RaterRow(study_id=self._study_id, **asdict(rater)))
        self._session.flush()

    def raters(self) -> list[Rater]:
        """All that are known, by id."""
        rows = select(RaterRow).where(RaterRow.study_id == self._study_id).order_by(RaterRow.id)
        return [row.rater() for row in self._session.scalars(rows)]

    def invites(self) -> set[str]:
        """The hashes of all codes that were given out."""
        return set(self._session.scalars(select(InviteRow.sha256).where(InviteRow.study_id == self._study_id)))

    def withdrawn(self) -> set[str]:
        gone = select(RaterRow.id).where(RaterRow.study_id == self._study_id, RaterRow.withdrawn_at_ms.is_not(None))
        return set(self._session.scalars(gone))

    def add_invites(self, invites: Collection[str]) -> None:
        for invite in invites:
            self._session.merge(InviteRow(study_id=self._study_id, sha256=invite))
        self._session.flush()

    def is_free_invite(self, invite: str) -> bool:
        if self._session.get(InviteRow, (self._study_id, invite)) is None:
            return False
        holder = select(RaterRow.id).where(RaterRow.study_id == self._study_id, RaterRow.invite == invite)
        return self._session.scalar(holder) is None

    def add_event(self, kind: str, at_ms: int, detail: str = "") -> None:
        self._session.add(EventRow(study_id=self._study_id, kind=kind, at_ms=at_ms, detail=detail))
        self._session.flush()

    def events(self) -> list[tuple[str, int, str]]:
        rows = select(EventRow).where(EventRow.study_id == self._study_id).order_by(EventRow.number)
        return [(row.kind, row.at_ms, row.detail) for row in self._session.scalars(rows)]

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
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA synchronous = {options.get('synchronous', 'FULL')}")
        connection.exec_driver_sql(options.get("begin", "BEGIN"))

    return engine


def _postgresql_store(url: str, timeout_seconds: float) -> SqlStore:
    address = parse_postgresql_url(url)
    seconds = max(1, round(timeout_seconds))
    engine = create_engine(
        address,
        pool_pre_ping=True,  # a restarted server costs one reconnection, not one vote
        pool_timeout=timeout_seconds + 5,
        connect_args={"connect_timeout": seconds},
    )
    name = address.render_as_string(hide_password=True)
    return SqlStore(engine, name=name, lock_timeout_ms=int(timeout_seconds * 1000))


def parse_postgresql_url(url: str) -> URL:
    """Raises `ConfigError`, which does not repeat the URL: it may hold a password."""
    try:
        address = make_url(url)
    except ArgumentError:
        address = None
    if address is None or address.get_backend_name() != "postgresql":
        raise ConfigError("environment: TDM_DATABASE_URL: write postgresql://user:password@host/database")
    return address.set(drivername="postgresql+psycopg")


def _cure(error: Exception) -> str:
    message = str(getattr(error, "orig", None) or "too many requests at once: try again")
    message = " ".join(message.split())[:300]
    return next((f"{message}; {cure}" for sign, cure in CURES.items() if sign in message), message)
