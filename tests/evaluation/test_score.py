"""Scores are right where the truth is known, paired, and written as the command line promises."""

import json
from argparse import ArgumentParser
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation import cli, report
from tdm_core.evaluation.manifest import read_pictures
from tdm_core.evaluation.metrics import frechet, load_metric, scenes
from tdm_core.evaluation.publish import PUBLISHED, publish
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.speed import measure_speed, speed_text
from tdm_core.evaluation.suites import load_suite
from tdm_core.generation.sample import Role

ROLES = ["teacher", "teacher_few", "teacher_equal_unguided", "student"]


@pytest.fixture
def results(make_run):
    folder = make_run(limit=18, seeds=1, roles=ROLES)
    report.score(Run.open(folder), [scenes])
    return json.loads((folder / report.RESULTS).read_text())


def test_true_pictures_score_one_and_faulty_ones_less(results):
    found = results["scenes"]
    assert found["teacher"]["value"] == 1.0 and found["teacher"]["n"] == 18
    assert 0.2 < found["teacher_few"]["value"] < found["student"]["value"] < 1
    for row in found.values():
        assert row["low"] <= row["value"] <= row["high"]
        assert set(row["per_tag"]) == {"single_object", "two_object", "counting", "colors", "position", "color_attr"}
        assert row["value"] == pytest.approx(np.mean(list(row["per_tag"].values())))


def test_failures_carry_their_reasons(results):
    assert results["scenes"]["teacher"]["reasons"] == {}
    assert set(results["scenes"]["student"]["reasons"]) == {"missing"}


def test_shuffled_prompts_score_the_floor(results):
    assert results["scenes"]["teacher"]["floor"] < 0.2


def test_differences_are_paired_and_signed(results):
    found = results["comparisons"]["scenes"]
    assert found["student - teacher_few"]["value"] == pytest.approx(
        results["scenes"]["student"]["value"] - results["scenes"]["teacher_few"]["value"]
    )
    assert found["student - teacher"]["high"] <= 0
    closed = next(row for what, row in found.items() if what.startswith("gap closed"))
    assert 0 < closed["value"] < 1


def test_equal_arms_leave_no_gap_to_close(make_run, engine):
    engine.fault_rates = {}
    run = Run.open(make_run(limit=6, seeds=1, roles=ROLES))
    found = scenes.measure(run).comparisons
    assert next(row for what, row in found.items() if what.startswith("gap"))["value"] is None
    report.score(run, [scenes])  # and the report can be written


def test_detections_are_kept_and_reused(make_run, monkeypatch):
    run = Run.open(make_run(limit=6, seeds=1, roles=["teacher", "student"]))
    first = scenes.measure(run)
    monkeypatch.setattr(scenes, "detect", lambda pixels: pytest.fail("detected again"))
    assert scenes.measure(run) == first


@pytest.mark.parametrize("content", ['{"edition": "', "[]", '"x"', '{"pictures": 3}'])
def test_a_damaged_cache_is_made_again(make_run, content):
    run = Run.open(make_run(limit=6, seeds=1, roles=["teacher"]))
    first = scenes.measure(run)
    (run.folder / scenes.CACHE).write_text(content, encoding="utf-8")
    assert scenes.measure(run) == first


# --- Frechet --------------------------------------------------------------------------------------------------------


