"""``python app.py`` told to stop, by whatever way and however often: status 0, soon, quietly, no vote lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tdm_core.storage import open_store, segment_problems
from tests.running_app import App, Rater, only_tiny, with_bank

MOST_SECONDS = 60  # of stopping; a container gets as long (compose.yaml), and a machine may be busy
TERM, INTERRUPT = signal.SIGTERM, signal.SIGINT


@pytest.fixture
def app(tmp_path: Path, tiny_system: Path) -> Iterator[App]:
    with_bank(tmp_path / "data", pairs=10)
    started = App(tmp_path / "data", only_tiny(tiny_system, tmp_path / "presets"))
    yield started
    started.process.kill()
    started.process.wait()


@pytest.mark.parametrize("signals", [(INTERRUPT,), (TERM,) * 5, (INTERRUPT, TERM, INTERRUPT)], ids=str)
def test_it_ends_soon_quietly_and_keeps_the_vote(app: App, signals: tuple[signal.Signals, ...]) -> None:
    app.wait_for(lambda: app.status()["state"] == "open")
    rater = Rater()
    trial = rater.look(app)["trial"]
    assert rater.vote(app, trial, "left") == {"accepted": True, "votes": 1}
    begun = time.monotonic()
    assert app.end(*signals) == 0, app.log.read_text()
    assert time.monotonic() - begun < MOST_SECONDS
    assert "Traceback" not in app.log.read_text() and "KeyboardInterrupt" not in app.log.read_text()
    with closing(open_store(app.data_dir)) as store:
        with store.reading("demo") as records:
            assert [vote.trial.id for vote in records.votes()] == [trial]
            assert len(records.links()) == 1
        assert store.problems("demo") == []
        assert segment_problems(store, "demo", app.data_dir / "studies" / "demo" / "segments") == []
    assert list((app.data_dir / "studies" / "demo" / "segments").glob("*.jsonl"))  # the last round was not cut short


def test_ctrl_c_before_the_page_is_up_is_no_traceback(app: App) -> None:
    app.wait_for(lambda: app.data_dir.joinpath("study.sqlite3").exists())  # past Python's own start
    assert app.end(INTERRUPT) in (0, 130)
    assert "Traceback" not in app.log.read_text()
