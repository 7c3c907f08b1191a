"""Rules, controls, raters and the chain of votes. Votes cast before get their place in the chain here."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from tdm_core.study.chain import GENESIS, link
from tdm_core.study.trials import Choice, Trial, Vote

revision = "v2"
down_revision = "v1"


def upgrade() -> None:
    connection = op.get_bind()
    studies = connection.execute(sa.text("SELECT * FROM study ORDER BY created_at_ms")).mappings().all()
    trials = connection.execute(sa.text("SELECT * FROM trial")).mappings().all()
    votes = connection.execute(sa.text("SELECT * FROM vote ORDER BY number")).mappings().all()
    for name in ("vote", "trial", "study"):
        op.drop_table(name)
    if sa.inspect(connection).has_table("schema_version"):
        op.drop_table("schema_version")  # how the app told versions apart before
    _create()
    _fill(connection, studies, trials, votes)


def _create() -> None:
    op.create_table(
        "study",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("side_secret", sa.String, nullable=False),
        sa.Column("rules", sa.String),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("opened_at_ms", sa.BigInteger),
        sa.Column("closed_at_ms", sa.BigInteger),
        sa.Column("votes", sa.BigInteger, nullable=False),
        sa.Column("head", sa.String, nullable=False),
    )
    op.create_table(
        "trial",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("study_id", sa.String, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("rater_id", sa.String, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("pair_id", sa.String, nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("left_arm", sa.String, nullable=False),
        sa.Column("right_arm", sa.String, nullable=False),
        sa.Column("media_token", sa.String, nullable=False, unique=True),
        sa.Column("issued_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger),
        sa.Column("skipped_at_ms", sa.BigInteger),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("repeat_of", sa.String, sa.ForeignKey("trial.id")),
        sa.UniqueConstraint("study_id", "rater_id", "position"),
    )
    once = sa.text("repeat_of IS NULL")
    op.create_index(
        "trial_once",
        "trial",
        ["study_id", "rater_id", "pair_id"],
        unique=True,
        sqlite_where=once,
        postgresql_where=once,
    )
    op.create_index("trial_by_pair", "trial", ["study_id", "pair_id"])
    op.create_table(
        "vote",
        sa.Column("trial_id", sa.String, sa.ForeignKey("trial.id"), primary_key=True),
        sa.Column("study_id", sa.String, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("choice", sa.String, nullable=False),
        sa.Column("criteria", sa.String, nullable=False),
        sa.Column("confidence", sa.BigInteger),
        sa.Column("cast_at_ms", sa.BigInteger, nullable=False),
        sa.Column("previous", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.UniqueConstraint("study_id", "number"),
        sa.CheckConstraint("choice IN ('left', 'right', 'tie', 'both_bad')"),
    )
    op.create_table(
        "rater",
        sa.Column("study_id", sa.String, sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("consented_at_ms", sa.BigInteger),
        sa.Column("invite", sa.String),
        sa.Column("withdrawn_at_ms", sa.BigInteger),
        sa.UniqueConstraint("study_id", "invite"),
    )
    op.create_table(
        "invite",
        sa.Column("study_id", sa.String, sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("sha256", sa.String, primary_key=True),
    )
    number = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
    op.create_table(
        "event",
        sa.Column("number", number, primary_key=True),
        sa.Column("study_id", sa.String, sa.ForeignKey("study.id"), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )


def _fill(connection: Any, studies: Any, trials: Any, votes: Any) -> None:
    heads = {study["id"]: (0, GENESIS) for study in studies}
    study_of = {trial["id"]: trial["study_id"] for trial in trials}
    trial_of = {
        trial["id"]: Trial(**{name: value for name, value in trial.items() if name != "study_id"}) for trial in trials
    }
    vote_rows = []
    for vote in votes:
        study_id = study_of[vote["trial_id"]]
        count, head = heads[study_id]
        cast = Vote(trial=trial_of[vote["trial_id"]], choice=Choice(vote["choice"]), cast_at_ms=vote["cast_at_ms"])
        row = link(cast, study_id=study_id, number=count + 1, previous=head)
        heads[study_id] = (row.number, row.sha256)
        vote_rows.append(
            {
                "trial_id": vote["trial_id"],
                "study_id": study_id,
                "number": row.number,
                "choice": vote["choice"],
                "criteria": json.dumps({}),
                "cast_at_ms": vote["cast_at_ms"],
                "previous": row.previous,
                "sha256": row.sha256,
            }
        )
    study_rows = [
        dict(study)
        | {"opened_at_ms": study["created_at_ms"], "votes": heads[study["id"]][0], "head": heads[study["id"]][1]}
        for study in studies
    ]
    trial_rows = [dict(trial) | {"purpose": "real"} for trial in trials]
    for name, rows in (("study", study_rows), ("trial", trial_rows), ("vote", vote_rows)):
        if rows:
            op.bulk_insert(sa.table(name, *(sa.column(column) for column in rows[0])), rows)
