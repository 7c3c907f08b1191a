"""Bring a database to the schema that this app reads, step by step, inside one transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tdm_core.errors import StorageError

HEAD = "v3"  # the newest step, which a test compares with the files
STEPS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, name: str) -> None:
    """Take the steps that are missing; none, and none of the machinery, if the schema is the newest.

    Raises:
        StorageError: if the schema is newer than this app.
    """
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    elif "schema_version" in tables:  # the first version of the app counted by itself
        found = f"v{connection.execute(text('SELECT version FROM schema_version')).scalar()}"
    else:
        found = None
    if found == HEAD:
        return
    if found is not None and not (STEPS / "versions" / f"{found}.py").exists():
        raise StorageError(
            f"{name}: schema version {found}, but this app reads version {HEAD};\n"
            "start the version of the app that made it, or point TDM_DATA_DIR (or TDM_DATABASE_URL) elsewhere."
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if found is not None and "alembic_version" not in tables:
        command.stamp(config, found)
    command.upgrade(config, "head")
