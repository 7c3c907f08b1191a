"""What many tests need and is worth making once."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: nets are tiny, and sums must be equal to the bit


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
