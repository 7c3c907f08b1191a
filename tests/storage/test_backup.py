"""A backup of either database fills either database: same votes, same chain, and raters go on where they were."""

import gzip
import itertools
from contextlib import closing

import pytest

from tdm_core.__main__ import main
from tdm_core.errors import StorageError, StudyPausedError
from tdm_core.storage import backup, open_store, restore
from tdm_core.study import Choice, Controls, StudyService
from tests.studies import Clock, FakePairs, a_service, look, look_and_vote

CONTROLS = Controls(practice=0, gold_share=0, repeat_share=0.3, identical_every=0)  # repeats refer to other rows


@pytest.fixture
def service(sql_store, clock):
    return a_service(store=sql_store, clock=clock, trials_per_rater=20, controls=CONTROLS)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path):
    """A second database, of each kind."""
    url = request.getfixturevalue("postgresql").database() if request.param == "postgresql" else None
    store = open_store(tmp_path / "second", url)
    yield store
    store.close()


def a_life(service, clock):
    """Votes with repeats, an open trial, an invitation, a rater who left."""
    for choice in itertools.islice(itertools.cycle(Choice), 9):
        look_and_vote(service, clock, "stays", choice)
    look_and_vote(service, clock, "leaves")
    service.withdraw("leaves")
    service.invite(3)
    return look(service, clock, "stays")


def test_a_restored_study_goes_on_where_it_was(sql_store, service, clock, empty, tmp_path):
    offer = a_life(service, clock)
    rows = backup(sql_store, tmp_path / "votes.gz")
    assert (tmp_path / "votes.gz").stat().st_mode & 0o777 == 0o600
    assert rows["vote"] == 10 and rows["invite"] == 3
    assert restore(empty, tmp_path / "votes.gz") == rows
    with sql_store.reading("demo") as before, empty.reading("demo") as after:
        assert before.votes() == after.votes() and before.head() == after.head()
        assert before.events() == after.events() and before.withdrawn() == after.withdrawn() == {"leaves"}
        assert before.trials_of("stays") == after.trials_of("stays")
    assert empty.problems("demo") == []
    again = StudyService(store=empty, pairs=FakePairs(40), clock=clock, study_id="demo")
    again.cast_vote("stays", offer.trial, Choice.TIE)  # the trial that was open
    look_and_vote(again, clock, "stays")
    again.withdraw("stays")
    again.close()  # notes an event: its counter goes on, too
    assert again.status().state == "closed"
    assert backup(empty, tmp_path / "again.gz")["vote"] == 12


def test_a_paused_study_stays_paused_until_it_is_let_go_on(sql_store, service, clock, empty, tmp_path):
    offer = a_life(service, clock)
    service.hold_up("lunch")
    backup(sql_store, tmp_path / "votes.gz")
    restore(empty, tmp_path / "votes.gz")
    again = StudyService(store=empty, pairs=FakePairs(40), clock=clock, study_id="demo")
    with pytest.raises(StudyPausedError):
        again.cast_vote("stays", offer.trial, Choice.TIE)
    again.go_on()
    again.cast_vote("stays", offer.trial, Choice.TIE)
    with empty.reading("demo") as records:
        assert [kind for kind, *_ in records.events()][-2:] == ["paused", "resumed"]


def test_a_backup_is_the_state_of_one_moment(sql_store, service, clock, tmp_path):
    a_life(service, clock)
    with sql_store.snapshot() as session:
        seen = sql_store.problems_in(session, "demo"), session.connection().exec_driver_sql("SELECT count(*) FROM vote")
        assert seen[0] == [] and seen[1].scalar() == 10
        look_and_vote(service, clock, "late")
        assert session.connection().exec_driver_sql("SELECT count(*) FROM vote").scalar() == 10


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: whole[:-30],
        lambda whole: gzip.compress(gzip.decompress(whole).replace(b'"left"', b'"right"', 1)),
        lambda whole: gzip.compress(b"\n".join(gzip.decompress(whole).split(b"\n")[:-2])),
        lambda whole: b"hello",
        lambda whole: gzip.compress(b"[]\n{}\n"),
    ],
)
def test_a_changed_or_torn_backup_is_refused_and_nothing_stored(sql_store, service, clock, tmp_path, harm):
    a_life(service, clock)
    path = tmp_path / "votes.gz"
    backup(sql_store, path)
    path.write_bytes(harm(path.read_bytes()))
    with closing(open_store(tmp_path / "new")) as new:
        with pytest.raises(StorageError, match="no whole backup"):
            restore(new, path)
        assert new.study_ids() == []


def test_a_backup_of_broken_votes_is_not_restored(sql_store, service, clock, tmp_path):
    a_life(service, clock)
    with sql_store.exclusive() as session:
        session.connection().exec_driver_sql("UPDATE vote SET choice = 'tie' WHERE number = 1")
    backup(sql_store, tmp_path / "votes.gz")
    with closing(open_store(tmp_path / "new")) as new:
        with pytest.raises(StorageError, match="vote 1"):
            restore(new, tmp_path / "votes.gz")
        assert new.study_ids() == []


def test_nothing_is_overwritten(sql_store, service, clock, tmp_path):
    a_life(service, clock)
    backup(sql_store, tmp_path / "votes.gz")
    with pytest.raises(StorageError, match="there is a file of that name"):
        backup(sql_store, tmp_path / "votes.gz")
    with pytest.raises(StorageError, match="holds studies already"):
        restore(sql_store, tmp_path / "votes.gz")
    with pytest.raises(StorageError, match="no such file"):
        restore(sql_store, tmp_path / "other.gz")


def test_the_commands_move_a_study_to_another_place(tmp_path, monkeypatch, capsys):
    clock = Clock()
    with closing(open_store(tmp_path / "data")) as store:
        a_life(a_service(store=store, clock=clock), clock)
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    assert main(["backup", "write", str(tmp_path / "votes.gz")]) == 0
    assert "1 studies, 11 trials, 10 votes" in capsys.readouterr().out
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "moved"))
    assert main(["backup", "restore", str(tmp_path / "votes.gz")]) == 0
    assert main(["study", "verify", "demo"]) == 0
    assert "10 votes hold together" in capsys.readouterr().out
    assert main(["backup", "restore", str(tmp_path / "votes.gz")]) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 2
