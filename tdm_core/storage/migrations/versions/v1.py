"""Studies, trials and votes, as the first version of the app made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "study",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("side_secret", sa.String, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger),
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
        sa.UniqueConstraint("study_id", "rater_id", "pair_id"),
        sa.UniqueConstraint("study_id", "rater_id", "position"),
    )
    op.create_index("trial_by_pair", "trial", ["study_id", "pair_id"])
    number = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
    op.create_table(
        "vote",
        sa.Column("number", number, primary_key=True),
        sa.Column("trial_id", sa.String, sa.ForeignKey("trial.id"), nullable=False, unique=True),
        sa.Column("choice", sa.String, nullable=False),
        sa.Column("cast_at_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("choice IN ('left', 'right', 'tie', 'both_bad')"),
    )
