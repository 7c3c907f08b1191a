"""The two commands: what make would do, without doing it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.needs import need

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """A tree with nothing but what make looks at."""
    need(shutil.which("make"), "no make found")
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def planned(folder, *arguments):
    """The commands that ``make`` would run in ``folder``."""
    # These tests run under make themselves, which hands its own flags and variables down.
    inherited = ("MAKE", "MFLAGS", "ARGS", "PYTHON")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout


def install(folder, *stamps):
    """Leave what an installation leaves: an interpreter, then its stamps."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", *stamps):
        (folder / ".venv" / name).touch()


def test_run_installs_the_pinned_requirements_and_starts_the_app(checkout):
    plan = planned(checkout, "run")
    assert "python3 -m venv .venv" in plan
    assert "-r requirements.txt -c constraints.txt" in plan
    assert "requirements-dev.txt" not in plan
    assert plan.rstrip().endswith(".venv/bin/python app.py")


def test_second_call_installs_nothing(checkout):
    install(checkout, "installed", "installed-dev")
    pytest_call = ".venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile -x"
    assert planned(checkout, "test", "ARGS=-x").split() == pytest_call.split()
    assert planned(checkout, "run").split() == [".venv/bin/python", "app.py"]


def test_interrupted_installation_is_taken_up_again(checkout):
    install(checkout)
    plan = planned(checkout, "run")
    assert "pip install" in plan
    assert "-m venv" not in plan


@pytest.mark.parametrize("changed", ["requirements.txt", "constraints.txt", "requirements-dev.txt"])
def test_changed_pins_are_installed(checkout, changed):
    install(checkout, "installed", "installed-dev")
    os.utime(checkout / changed, (4_000_000_000, 4_000_000_000))
    assert "-r requirements-dev.txt -c constraints.txt" in planned(checkout, "test")


def test_clean_leaves_votes_and_checkpoints(checkout):
    plan = planned(checkout, "clean")
    assert "data" not in plan
    assert "runs" not in plan
