"""Environment variables: read in one place, refused when misspelt."""

from pathlib import Path

import pytest

from tdm_core.errors import ConfigError
from tdm_core.settings import Settings


def test_empty_environment_gives_the_defaults():
    assert Settings.from_env({"PATH": "/bin", "TDM_DATA_DIR": ""}) == Settings()


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    settings = Settings.from_env({"TDM_DATA_DIR": "~/votes", "TDM_DEVICE": "cuda:1", "TDM_THREADS": "2"})
    assert settings == Settings(data_dir=Path("/home/ada/votes"), device="cuda:1", threads=2)


def test_no_secret_is_shown_with_the_settings():
    given = {"TDM_SECRET": "hush-0123456789ab", "TDM_ADMIN_TOKEN": "hush-fedcba9876543"}
    settings = Settings.from_env(given | {"TDM_DATABASE_URL": "postgresql://ada:hush@host/votes"})
    assert (settings.secret, settings.admin_token) == tuple(given.values())
    assert "hush" not in repr(settings)


def test_misspelt_variable_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown variable TDM_DATADIR; known here: TDM_DATA_DIR, TDM_DATABASE_URL"):
        Settings.from_env({"TDM_DATADIR": "x"})


def test_variable_of_the_tests_is_let_through():
    assert Settings.from_env({"TDM_REQUIRE_ALL": "1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TDM_DATA_DIR", __file__, "is a file; name a folder"),
        ("TDM_DEVICE", "gpu", "'gpu' is not auto, cpu, mps, cuda or cuda:N"),
        ("TDM_DATABASE_URL", "mysql://ada:secret@host/votes", "write postgresql://"),
        ("TDM_ADMIN_TOKEN", "secret", "choose 16 or more"),
        ("TDM_SECRET", "a secret with spaces", "choose 16 or more"),
        ("TDM_STUDY", "../other", "is no study's name"),
        ("TDM_LIVE", "yes", "is not auto, on or off"),
        ("TDM_THREADS", "0", "'0' is not a number of threads from 1 to 9999"),
        ("TDM_THREADS", "two", "'two' is not a number of threads"),
    ],
)
def test_wrong_value_is_refused_with_the_variable(name, value, why):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({name: value})
    assert str(caught.value).startswith(f"environment: {name}: ")
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
