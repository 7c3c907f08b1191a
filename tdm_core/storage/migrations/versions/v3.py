"""When an operator paused a study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v3"
down_revision = "v2"


def upgrade() -> None:
    op.add_column("study", sa.Column("paused_at_ms", sa.BigInteger))
