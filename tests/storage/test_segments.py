"""Votes as files: whatever is lost or changed is found, and a lost database is made again."""

import json
import threading
from contextlib import closing

import pytest

from tdm_core.errors import StorageError
from tdm_core.storage import SegmentWriter, open_store, replay, segment_problems, segments, write_segments
from tdm_core.study import Choice, Controls
from tests.studies import a_service, look, look_and_vote


@pytest.fixture
def service(sql_store, clock):
    return a_service(store=sql_store, clock=clock, trials_per_rater=12, controls=Controls(), criteria=("quality",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 5)
    return tmp_path / "segments"


def cast(service, clock, count, rater="r"):
    for number in range(count):
        offer = look(service, clock, rater)
        choice = list(Choice)[number % 4]
        service.cast_vote(rater, offer.trial, choice, criteria={"quality": choice}, confidence=1 + number % 3)


def test_segments_hold_each_vote_once_and_never_change(sql_store, service, clock, folder):
    cast(service, clock, 7)
    assert write_segments(sql_store, "demo", folder) == 7
    before = {path: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert [path.name for path in sorted(before)] == ["00000001-00000005.jsonl", "00000006-00000007.jsonl"]
    assert write_segments(sql_store, "demo", folder) == 0
    cast(service, clock, 2)
    assert write_segments(sql_store, "demo", folder) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert [row.number for row in segments.read_segments(folder)] == list(range(1, 10))
    assert segment_problems(sql_store, "demo", folder) == []


def test_two_processes_that_share_the_folder_never_begin_two_segments_at_one_vote(
    sql_store, service, clock, folder, monkeypatch
):
    """While one has looked and not yet written, a vote arrives and the other one's round begins."""
    cast(service, clock, 2)
    as_usual, others = segments.write_once, []

    def slowly(path, content):
        monkeypatch.setattr(segments, "write_once", as_usual)
        cast(service, clock, 1, rater="another")
        others.append(threading.Thread(target=write_segments, args=(sql_store, "demo", folder)))
        others[0].start()
        others[0].join(0.3)  # it has to wait; a round without the lock is over by then
        return as_usual(path, content)

    monkeypatch.setattr(segments, "write_once", slowly)
    write_segments(sql_store, "demo", folder)
    others[0].join()
    assert [row.number for row in segments.read_segments(folder)] == [1, 2, 3]
    assert segment_problems(sql_store, "demo", folder) == []


def test_only_the_owner_may_read_what_is_secret_while_the_study_is_open(sql_store, service, clock, folder):
    cast(service, clock, 1)
    write_segments(sql_store, "demo", folder)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_lost_database_is_made_again_from_the_segments(sql_store, service, clock, folder, tmp_path):
    cast(service, clock, 14)
    cast(service, clock, 3, rater="leaves")
    service.withdraw("leaves")
    service.close()
    write_segments(sql_store, "demo", folder)
    with closing(open_store(tmp_path / "new")) as rebuilt:
        assert replay(rebuilt, folder) == 17
        with sql_store.reading("demo") as old, rebuilt.reading("demo") as new:
            assert (new.study(), new.links(), new.head()) == (old.study(), old.links(), old.head())
            assert new.withdrawn() == old.withdrawn() == {"leaves"}
        assert rebuilt.problems("demo") == segment_problems(rebuilt, "demo", folder) == []
        assert a_service(store=rebuilt, clock=clock).results() == service.results()
        with pytest.raises(StorageError, match="already"):
            replay(rebuilt, folder)


def test_voting_goes_on_after_a_replay(sql_store, service, clock, folder, tmp_path):
    cast(service, clock, 4)
    write_segments(sql_store, "demo", folder)
    with closing(open_store(tmp_path / "new")) as rebuilt:
        replay(rebuilt, folder)
        cast(a_service(store=rebuilt, clock=clock), clock, 2, rater="another")
        assert write_segments(rebuilt, "demo", folder) == 2
        assert segment_problems(rebuilt, "demo", folder) == []


def damage(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text()))


FIRST = "00000001-00000005.jsonl"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda folder: (folder / FIRST).unlink(), "no segment begins at vote 1"),
        (lambda folder: damage(folder, FIRST, lambda text: text.replace('"left"', '"right"', 1)), "vote 1"),
        (lambda folder: damage(folder, FIRST, lambda text: "\n".join(text.splitlines()[:-1])), "does not hold votes"),
        (lambda folder: damage(folder, FIRST, lambda text: text[: len(text) // 2]), "restore it"),
        (lambda folder: damage(folder, FIRST, lambda text: "\n".join(text.splitlines()[::-1])), "does not hold votes"),
    ],
)
def test_a_changed_segment_is_found_and_not_replayed(sql_store, service, clock, folder, tmp_path, change, finding):
    cast(service, clock, 8)
    write_segments(sql_store, "demo", folder)
    change(folder)
    assert any(finding in problem for problem in segment_problems(sql_store, "demo", folder))
    with closing(open_store(tmp_path / "new")) as rebuilt:
        with pytest.raises(StorageError, match="restore"):
            replay(rebuilt, folder)
        assert rebuilt.study_ids() == []


def test_a_database_that_lost_its_newest_votes_is_found_by_its_segments(sql_store, service, clock, folder):
    """Somebody who cuts the end off and corrects the head is not found by the chain alone."""
    cast(service, clock, 6)
    write_segments(sql_store, "demo", folder)
    with sql_store.writing("demo") as records:
        fifth = records.links()[4]
        connection = records._session.connection()
        connection.exec_driver_sql("DELETE FROM vote WHERE number = 6")
        connection.exec_driver_sql(f"UPDATE study SET votes = 5, head = '{fifth.sha256}'")
    assert sql_store.problems("demo") == []
    assert segment_problems(sql_store, "demo", folder) == ["vote 6 is in the segments and not in the database"]
    with pytest.raises(StorageError, match="lost rows"):
        write_segments(sql_store, "demo", folder)


def test_a_broken_record_of_the_study_is_told(sql_store, service, clock, folder, tmp_path):
    cast(service, clock, 1)
    write_segments(sql_store, "demo", folder)
    (folder / "study.json").write_text("{")
    with closing(open_store(tmp_path / "new")) as rebuilt, pytest.raises(StorageError, match=r"study\.json"):
        replay(rebuilt, folder)


def test_a_closing_writer_takes_the_last_votes_along(sql_store, service, clock, folder):
    writer = SegmentWriter(sql_store, "demo", folder, every_seconds=3600)
    look_and_vote(service, clock, "r")
    writer.close()
    assert len(list(segments.read_segments(folder))) == 1
    assert json.loads((folder / "study.json").read_text())["id"] == "demo"


def test_a_folder_that_cannot_be_made_is_named(sql_store, service, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_segments(sql_store, "demo", tmp_path / "file" / "segments")
