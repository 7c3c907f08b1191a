"""What many tests need and is worth making once."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tdm_core.study import MemoryStore
from tests.needs import need
from tests.postgres import PostgreSQL, programs
from tests.studies import Clock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: nets are tiny, and sums must be equal to the bit


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="session")
def tiny_system(tmp_path_factory) -> Path:
    """A folder with a whole random system: ``base``, ``lora``, ``presets/{tiny,unmerged}.toml``.  Read only."""
    from tests.tiny import save_tiny_system

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_system(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_engine(tiny_system):
    """An engine with the presets ``tiny`` and ``unmerged``."""
    from tdm_core.generation.engine import Engine
    from tdm_core.generation.presets import load_presets

    return Engine(load_presets([tiny_system / "presets"]), device="cpu", threads=1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    bin_folder = programs()
    need(bin_folder, "no PostgreSQL is installed, so the store is tested on SQLite alone")
    need(find_spec("psycopg"), "psycopg is not installed, so the store is tested on SQLite alone")
    folder = Path(tempfile.mkdtemp(prefix="tdm-pg-"))  # pytest's own folders are closed to the server's account
    server = PostgreSQL(folder, bin_folder)
    yield server
    server.stop()
    shutil.rmtree(folder)