def test_features_do_not_depend_on_the_batch():
    pictures = np.random.default_rng(0).integers(0, 256, (7, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(frechet.features(pictures, 7), frechet.features(pictures, 2), atol=1e-5)


def test_worse_pictures_are_further_away(make_run, monkeypatch):
    monkeypatch.setattr(frechet, "RESAMPLES", 5)
    run = Run.open(make_run(limit=60, seeds=1, roles=["teacher", "teacher_few", "student"]))
    found = frechet.measure(run)
    assert found.arms["teacher"]["value"] < found.arms["student"]["value"] < found.arms["teacher_few"]["value"]
    ratio = found.comparisons["student / teacher"]
    assert ratio["value"] > 1 and ratio["low"] < ratio["value"] < ratio["high"]


# --- reports, comparison, speed, command line -----------------------------------------------------------------------


def test_a_run_compared_with_itself_differs_by_nothing(make_run):
    run = Run.open(make_run(limit=6, seeds=1, roles=["student"]))
    assert "| student | 0.000 [0.000, 0.000]" in report.compare(run, run)


def test_a_better_student_is_seen_in_the_comparison(make_run, engine, preset):
    first = make_run("first", limit=12, seeds=2, roles=["student"])
    engine.fault_rates[Role.STUDENT] = 0.0
    second = make_run("second", limit=12, seeds=2, roles=["student"])
    difference = scenes.difference(Run.open(first), Run.open(second), "student")
    assert difference["value"] > 0 and difference["low"] >= 0


def test_runs_of_other_sizes_are_not_comparable(make_run):
    first = Run.open(make_run("first", limit=6, seeds=1, roles=["student"]))
    second = Run.open(make_run("second", limit=6, seeds=2, roles=["student"]))
    assert "Not comparable" in report.compare(first, second)


def test_unknown_metrics_are_refused():
    with pytest.raises(ConfigError, match=r"no such metric.*scenes"):
        load_metric("clip", "scenes")
    with pytest.raises(ConfigError, match="mini-vbench"):
        load_metric("frechet", "moving")


def test_speed_counts_evaluations_and_fits_the_fixed_cost(engine, preset):
    row = measure_speed(engine, preset, load_suite("scenes").items, batch_sizes=(1, 2), runs=3)
    assert row["ratios"][0]["nfe"] == 14
    assert row["ratios"][0]["denoiser"] == pytest.approx(14)
    assert row["ratios"][0]["end_to_end"] == pytest.approx(0.58 / 0.06)
    fit = row["student_fit"]
    assert (fit["fixed_seconds"], fit["seconds_per_evaluation"]) == (pytest.approx(0.02), pytest.approx(0.01))
    assert [nfe for nfe, _ in fit["points"]] == [1, 2, 4, 8] and fit["largest_residual_seconds"] < 1e-9
    student = row["timings"][1]
    assert student["shares"] == pytest.approx({"text": 0.005 / 0.06, "denoiser": 0.04 / 0.06, "decoding": 0.015 / 0.06})
    assert student["device_memory_mb"] == 104
    for told in ("14.0x NFE", "denoiser 67%", "decoding 25%", "104 MiB on the device", "0.020 s fixed + 0.010 s per"):
        assert told in speed_text(row)


def test_a_report_replaces_its_predecessor_and_nothing_else(make_run, tmp_path):
    run, to = Run.open(make_run(limit=6, seeds=1, roles=["teacher", "student"])), tmp_path / "mini"
    report.score(run, [scenes])
    to.mkdir()
    (to / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds thesis\.txt"):
        publish(run, to)
    (to / "thesis.txt").rename(tmp_path / "thesis.txt")
    publish(run, to)  # an empty folder will do
    (tmp_path / "thesis.txt").rename(to / "thesis.txt")
    with pytest.raises(ConfigError, match=r"holds thesis\.txt"):
        publish(run, to)
    assert (to / "thesis.txt").read_text() == "years of work"


def test_a_report_that_cannot_be_made_leaves_its_predecessor(make_run, tmp_path):
    run, to = Run.open(make_run(limit=6, seeds=1, roles=["teacher", "student"])), tmp_path / "mini"
    results = report.score(run, [scenes])
    publish(run, to)
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    (run.folder / results["pairs"]["Most different"][-1]["student"]).write_bytes(b"changed")
    with pytest.raises(EvaluationError, match="changed since"):
        publish(run, to)
    assert PUBLISHED in before and {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert not list(tmp_path.glob(".mini.*"))


@pytest.fixture
def call(engine, preset, tmp_path):
    """Run an ``evaluate`` command as the entry point does."""
    parser = ArgumentParser()
    cli.add_parser(parser.add_subparsers(dest="command"))

    def run(*arguments, presets=None, engine=engine):
        options = parser.parse_args(["evaluate", *map(str, arguments)])
        settings = SimpleNamespace(data_dir=tmp_path / "data")
        options.wiring = SimpleNamespace(presets=presets or {preset.name: preset}, engine=engine, settings=settings)
        return options.run(options)

    return run


def test_the_commands_lead_from_a_preset_to_a_table(call, tmp_path, capsys):
    out = tmp_path / "run"
    assert call("generate", "--preset", "tiny", "--limit", 6, "--seeds", 1, "--out", out) == 0
    assert call("score", "--run", out, "--metrics", "scenes") == 0
    assert "| teacher | 1.000" in capsys.readouterr().out
    assert "student" in (out / "report.md").read_text()
    with pytest.raises(ConfigError, match="--metrics mini-vbench: no such metric for the scenes suite"):
        call("score", "--run", out, "--metrics", "mini-vbench")
    assert call("compare", "--run", out) == 0
    assert "student - teacher" in capsys.readouterr().out
    assert call("compare", "--run", out, "--run", out) == 0
    assert call("bench", "--preset", "tiny", "--runs", 2, "--out", tmp_path / "speed.json") == 0
    assert json.loads((tmp_path / "speed.json").read_text())["preset"] == "tiny"


def test_the_default_suite_follows_what_the_preset_makes(call, preset, moving_engine, tmp_path, monkeypatch):
    clips = replace(preset, name="clips", media="video", frames=9)
    moving_engine.presets["clips"] = clips
    out = tmp_path / "run"
    asked = ("generate", "--preset", "clips", "--role", "teacher", "--limit", 6, "--seeds", 1, "--out", out)
    assert call(*asked, presets={"clips": clips}, engine=moving_engine) == 0
    assert Run.open(out).header.suite == "moving" and Run.open(out).media == "video"
    with pytest.raises(ConfigError, match=r"judges pictures, and this run holds clips\.\n.*clips: mini-vbench"):
        call("score", "--run", out, "--metrics", "clip_score/openai-l14")


def test_a_suite_without_metrics_of_its_own_asks_for_some(call, tmp_path):
    (tmp_path / "mine.txt").write_text("a cat\na dog\n")
    out = tmp_path / "run"
    call("generate", "--preset", "tiny", "--suite", tmp_path / "mine.txt", "--seeds", 1, "--out", out)
    with pytest.raises(ConfigError, match=r"the file:mine suite has none of its own.*\nThere are: clip_score") as error:
        call("score", "--run", out)
    assert len(str(error.value).splitlines()) == 2 and "vbench" not in str(error.value)
    assert len(read_pictures(out)) and not (out / report.REPORT).exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (("generate", "--preset", "none"), "--preset none"),
        (("generate", "--preset", "tiny", "--limit", "0"), "--limit 0"),
        (("generate", "--preset", "tiny", "--seeds", "x"), "--seeds x"),
        (("generate", "--preset", "tiny", "--role", "judge"), "--role judge"),
        (("generate", "--preset", "tiny", "--suite", "novels"), "--suite novels: no such suite"),
    ],
)
def test_mistakes_are_named(call, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        call(*arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
