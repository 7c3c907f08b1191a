"""A changed, dropped, added or moved vote is found; databases of the first version join the chain."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from tdm_core.storage import open_store
from tdm_core.storage.migrate import HEAD, STEPS
from tdm_core.storage.schema import Table
from tdm_core.study import Choice
from tdm_core.study.chain import GENESIS, Link, link
from tests.studies import Clock, a_service, look_and_vote

V1 = """
CREATE TABLE schema_version (version BIGINT NOT NULL, PRIMARY KEY (version));
CREATE TABLE study (id VARCHAR NOT NULL, side_secret VARCHAR NOT NULL, created_at_ms BIGINT NOT NULL,
  closed_at_ms BIGINT, PRIMARY KEY (id));
CREATE TABLE trial (id VARCHAR NOT NULL, study_id VARCHAR NOT NULL, rater_id VARCHAR NOT NULL, position BIGINT NOT NULL,
  pair_id VARCHAR NOT NULL, prompt VARCHAR NOT NULL, left_arm VARCHAR NOT NULL, right_arm VARCHAR NOT NULL,
  media_token VARCHAR NOT NULL, issued_at_ms BIGINT NOT NULL, expires_at_ms BIGINT NOT NULL, sent_at_ms BIGINT,
  PRIMARY KEY (id), UNIQUE (study_id, rater_id, pair_id), UNIQUE (study_id, rater_id, position),
  FOREIGN KEY(study_id) REFERENCES study (id), UNIQUE (media_token));
CREATE INDEX trial_by_pair ON trial (study_id, pair_id);
CREATE TABLE vote (number INTEGER NOT NULL, trial_id VARCHAR NOT NULL, choice VARCHAR NOT NULL,
  cast_at_ms BIGINT NOT NULL, PRIMARY KEY (number), CHECK (choice IN ('left', 'right', 'tie', 'both_bad')),
  UNIQUE (trial_id), FOREIGN KEY(trial_id) REFERENCES trial (id));
INSERT INTO schema_version VALUES (1);
INSERT INTO study VALUES ('demo', 's', 5, NULL);
INSERT INTO trial VALUES ('a', 'demo', 'r', 0, 'pair-1', 'prompt 1', 'student', 'teacher', 'ma', 1, 2, 1);
INSERT INTO trial VALUES ('b', 'demo', 'r', 1, 'pair-2', 'prompt 2', 'teacher', 'student', 'mb', 1, 2, 1);
INSERT INTO trial VALUES ('c', 'demo', 'r', 2, 'pair-3', 'prompt 3', 'teacher', 'student', 'mc', 1, 2, NULL);
INSERT INTO vote VALUES (1, 'b', 'tie', 9);
INSERT INTO vote VALUES (2, 'a', 'left', 10);
"""


@pytest.fixture
def voted(sql_store):
    clock = Clock()
    service = a_service(store=sql_store, clock=clock)
    for _ in range(6):
        look_and_vote(service, clock, "r", Choice.TIE)
    return sql_store


def tamper(store, *statements):
    with store.writing("demo") as records:
        for statement in statements:
            records._session.execute(text(statement))


def test_an_untouched_study_is_whole(voted):
    assert voted.problems("demo") == []
    with voted.reading("demo") as records:
        assert [each.number for each in records.links()] == [1, 2, 3, 4, 5, 6]
        assert [each.number for each in records.links(after=4)] == [5, 6]
        assert records.head() == (6, records.links()[-1].sha256)
        assert records.links()[0].previous == GENESIS


@pytest.mark.parametrize(
    ("statements", "finding"),
    [
        (["UPDATE vote SET choice = 'left' WHERE number = 3"], "vote 3 was changed"),
        (["UPDATE vote SET cast_at_ms = 1 WHERE number = 6"], "vote 6 was changed"),
        (["UPDATE trial SET left_arm = right_arm, right_arm = left_arm WHERE position = 1"], "vote 2 was changed"),
        (["UPDATE trial SET rater_id = 'another' WHERE position = 0"], "vote 1 was changed"),
        (["DELETE FROM vote WHERE number = 3"], "vote 3 is missing"),
        (["DELETE FROM vote WHERE number = 1"], "vote 1 is missing"),
        (["DELETE FROM vote WHERE number = 6"], "the newest rows do not match"),
        (["DELETE FROM vote"], "the newest rows do not match"),
        (
            [
                "UPDATE vote SET number = 99 WHERE number = 2",
                "UPDATE vote SET number = 2 WHERE number = 3",
                "UPDATE vote SET number = 3 WHERE number = 99",
            ],
            "does not follow",
        ),
        (["DELETE FROM vote WHERE number = 3", "UPDATE vote SET number = number - 1 WHERE number > 3"], "vote 3"),
    ],
)
def test_whatever_is_done_to_a_row_is_found(voted, statements, finding):
    tamper(voted, *statements)
    assert any(finding in problem for problem in voted.problems("demo"))


def test_votes_of_two_studies_have_chains_of_their_own(voted):
    clock = Clock()
    service = a_service(store=voted, clock=clock, study_id="two")
    look_and_vote(service, clock, "r")
    with voted.reading("two") as records:
        assert [(each.number, each.previous) for each in records.links()] == [(1, GENESIS)]
    assert voted.problems("demo") == voted.problems("two") == []
    assert voted.study_ids() == ["demo", "two"] or voted.study_ids() == ["two", "demo"]


def test_a_row_survives_its_line_of_json(voted):
    with voted.reading("demo") as records:
        for each in records.links():
            assert Link.from_line(each.to_line()) == each
            assert link(each.vote, study_id="demo", number=each.number, previous=each.previous) == each


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", '{"study": 1}', '{"study":"s","number":1,"vote":{},"previous":"","sha256":""}']
)
def test_a_line_that_is_no_row_is_refused(line):
    with pytest.raises(ValueError):
        Link.from_line(line)


def test_a_database_of_the_first_version_keeps_its_votes_and_joins_the_chain(tmp_path):
    with closing(sqlite3.connect(tmp_path / "study.sqlite3")) as connection:
        connection.executescript(V1)
    with closing(open_store(tmp_path)) as store:
        assert store.problems("demo") == []
        with store.reading("demo") as records:
            assert [(vote.trial.id, vote.choice, vote.cast_at_ms) for vote in records.votes()] == [
                ("b", Choice.TIE, 9),
                ("a", Choice.LEFT, 10),
            ]
            assert records.vote_count() == 2
            assert len(records.trials_of("r")) == 3
            assert records.study().opened_at_ms == 5
        clock = Clock()
        service = a_service(store=store, clock=clock)
        look_and_vote(service, clock, "r")
        assert store.problems("demo") == []
    with closing(open_store(tmp_path)) as store, store.reading("demo") as records:
        assert records.vote_count() == 3


def test_the_steps_make_the_tables_that_the_store_reads(sql_store):
    with sql_store._reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, Table.metadata) == []


def test_the_newest_step_is_the_one_the_store_asks_for():
    steps = sorted(path.stem for path in Path(STEPS, "versions").glob("v*.py"))
    assert steps[-1] == HEAD
