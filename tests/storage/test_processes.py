"""Many threads, two processes, a killed process: what was acknowledged is stored, once."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tdm_core.errors import DuplicateVoteError, StorageError
from tdm_core.storage import open_store
from tdm_core.study import Choice
from tests.studies import Clock, a_service, look

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0  # a machine that is busy with other work must not fail a test


def a_voter(address, name, count):
    data_dir, url = address
    program = [sys.executable, "-m", "tests.storage.voter", str(data_dir), url or "-", name, str(count)]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored_votes(address):
    with closing(open_store(*address)) as store, store.reading("demo") as records:
        votes = {vote.trial.id: str(vote.choice) for vote in records.votes()}
        assert len(votes) == records.vote_count()
        assert store.problems("demo") == []
    return votes


@pytest.fixture
def services(address, clock):
    """The study as two processes of the app see it, each with connections of its own."""
    stores = [open_store(*address, busy_timeout_seconds=PATIENCE_SECONDS) for _ in range(2)]
    yield [a_service(store=store, clock=clock) for store in stores]
    for store in stores:
        store.close()


def test_kill_after_kill_loses_no_acknowledged_vote(address):
    """`python -m benchmarks study_faults` does the same 20 times over 2,000 votes."""
    acknowledged = {}
    for life in range(3):
        voter = a_voter(address, f"life {life}", 10_000)
        lines = [voter.stdout.readline() for _ in range(10)]
        voter.kill()
        rest, _ = voter.communicate()
        lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= dict(line.split() for line in lines)
        stored = stored_votes(address)
        assert acknowledged.items() <= stored.items()
        assert len(stored) <= len(acknowledged) + life + 1
    with closing(open_store(*address)) as store:
        clock = Clock()
        service = a_service(store=store, clock=clock)
        offer = look(service, clock, "another")
        assert service.cast_vote("another", offer.trial, Choice.TIE) == len(stored) + 1


def test_two_processes_share_one_database_from_its_first_moment(address):
    voters = [a_voter(address, name, 15) for name in ("one", "two")]
    acknowledged = {}
    for voter in voters:
        output, errors = voter.communicate(timeout=300)
        assert voter.returncode == 0, errors
        acknowledged |= dict(line.split() for line in output.splitlines())
    assert len(acknowledged) == 30
    assert stored_votes(address) == acknowledged


def test_two_processes_draw_one_trial_for_a_rater_who_asks_both(services):
    with ThreadPoolExecutor(8) as pool:
        offers = list(pool.map(lambda i: services[i % 2].next_trial(f"rater {i // 8}"), range(64)))
    assert len({offer.trial for offer in offers}) == 8


def test_of_fifty_votes_on_one_trial_at_once_one_counts(services, clock, address):
    offer = look(services[0], clock, "r")
    start = threading.Barrier(50)

    def vote(number):
        choice = list(Choice)[number % 4]
        start.wait()
        try:
            services[number % 2].cast_vote("r", offer.trial, choice)
        except DuplicateVoteError:
            return "refused"
        return choice

    with ThreadPoolExecutor(50) as pool:
        outcomes = Counter(pool.map(vote, range(50)))
    [(stored_trial, stored_choice)] = stored_votes(address).items()
    assert stored_trial == offer.trial
    assert outcomes.keys() == {"refused", Choice(stored_choice)}
    assert outcomes[Choice(stored_choice)] in (12, 13)  # all who chose alike are told so


def test_a_server_that_was_restarted_has_all_votes_and_takes_the_one_it_refused(postgresql, tmp_path, clock):
    with closing(open_store(tmp_path, postgresql.database(), busy_timeout_seconds=PATIENCE_SECONDS)) as store:
        service = a_service(store=store, clock=clock)
        offers = [look(service, clock, str(rater)) for rater in range(4)]
        for offer, rater in zip(offers[:2], "01", strict=True):
            service.cast_vote(rater, offer.trial, Choice.LEFT)
        postgresql.stop()
        with pytest.raises(StorageError, match="start the server") as error:
            service.cast_vote("2", offers[2].trial, Choice.LEFT)
        assert len(str(error.value).splitlines()) <= 2
        postgresql.start()
        assert service.cast_vote("2", offers[2].trial, Choice.LEFT) == 3
        assert service.cast_vote("1", offers[1].trial, Choice.LEFT) == 3  # a retry of what was acknowledged
        assert service.cast_vote("3", offers[3].trial, Choice.LEFT) == 4
        assert store.problems("demo") == []


def test_a_password_is_in_no_message(tmp_path):
    with pytest.raises(StorageError) as error:
        open_store(tmp_path, "postgresql://ada:hush@127.0.0.1:1/votes", busy_timeout_seconds=1)
    assert "hush" not in str(error.value)
    assert "start the server" in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
