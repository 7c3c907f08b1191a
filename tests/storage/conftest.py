"""A store on each kind of database."""

from pathlib import Path

import pytest

from tdm_core.storage import open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path) -> tuple[Path, str | None]:
    """Where a database is, as `open_store` takes it."""
    return tmp_path, request.getfixturevalue("postgresql").database() if request.param == "postgresql" else None


@pytest.fixture
def sql_store(address):
    store = open_store(*address)
    yield store
    store.close()
