"""Environment variables: read in one place, refused when misspelt."""

from pathlib import Path

import pytest

from tdm_core.errors import ConfigError
from tdm_core.settings import Settings


def test_empty_environment_gives_the_defaults():
    assert Settings.from_env({"PATH": "/bin", "TDM_DATA_DIR": ""}) == Settings(data_dir=Path("data"), presets=None)


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    settings = Settings.from_env({"TDM_DATA_DIR": "~/votes", "TDM_PRESETS": "mine"})
    assert settings == Settings(data_dir=Path("/home/ada/votes"), presets=Path("mine"))


def test_misspelt_variable_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown variable TDM_DATADIR; known here: TDM_DATA_DIR, TDM_PRESETS"):
        Settings.from_env({"TDM_DATADIR": "x"})


def test_variable_of_the_tests_is_let_through():
    assert Settings.from_env({"TDM_REQUIRE_ALL": "1"}) == Settings()
