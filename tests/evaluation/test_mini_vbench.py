"""mini-VBench of whole runs: clips come back from their files, totals carry paired intervals."""

import json
from types import SimpleNamespace

import pytest

from tdm_core.evaluation import cli, report
from tdm_core.evaluation.metrics import mini_vbench
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import load_suite
from tdm_core.generation.sample import Role

ROLES = ["teacher", "teacher_few", "student"]


@pytest.fixture
def run(make_run, moving_engine):
    moving_engine.fault_rates = {Role.TEACHER_FEW: 1.0}
    return Run.open(make_run(limit=6, seeds=1, roles=ROLES, sampler=moving_engine, suite="moving"))


def test_true_clips_score_near_the_ceiling_and_frozen_ones_less(run):
    report.score(run, [mini_vbench])
    results = json.loads((run.folder / report.RESULTS).read_text())
    found = results["mini-vbench"]
    assert found["teacher"]["value"] > 0.95  # an mp4 costs colour
    assert found["teacher_few"]["value"] < found["teacher"]["value"] - 0.03
    for row in found.values():
        assert row["low"] <= row["value"] <= row["high"] and row["n"] == 6
        assert set(row["per_tag"]) == {item.tag for item in load_suite("moving").items}
        assert row["raw"].keys() == row["scaled"].keys()
    assert found["teacher"]["median_speed_ratio"] == pytest.approx(1, abs=0.05)
    difference = results["comparisons"]["mini-vbench"]["teacher - teacher_few"]
    assert difference["value"] == pytest.approx(found["teacher"]["value"] - found["teacher_few"]["value"])
    assert difference["low"] > 0 and difference["share_below_zero"] == 0
    text = (run.folder / report.REPORT).read_text()
    assert "motion direction" in text and "| teacher | 1.000 (1.000)" in text


def test_clips_are_judged_once_and_runs_compared_by_their_suites_metric(run, monkeypatch):
    first = mini_vbench.measure(run)
    monkeypatch.setattr(mini_vbench.mini_vbench, "measure", lambda *_: pytest.fail("judged again"))
    assert mini_vbench.measure(run) == first
    text = report.compare(run, run)
    assert "difference of mini-vbench" in text and "| student | 0.000 [0.000, 0.000]" in text


def test_every_metric_that_fits_the_suite_is_the_default(run, capsys):
    options = SimpleNamespace(folder=run.folder, metrics=None, reference=None, bridges=None)
    assert cli._score(options) == 0
    assert "## mini-vbench" in capsys.readouterr().out


def test_a_prompts_own_clips_are_drawn_together():
    weights = mini_vbench._weights(load_suite("moving").items)
    tags = [item.tag for item in load_suite("moving").items]
    assert (weights[0] == 1).all()
    for tag in set(tags):  # every resample has as many prompts of each category as the suite
        of_tag = [i for i, other in enumerate(tags) if other == tag]
        assert (weights[:, of_tag].sum(axis=1) == len(of_tag)).all()
