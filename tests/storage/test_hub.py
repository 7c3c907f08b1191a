"""Votes in a dataset of the Hub: each exactly once, whatever happens on the way, and enough to make the study again."""

import threading
from contextlib import closing

import pytest
from huggingface_hub.utils import _http as hub_http

from tdm_core.errors import StorageError
from tdm_core.storage import open_store, replay
from tdm_core.storage.hub import TRIES, HubSegments
from tdm_core.storage.segments import read_segments
from tdm_core.study import Choice, Controls
from tests.storage.hub import REPOSITORY, TOKEN, serve
from tests.studies import a_service, look, look_and_vote


@pytest.fixture
def hub():
    with serve() as served:
        yield served


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "old")
    yield opened
    opened.close()


@pytest.fixture
def service(store, clock):
    return a_service(store=store, clock=clock, trials_per_rater=12, controls=Controls())


@pytest.fixture
def waits():
    return []


@pytest.fixture
def segments(hub, waits):
    return HubSegments(REPOSITORY, "demo", endpoint=hub.address, token=TOKEN, sleep=waits.append)


def cast(service, clock, count, rater="r"):
    for number in range(count):
        offer = look(service, clock, rater)
        service.cast_vote(rater, offer.trial, list(Choice)[number % 4])


def numbers(segments, tmp_path):
    segments.fetch(tmp_path / "fetched")
    return [row.number for row in read_segments(tmp_path / "fetched")]


def test_each_round_is_one_commit_of_the_votes_that_are_new(hub, store, service, clock, segments, tmp_path):
    cast(service, clock, 3)
    assert segments.push(store) == 3
    assert segments.push(store) == 0
    cast(service, clock, 2)
    assert segments.push(store) == 2
    assert hub.private
    assert [sorted(commit) for commit in hub.commits] == [
        ["demo/00000001-00000003.jsonl", "demo/study.json"],
        ["demo/00000004-00000005.jsonl"],
    ]
    assert numbers(segments, tmp_path) == [1, 2, 3, 4, 5]


def test_a_lost_machine_is_made_again_from_the_dataset(hub, store, service, clock, segments, tmp_path):
    codes = service.invite(2)
    service.redeem("r", codes[0])
    service.consent("r")
    cast(service, clock, 8)
    service.skip("r", service.next_trial("r").trial)
    cast(service, clock, 2)
    cast(service, clock, 3, rater="leaves")
    service.withdraw("leaves")
    segments.push(store)
    assert segments.fetch(tmp_path / "files") == 2
    with closing(open_store(tmp_path / "new")) as rebuilt:
        assert replay(rebuilt, tmp_path / "files") == 13
        with store.reading("demo") as old, rebuilt.reading("demo") as new:
            assert (new.study(), new.links(), new.head()) == (old.study(), old.links(), old.head())
            assert (new.raters(), new.invites()) == (old.raters(), old.invites())
            assert new.is_free_invite(sorted(new.invites())[0]) != new.is_free_invite(sorted(new.invites())[1])
        again = a_service(store=rebuilt, clock=clock)
        number = again.next_trial("r").number
        assert number == service.next_trial("r").number == 11
        cast(again, clock, 2)  # the rater goes on, past the place of the pair that was skipped
        restarted = HubSegments(REPOSITORY, "demo", endpoint=hub.address, token=TOKEN)
        assert restarted.push(rebuilt) == 2
    assert numbers(restarted, tmp_path) == list(range(1, 16))


@pytest.mark.parametrize("faults", [[409], [412], [409, 409, 503], [429], [500], ["lost"], [409] * (TRIES - 1)])
def test_a_passing_fault_loses_no_vote_and_doubles_none(hub, store, service, clock, segments, tmp_path, waits, faults):
    cast(service, clock, 3)
    segments.push(store)
    cast(service, clock, 2)
    hub.faults = list(faults)
    segments.push(store)
    assert numbers(segments, tmp_path) == [1, 2, 3, 4, 5]
    assert hub.faults == []
    assert len(waits) <= len(faults)
    assert waits == sorted(waits)  # longer each time


def test_a_server_that_does_not_answer_in_time_is_asked_again(
    hub, store, service, clock, segments, tmp_path, monkeypatch
):
    cast(service, clock, 3)
    segments.push(store)
    cast(service, clock, 2)
    hub.faults, hub.stall_seconds = ["stall"], 3.0
    monkeypatch.setattr(hub_http.get_session(), "timeout", 0.5)
    segments.push(store)
    assert numbers(segments, tmp_path) == [1, 2, 3, 4, 5]


def test_a_lasting_fault_is_told_and_the_next_round_takes_all(hub, store, service, clock, segments, tmp_path, waits):
    cast(service, clock, 3)
    hub.faults = [409] * TRIES
    with pytest.raises(StorageError, match=r"dataset someone/votes: .*sent later") as error:
        segments.push(store)
    assert len(str(error.value).splitlines()) <= 2
    assert len(waits) == TRIES - 1
    assert segments.push(store) == 3
    assert numbers(segments, tmp_path) == [1, 2, 3]


def test_two_processes_send_each_vote_once(hub, store, service, clock, tmp_path):
    both = [HubSegments(REPOSITORY, "demo", endpoint=hub.address, token=TOKEN, sleep=lambda _: None) for _ in range(2)]
    cast(service, clock, 1)
    both[0].push(store)
    meet = threading.Barrier(2, timeout=30)
    hub.before_commit = lambda: meet.wait() if not hub.faults and len(hub.commits) == 1 else None
    cast(service, clock, 4)
    threads = [threading.Thread(target=each.push, args=(store,)) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(both[0], tmp_path) == [1, 2, 3, 4, 5]


def test_a_public_dataset_is_refused_while_the_study_is_open(hub, store, service, clock, segments):
    hub.exists, hub.private = True, False
    cast(service, clock, 1)
    with pytest.raises(StorageError, match="unblind"):
        segments.push(store)
    assert hub.commits == []
    service.close()
    assert segments.push(store) == 1


def test_a_refused_token_is_told_at_once_and_never_shown(hub, store, service, clock, waits):
    wrong = HubSegments(REPOSITORY, "demo", endpoint=hub.address, token="hf_wrongwrong", sleep=waits.append)
    cast(service, clock, 1)
    with pytest.raises(StorageError, match="HF_TOKEN") as error:
        wrong.push(store)
    assert "hf_wrong" not in str(error.value)
    assert waits == []


def test_a_database_that_lost_votes_does_not_overwrite_the_dataset(hub, store, service, clock, segments, tmp_path):
    cast(service, clock, 3)
    segments.push(store)
    with closing(open_store(tmp_path / "other")) as other:
        look_and_vote(a_service(store=other, clock=clock), clock, "r")
        with pytest.raises(StorageError, match="lost rows"):
            HubSegments(REPOSITORY, "demo", endpoint=hub.address, token=TOKEN).push(other)


def test_a_hub_that_is_not_there_is_told(store, service, clock, waits):
    away = HubSegments(REPOSITORY, "demo", endpoint="http://127.0.0.1:9", token=TOKEN, sleep=waits.append)
    look_and_vote(service, clock, "r")
    with pytest.raises(StorageError, match="sent later"):
        away.push(store)


def test_a_dataset_without_this_study_has_nothing_to_fetch(hub, segments, tmp_path):
    assert segments.fetch(tmp_path / "files") == 0
