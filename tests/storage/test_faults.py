"""The database fails: the message names the cure, and nothing is acknowledged that is not stored."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from tdm_core.errors import StorageError
from tdm_core.storage import machine_secret, open_store
from tdm_core.study import Choice
from tests.studies import a_service, look, look_and_vote


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path, busy_timeout_seconds=0.05)
    yield store
    store.close()


@contextmanager
def not_as_root():
    """Permissions do not bind root, so its tests step down to an account that they do bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_folder():
    """A folder that anybody may enter and nobody may write; pytest's own is closed to other accounts."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def assert_says(error, *words):
    text = str(error.value)
    assert len(text.splitlines()) <= 2, text
    for word in words:
        assert word in text


def test_a_read_only_data_folder_is_named_with_its_cure(read_only_folder):
    with not_as_root(), pytest.raises(StorageError) as error:
        open_store(read_only_folder)
    assert_says(error, str(read_only_folder), "writable", "TDM_DATA_DIR")


def test_a_data_folder_that_cannot_be_made_is_named_with_its_cure(read_only_folder):
    with not_as_root(), pytest.raises(StorageError) as error:
        open_store(read_only_folder / "data")
    assert_says(error, str(read_only_folder), "TDM_DATA_DIR")


def test_a_read_only_database_is_named_with_its_cure(read_only_folder):
    read_only_folder.chmod(0o755)
    open_store(read_only_folder).close()
    for path in read_only_folder.iterdir():
        path.chmod(0o444)
    read_only_folder.chmod(0o555)
    with not_as_root(), pytest.raises(StorageError) as error:
        open_store(read_only_folder)
    assert_says(error, "study.sqlite3", "writable")


def test_a_locked_database_refuses_the_vote_and_takes_it_later(tmp_path, store, clock):
    service = a_service(store=store, clock=clock)
    offer = look(service, clock, "r")
    other_program = sqlite3.connect(tmp_path / "study.sqlite3", isolation_level=None)
    other_program.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as error:
        service.cast_vote("r", offer.trial, Choice.LEFT)
    assert_says(error, "locked", "close that program")
    assert service.status().votes == 0  # reading goes on meanwhile
    other_program.execute("ROLLBACK")
    other_program.close()
    assert service.cast_vote("r", offer.trial, Choice.LEFT) == 1


def test_a_full_disk_refuses_the_vote_and_keeps_the_others(store, clock):
    service = a_service(store=store, clock=clock)
    look_and_vote(service, clock, "first")
    offer = look(service, clock, "r")
    with store.writing("demo") as records:
        connection = records._session.connection()
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError) as error:
        for rater in range(200):
            look_and_vote(service, clock, f"rater {rater}")
    assert_says(error, "full", "free some space")
    with store.writing("demo") as records:
        records._session.connection().exec_driver_sql("PRAGMA max_page_count = 100000")
    service.cast_vote("r", offer.trial, Choice.LEFT)
    with store.reading("demo") as records:
        assert len(records.votes("first")) == len(records.votes("r")) == 1


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "study.sqlite3"
    path.write_bytes(b"not a database, but somebody's file" * 100)
    before = path.read_bytes()
    with pytest.raises(StorageError) as error:
        open_store(tmp_path)
    assert_says(error, "no database", "move the file away")
    assert path.read_bytes() == before


def test_a_database_of_a_newer_app_is_refused(tmp_path):
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "study.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99'")
    connection.close()
    with pytest.raises(StorageError) as error:
        open_store(tmp_path)
    assert_says(error, "version v99", "TDM_DATA_DIR")


def test_the_database_itself_refuses_a_pair_twice_for_one_rater(store, clock):
    service = a_service(store=store, clock=clock)
    offer = service.next_trial("r")
    with pytest.raises(IntegrityError):
        with store.writing("demo") as records:
            trial = records.trial(offer.trial)
            records.add_trial(trial.__class__(**vars(trial) | {"id": "another", "media_token": "x", "position": 1}))


def test_commits_reach_the_disk_before_they_are_acknowledged(store):
    with store.reading("demo") as records:
        connection = records._session.connection()
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_the_secret_is_drawn_once_and_only_its_owner_may_read_it(tmp_path):
    secret = machine_secret(tmp_path / "data")
    path = tmp_path / "data" / "secret"
    assert machine_secret(tmp_path / "data") == secret == path.read_bytes()
    assert len(secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_a_secret_that_cannot_be_stored_is_named_with_its_cure(read_only_folder):
    with not_as_root(), pytest.raises(StorageError) as error:
        machine_secret(read_only_folder)
    assert_says(error, "secret", "writable")


def test_a_cut_secret_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StorageError) as error:
        machine_secret(tmp_path)
    assert_says(error, "5 bytes", "delete it")
