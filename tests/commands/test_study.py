"""A study's life from a shell, from its TOML file to its export, on both databases."""

import csv
import json
import re

import pytest

from tdm_core.__main__ import main
from tdm_core.settings import Settings
from tdm_core.study import Choice, Offer
from tdm_core.wiring import Wiring

TOML = """
title = "Two scenes"
preset = "tiny"
criteria = ["quality"]
needed = 5
target = 9
trials_per_rater = 5
min_view_ms = 0
[prompts]
animals = ["a cat", "=a dog"]
others = "others.txt"
[controls]
practice = 1
[clean]
fewest_real_votes = 1
fastest_median_seconds = 0
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tiny_system, tmp_path, monkeypatch):
    monkeypatch.setenv("TDM_PRESETS", str(tiny_system / "presets"))
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    if request.param == "postgresql":
        monkeypatch.setenv("TDM_DATABASE_URL", request.getfixturevalue("postgresql").database())
    return Settings.from_env()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "others.txt").write_text("# licence\na house\n")
    (tmp_path / "scenes.toml").write_text(TOML)
    return tmp_path / "scenes.toml"


@pytest.fixture
def run(settings, capsys):
    """Run a command; gives exit status, stdout and the lines on stderr."""

    def run(*arguments):
        try:
            status = main(["study", *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run


def take_part(settings, raters=2):
    wiring = Wiring(settings)
    service = wiring.study("scenes")
    for rater in range(raters):
        while isinstance(offer := service.next_trial(f"rater {rater}"), Offer):
            service.media(f"rater {rater}", offer.media)
            service.media_sent(f"rater {rater}", offer.media)
            service.cast_vote(f"rater {rater}", offer.trial, Choice.LEFT, criteria={"quality": Choice.TIE})
    wiring.close()
    return service


def test_a_study_lives_from_its_file_to_its_export(run, settings, file, tmp_path):
    status, out, _ = run("create", file)
    assert status == 0
    sha256 = re.search(r"sha256 ([0-9a-f]{64})", out)[1]
    assert run("status", "scenes")[1].startswith("draft: 0 of 9 pairs")
    status, out, _ = run("build", "scenes")
    assert (status, out.splitlines()[0], out.splitlines()[-1]) == (0, "0 of 9 pairs", "9 of 9 pairs")
    assert run("open", "scenes")[1] == "open: 9 of 9 pairs, 0 votes\n"
    service = take_part(settings)
    assert service.rules.sha256 == sha256
    assert run("verify", "scenes")[0] == 0

    status, _, err = run("report", "scenes")
    assert (status, len(err)) == (1, 1)
    assert run("export", "scenes", "--out", tmp_path / "out")[0] == 1
    assert json.loads(run("report", "scenes", "--json", "--unblind")[1])["votes"] == 10
    assert run("close", "scenes")[1] == "closed: 9 of 9 pairs, 16 votes\n"
    assert "share of student" in run("report", "scenes")[1]
    report = json.loads(run("report", "scenes", "--json")[1])
    assert (report["votes"], report["raters"], report["rules_sha256"]) == (10, 2, sha256)
    assert (report["golds"]["trials"], report["criteria"]["quality"]["ties"]) == (4, 10)

    status, out, _ = run("export", "scenes", "--out", tmp_path / "out")
    assert (status, len(out.splitlines())) == (0, 5)
    rows = list(csv.DictReader((tmp_path / "out" / "votes.csv").open()))
    lines = [json.loads(line) for line in (tmp_path / "out" / "votes.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines) == 16
    assert {row["rater"] for row in rows} == {"1", "2"}
    assert {row["category"] for row in rows} == {"animals", "others"}
    assert {row["prompt"] for row in rows} == {"a cat", "'=a dog", "a house"}
    assert (
        sum(line["purpose"] == "real" and line["preferred"] == "student" for line in lines) == report["wins"]["student"]
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text())["share"] == report["share"]
    assert sha256 in (tmp_path / "out" / "README.md").read_text()
    written = " ".join(path.read_text() for path in (tmp_path / "out").iterdir())
    wiring = Wiring(settings)
    with wiring.store.reading("scenes") as records:
        assert records.events()[0][0] == "unblinded"
        for vote in records.votes():
            assert vote.trial.media_token not in written
            assert vote.trial.rater_id not in written
    wiring.close()


def test_a_changed_vote_is_found_from_the_shell(run, settings, file):
    run("create", file)
    run("build", "scenes")
    run("open", "scenes")
    take_part(settings, raters=1)
    wiring = Wiring(settings)
    with wiring.store.writing("scenes") as records:
        records._session.connection().exec_driver_sql("UPDATE vote SET choice = 'right' WHERE number = 2")
    wiring.close()
    status, out, _ = run("verify", "scenes")
    assert (status, out) == (1, "vote 2 was changed after it was cast\n")


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_mistakes_are_two_lines_and_status_2(run, file, tmp_path):
    def refused(*arguments):
        status, _, err = run(*arguments)
        assert status == 2
        assert 1 <= len(err) <= 2
        return " ".join(err)

    assert "create FILE" in refused("open", "nothing")
    assert "no such file" in refused("create", tmp_path / "missing.toml")
    assert "lower-case" in refused("create", file, "--name", "../x")
    assert run("create", file)[0] == 0
    assert "already" in refused("create", file)
    for change, words in (
        ("target = 9\n", "trials_per_rater"),
        ("[prompts]\n", "unknown key"),
        ('preset = "tiny"\n', "preset"),
    ):
        wrong = {"target = 9\n": "target = 5\n", "[prompts]\n": "beauty = 1\n[prompts]\n"}.get(change, 'preset = "x"\n')
        file.write_text(TOML.replace(change, wrong))
        assert words in refused("create", file, "--name", "another")
    file.write_text("title = 'no prompts'")
    assert "[prompts]" in refused("create", file, "--name", "another")


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_invitations_are_printed_once_each(run, file):
    run("create", file)
    codes = run("invite", "scenes", "--count", 3)[1].splitlines()
    assert len(set(codes)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", code) for code in codes)
    assert run("invite", "scenes", "--count", 0)[0] == 2


def test_a_simulation_prints_its_figures_and_refuses_the_impossible(capsys):
    few = ["study", "simulate", "--raters", "3", "--prompts", "6", "--votes", "4", "--runs", "2", "--processes", "1"]
    assert main([*few, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {"coverage", "naive_coverage", "false_alarms", "power"} <= figures.keys()
    assert (figures["raters"], figures["runs"], figures["share"]) == (3, 2, 0.5)
    assert main([*few, "--share", "1.5"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
