"""mini-VBench of whole runs: clips come back from their files, totals carry paired intervals."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import sem

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
    assert results["metrics"]["mini-vbench"]["fingerprint"]["tracker"] == "glyph templates"
    text = (run.folder / report.REPORT).read_text()
    assert "motion direction" in text and "| teacher | 1.000 (1.000)" in text


def test_clips_have_pairs_by_value_and_categories_have_bars(run):
    results = report.score(run, [mini_vbench])
    assert set(results["pairs"]) <= {"Student better", "Teacher better", "Most different"}
    for pair in results["pairs"].get("Teacher better", []):
        assert pair["values"][0] > pair["values"][1]
    assert all(pair["values"] is not None for found in results["pairs"].values() for pair in found)
    assert "mini-vbench by category" in (run.folder / report.PAGE).read_text()
    for row in results["mini-vbench"].values():
        assert {tag: found["value"] for tag, found in row["per_tag_intervals"].items()} == row["per_tag"]
        assert all(found["low"] <= found["value"] <= found["high"] for found in row["per_tag_intervals"].values())


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


def test_the_variance_of_a_categorys_resamples_is_the_unbiased_one():
    items, rng = load_suite("moving").items, np.random.default_rng(0)
    tag = items[0].tag
    of_tag = [i for i, item in enumerate(items) if item.tag == tag]
    clips = rng.normal(size=len(of_tag))
    means = mini_vbench._weights(items)[1:, of_tag] @ clips / len(of_tag)
    assert means.std() == pytest.approx(sem(clips), rel=0.06)


def test_a_prompts_own_clips_are_drawn_together():
    weights = mini_vbench._weights(load_suite("moving").items)
    tags = [item.tag for item in load_suite("moving").items]
    assert (weights[0] == 1).all()
    for tag in set(tags):  # a category weighs as much in every resample as in the suite
        of_tag = [i for i, other in enumerate(tags) if other == tag]
        assert weights[:, of_tag].sum(axis=1) == pytest.approx(len(of_tag))
