"""The study's tables. One vote per trial and one trial per rater and pair are constraints here, not promises elsewhere.

Ids are opaque, times UTC in milliseconds. Rows are only ever added; what may change is when a study opened and closed,
the head of its chain of votes, when a trial was sent or skipped, and what is known of a rater. The same definitions
serve SQLite and PostgreSQL; `migrations` makes the tables, and a test compares both.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import ClassVar

from sqlalchemy import INTEGER, BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tdm_core.study.chain import GENESIS, Link
from tdm_core.study.rules import Study, StudyRules
from tdm_core.study.trials import Choice, Purpose, Rater, Trial, Vote


class Table(DeclarativeBase):
    type_annotation_map: ClassVar = {int: BigInteger}


class StudyRow(Table):
    __tablename__ = "study"

    id: Mapped[str] = mapped_column(primary_key=True)
    side_secret: Mapped[str]
    rules: Mapped[str | None]  # JSON
    created_at_ms: Mapped[int]
    opened_at_ms: Mapped[int | None]
    closed_at_ms: Mapped[int | None]
    paused_at_ms: Mapped[int | None]
    votes: Mapped[int] = mapped_column(default=0)  # the length of the chain, and
    head: Mapped[str] = mapped_column(default=GENESIS)  # the hash of its last row

    @classmethod
    def of(cls, study: Study) -> StudyRow:
        values = {field.name: getattr(study, field.name) for field in fields(Study)}
        return cls(**values | {"rules": study.rules and study.rules.to_json()})

    def study(self) -> Study:
        values = {field.name: getattr(self, field.name) for field in fields(Study)}
        return Study(**values | {"rules": StudyRules.from_json(self.rules) if self.rules else None})


class TrialRow(Table):
    __tablename__ = "trial"
    __table_args__ = (
        Index(  # no rater sees a pair twice, but for repeats
            "trial_once",
            "study_id",
            "rater_id",
            "pair_id",
            unique=True,
            sqlite_where=text("repeat_of IS NULL"),
            postgresql_where=text("repeat_of IS NULL"),
        ),
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
    skipped_at_ms: Mapped[int | None]
    purpose: Mapped[str]
    repeat_of: Mapped[str | None] = mapped_column(ForeignKey("trial.id"))

    @classmethod
    def of(cls, trial: Trial, study_id: str) -> TrialRow:
        return cls(study_id=study_id, **asdict(trial))

    def trial(self) -> Trial:
        values = {field.name: getattr(self, field.name) for field in fields(Trial)}
        return Trial(**values | {"purpose": Purpose(self.purpose)})


class VoteRow(Table):
    __tablename__ = "vote"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        CheckConstraint(f"choice IN ({', '.join(repr(choice.value) for choice in Choice)})"),
    )

    trial_id: Mapped[str] = mapped_column(ForeignKey("trial.id"), primary_key=True)  # one vote per trial
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    number: Mapped[int]
    choice: Mapped[str]
    criteria: Mapped[str]  # JSON
    confidence: Mapped[int | None]
    cast_at_ms: Mapped[int]
    previous: Mapped[str]
    sha256: Mapped[str]

    trial_row: Mapped[TrialRow] = relationship(lazy="joined", innerjoin=True)

    @classmethod
    def of(cls, link: Link) -> VoteRow:
        vote = link.vote
        return cls(
            trial_id=vote.trial.id,
            study_id=link.study_id,
            number=link.number,
            choice=vote.choice.value,
            criteria=json.dumps(vote.criteria, sort_keys=True),
            confidence=vote.confidence,
            cast_at_ms=vote.cast_at_ms,
            previous=link.previous,
            sha256=link.sha256,
        )

    def vote(self) -> Vote:
        return Vote(
            trial=self.trial_row.trial(),
            choice=Choice(self.choice),
            cast_at_ms=self.cast_at_ms,
            criteria={name: Choice(choice) for name, choice in json.loads(self.criteria).items()},
            confidence=self.confidence,
        )

    def link(self) -> Link:
        return Link(
            study_id=self.study_id,
            number=self.number,
            vote=self.vote(),
            previous=self.previous,
            sha256=self.sha256,
        )


class RaterRow(Table):
    __tablename__ = "rater"
    __table_args__ = (UniqueConstraint("study_id", "invite"),)  # a code lets one rater in

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    consented_at_ms: Mapped[int | None]
    invite: Mapped[str | None]
    withdrawn_at_ms: Mapped[int | None]

    def rater(self) -> Rater:
        return Rater(**{field.name: getattr(self, field.name) for field in fields(Rater)})


class InviteRow(Table):
    __tablename__ = "invite"

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)


class EventRow(Table):
    __tablename__ = "event"

    # SQLite counts up by itself only in a column of its own type INTEGER.
    number: Mapped[int] = mapped_column(BigInteger().with_variant(INTEGER(), "sqlite"), primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    kind: Mapped[str]
    at_ms: Mapped[int]
    detail: Mapped[str]
