"""Two ``python app.py`` on one PostgreSQL: one study, and whoever votes does not notice which of them answers."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from tdm_core.storage import open_store
from tests.postgres import PostgreSQL
from tests.running_app import App, Rater, only_tiny, with_bank

SECRET = "one-secret-for-all-of-them"
RATERS, VOTES = 4, 6  # fewer trials than a rater is given at once


@pytest.fixture(params=["one folder", "a folder each"])
def apps(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_system: Path, postgresql: PostgreSQL
) -> Iterator[tuple[App, App, str]]:
    """As the README's part on hosting says it: they share the folder, or the secret and a copy of the bank."""
    url, presets = postgresql.database(), only_tiny(tiny_system, tmp_path / "presets")
    given, folders = {"TDM_DATABASE_URL": url}, [tmp_path / "first" / "data"] * 2
    with_bank(folders[0])
    if request.param == "a folder each":
        given["TDM_SECRET"] = SECRET
        folders[1] = tmp_path / "second" / "data"
        shutil.copytree(folders[0] / "bank", folders[1] / "bank")
    started = [App(folder, presets, **given) for folder in folders]
    yield started[0], started[1], url
    for app in started:
        app.process.kill()
        app.process.wait()


def test_a_rater_goes_on_at_the_other_and_a_killed_one_takes_no_vote_along(apps: tuple[App, App, str]) -> None:
    *both, url = apps
    for app in both:
        app.wait_for(lambda app=app: app.status()["state"] == "open")
    rater = Rater()
    begun = rater.look(both[0])
    assert rater.look(both[1]) == begun  # the same trial, not a second one
    assert rater.vote(both[1], begun["trial"], "left") == {"accepted": True, "votes": 1}
    assert rater.vote(both[0], begun["trial"], "left") == {"accepted": True, "votes": 1}
    assert rater.look(both[0])["number"] == 2

    acknowledged = {begun["trial"], *vote_while_the_first_is_killed(both)}
    killed, left = both
    assert killed.process.wait() == -signal.SIGKILL
    assert len(acknowledged) == RATERS * VOTES + 1
    assert left.status()["votes"] == len(acknowledged)
    with closing(open_store(left.data_dir, url)) as store:
        with store.reading("demo") as records:
            votes = list(records.votes())
        assert store.problems("demo") == []
    assert {vote.trial.id for vote in votes} == acknowledged
    assert len(votes) == len(acknowledged) == len({(vote.trial.rater_id, vote.trial.position) for vote in votes})
    assert left.end() == 0
    for app in both:
        assert SECRET not in app.log.read_text() and "Traceback" not in app.log.read_text()


def vote_while_the_first_is_killed(both: list[App]) -> set[str]:
    """The trials of raters who change the app at every request; the first app dies after a third of the votes."""
    counted = threading.Semaphore(0)

    def kill() -> None:
        for _ in range(RATERS * VOTES // 3):
            counted.acquire()
        both[0].process.kill()

    def part(number: int) -> set[str]:
        rater, voted = Rater(), set()
        for turn in range(VOTES):
            one, other = (both[(number + turn + i) % 2] for i in range(2))
            trial = somewhere(rater.look, one, other)
            vote = partial(rater.vote, trial=trial["trial"], choice=("left", "right", "tie")[turn % 3])
            assert somewhere(vote, other, one)["accepted"]
            voted.add(trial["trial"])
            counted.release()
        return voted

    killer = threading.Thread(target=kill)
    killer.start()
    with ThreadPoolExecutor(RATERS) as pool:
        voted = set().union(*pool.map(part, range(RATERS)))
    killer.join()
    return voted


def somewhere(ask: Callable[[App], dict[str, object]], one: App, other: App) -> dict[str, object]:
    """Of the other one if this one is gone, as a proxy in front of both would do."""
    try:
        return ask(one)
    except HTTPError:
        raise
    except (URLError, ConnectionError, IncompleteRead):
        return ask(other)
