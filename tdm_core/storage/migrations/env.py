"""Alembic runs this file: the steps go through the connection, and in the transaction, that the store hands over."""

from __future__ import annotations

from alembic import context


def run() -> None:
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, transactional_ddl=True)
    context.run_migrations()


if __name__ == "env_py":  # Alembic's name for it; an ordinary import must do nothing
    run()
