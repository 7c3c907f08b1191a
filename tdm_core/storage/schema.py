"""The study's tables. One vote per trial and one trial per rater and pair are constraints here, not promises elsewhere.

Ids are opaque, times UTC in milliseconds; rows are only ever added, but for ``trial.sent_at_ms`` and
``study.closed_at_ms``. The same definitions serve SQLite and PostgreSQL.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import ClassVar

from sqlalchemy import INTEGER, BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tdm_core.study.trials import Choice, Study, Trial, Vote

SCHEMA_VERSION = 1


class Table(DeclarativeBase):
    type_annotation_map: ClassVar = {int: BigInteger}


class SchemaVersionRow(Table):
    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class StudyRow(Table):
    __tablename__ = "study"

    id: Mapped[str] = mapped_column(primary_key=True)
    side_secret: Mapped[str]
    created_at_ms: Mapped[int]
    closed_at_ms: Mapped[int | None]

    @classmethod
    def of(cls, study: Study) -> StudyRow:
        return cls(**asdict(study))

    def study(self) -> Study:
        return Study(**{field.name: getattr(self, field.name) for field in fields(Study)})


class TrialRow(Table):
    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("study_id", "rater_id", "pair_id"),  # no rater sees a pair twice
        UniqueConstraint("study_id", "rater_id", "position"),
        Index("trial_by_pair", "study_id", "pair_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    rater_id: Mapped[str]
    position: Mapped[int]
    pair_id: Mapped[str]
    prompt: Mapped[str]
    left_arm: Mapped[str]
    right_arm: Mapped[str]
    media_token: Mapped[str] = mapped_column(unique=True)
    issued_at_ms: Mapped[int]
    expires_at_ms: Mapped[int]
    sent_at_ms: Mapped[int | None]

    @classmethod
    def of(cls, trial: Trial, study_id: str) -> TrialRow:
        return cls(study_id=study_id, **asdict(trial))

    def trial(self) -> Trial:
        return Trial(**{field.name: getattr(self, field.name) for field in fields(Trial)})


class VoteRow(Table):
    __tablename__ = "vote"
    __table_args__ = (CheckConstraint(f"choice IN ({', '.join(repr(choice.value) for choice in Choice)})"),)

    # SQLite counts up by itself only in a column of its own type INTEGER.
    number: Mapped[int] = mapped_column(BigInteger().with_variant(INTEGER(), "sqlite"), primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), unique=True)  # one vote per trial
    choice: Mapped[str]
    cast_at_ms: Mapped[int]

    trial_row: Mapped[TrialRow] = relationship(lazy="joined", innerjoin=True)

    @classmethod
    def of(cls, vote: Vote) -> VoteRow:
        return cls(trial_id=vote.trial.id, choice=vote.choice.value, cast_at_ms=vote.cast_at_ms)

    def vote(self) -> Vote:
        return Vote(trial=self.trial_row.trial(), choice=Choice(self.choice), cast_at_ms=self.cast_at_ms)
