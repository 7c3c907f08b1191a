"""The runner of the comparison: what it plans, what it holds for made, and that its tables come from rows alone."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import rival_report, rivals
from benchmarks.rival_arms import (
    ABLATIONS,
    BUDGET,
    DMD2,
    LCM,
    METHODS,
    MORE_ABLATIONS,
    STOCHASTIC,
    SYSTEMS,
    TDM,
    TELLING,
    Teacher,
    alone,
    forwards_per_row,
    iterations_for,
    teachers,
)
from benchmarks.rival_rows import Point, RivalRow, Score, difference, load, mean, mean_of, questions, save, seed_spread
from tdm_core.errors import ConfigError

ROOT = Path(__file__).parents[1]
NUMBER = 24


def score(right, nfe=4):
    """The first ``right`` questions are answered rightly."""
    return Score(nfe=nfe, passed="1" * right + "0" * (NUMBER - right), frechet=1.5, diversity=0.9)


def row(arm, right, seed=0, method="tdm", steps=(4,)):
    samplers = ("euler",) if method == "teacher" else ("kept", "renoised")
    values = {"kept": right, "euler": right, "renoised": max(0, right - 6)}
    return RivalRow(
        arm=arm,
        system="mini-sd3",
        method=method,
        seed=seed,
        config_hash="c",
        base_hash="b",
        forwards=53_000,
        minutes=4.0,
        commit="abc",
        machine="m",
        when="2026-11-27T00:00:00+00:00",
        scores={str(k): {name: score(values[name], k) for name in samplers} for k in steps},
        curve=(
            Point(forwards=26_000, passed=score(right // 2).passed),
            Point(forwards=53_000, passed=score(right).passed),
        ),
    )


def some_rows():
    cut = next(arm.name for arm in teachers(4) if arm.nfe == 4 and not arm.guided)
    made = [
        row("full", 20, method="teacher", steps=(28,)),
        row(cut, 12, method="teacher"),
        *(row("tdm", right, seed) for seed, right in enumerate((18, 19, 20))),
        *(row("dmd2", right, seed, method="dmd2") for seed, right in enumerate((18, 18, 18))),
        row("tdm-batch32", 17),
        row("squared", 15),
        row("any-k", 17, steps=(4, 1, 2, 8)),
        replace(row("tdm-stochastic", 24), changes=STOCHASTIC.changes),
    ]
    return {each.name: each for each in made}


def test_a_row_survives_its_file(tmp_path):
    made = row("tdm", 18)
    save(made, tmp_path)
    assert load(tmp_path) == {"mini-sd3-tdm-s0": made}


def test_a_row_with_an_unknown_key_is_refused_by_file_and_key(tmp_path):
    path = save(row("tdm", 18), tmp_path)
    path.write_text(path.read_text().replace('"arm"', '"arn"'))
    with pytest.raises(ConfigError, match=r"mini-sd3-tdm-s0\.json.*'arn'"):
        load(tmp_path)


def test_the_scene_score_is_the_mean_of_the_categories():
    asked = questions(NUMBER)
    tags = list(dict.fromkeys(tag for _, tag in asked))
    passed = "".join(str(int(tag == tags[0])) for _, tag in asked)
    assert mean_of(passed) == pytest.approx(1 / 6)
    assert mean([passed]).value == pytest.approx(1 / 6)


def test_a_difference_is_paired_and_an_arm_without_seeds_stands_against_each_of_the_others():
    first, second = score(18).passed, score(12).passed
    paired = difference([first, first, first], [second])
    assert paired.value == pytest.approx(0.25)
    assert paired.n == 3 * NUMBER
    assert difference([first], [first]).low == 0
    assert seed_spread([first, first]) == 0
    assert seed_spread([first, second]) == pytest.approx(0.25 / 2**0.5)


@pytest.mark.parametrize(
    ("arm", "per_row"), [(TDM, 6.5), (DMD2, 10.5), (LCM, 4), (alone([TDM], 1)[0], 5), (MORE_ABLATIONS[0], 11)]
)
def test_equal_budgets_are_equal_forwards(arm, per_row):
    config = arm.config("mini-sd3", 0, BUDGET)
    assert forwards_per_row(config) == per_row
    spent = config.optimiser.iterations * per_row
    if arm is not LCM:
        spent += config.optimiser.warmup_iterations * (config.optimiser.warmup_fake_steps - config.optimiser.fake_steps)
    assert spent * config.optimiser.batch_size == pytest.approx(BUDGET, rel=0.01)


def test_a_smaller_batch_gets_more_iterations():
    assert ABLATIONS[0].config("mini-sd3", 0, BUDGET).optimiser.iterations == 250
    assert TDM.config("mini-sd3", 0, BUDGET).optimiser.iterations == 505
    assert iterations_for(TDM.config("mini-sd3", 0, 1), 1) == 1


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_table_has_runs_of_different_names_and_recipes(system):
    for table in ("rivals",) if system != "mini-sd3" else rivals.TABLES:
        jobs = list(rivals.jobs(table, system, BUDGET))
        assert len({job.name for job in jobs}) == len({job.hash for job in jobs}) == len(jobs)


def test_only_the_main_system_is_trained_with_three_seeds():
    assert {job.seed for job in rivals.jobs("rivals", "mini-pixart", BUDGET)} == {0}
    assert [job.seed for job in rivals.jobs("ablations", "mini-sd3", BUDGET)].count(2) == len(ABLATIONS)


def test_a_cut_teacher_runs_on_the_students_nodes_or_on_as_many_of_them_as_it_has_steps():
    shifted, given = (TDM.config(system, 0, BUDGET).trajectory for system in ("mini-sd3", "mini-pixart"))
    two, three = (Teacher(name="", title="", steps=steps, guided=False, grid="student") for steps in (2, 3))
    assert two.nodes(shifted).tolist() == pytest.approx([1, 0.6, 0])
    assert two.nodes(given).tolist() == pytest.approx([0.85, 0.35, 0])
    assert replace(two, grid="uniform").nodes(given).tolist() == [1, 0.5, 0]
    with pytest.raises(ValueError, match="4 nodes cannot be thinned to 3"):
        three.nodes(given)


def test_clips_count_by_their_own_mini_vbench():
    asked = questions(NUMBER, moving=True)
    tags = list(dict.fromkeys(tag for _, tag in asked))
    marks = " ".join("600" if tag == tags[0] else "0" for _, tag in asked)
    assert mean_of(marks) == pytest.approx(0.6 / len(tags)) == pytest.approx(mean([marks]).value)
    assert len(questions(240, moving=True)) == 186  # no more than there are
    job = next(iter(rivals.jobs("rivals", "mini-cogvideox", BUDGET)))
    made = row("full", 20, method="teacher", steps=(25,))
    made = replace(made, config_hash=job.hash, scores={"25": {"euler": replace(score(20), passed=marks)}})
    assert rivals.is_current(job, made, "b", NUMBER)


def test_a_row_counts_as_long_as_recipe_teacher_and_questions_are_the_same():
    job = next(iter(rivals.jobs("ablations", "mini-sd3", BUDGET)))
    made = replace(row("tdm", 18), config_hash=job.hash)
    assert rivals.is_current(job, made, "b", NUMBER)
    assert not rivals.is_current(job, None, "b", NUMBER)
    assert not rivals.is_current(job, made, "another teacher", NUMBER)
    assert not rivals.is_current(job, made, "b", 240)
    assert rivals.is_current(job, made, "b", 12)  # more was asked than need be
    assert not rivals.is_current(job, replace(made, config_hash="another recipe"), "b", NUMBER)


def test_a_used_up_suite_is_asked_again_and_a_row_that_was_asked_less_is_held_against_its_part():
    asked, whole = questions(1110), len(set(questions(1110)))
    assert asked[whole:] == asked[:whole] and asked[:NUMBER] == questions(NUMBER)
    longer = "1" * NUMBER + "0" * (len(asked) - NUMBER)
    assert mean([longer]).clusters == whole and mean([longer]).n == 1110
    for paired in (difference([longer], [score(12).passed]), difference([score(NUMBER).passed], [score(12).passed])):
        assert (paired.value, paired.n) == (pytest.approx(0.5), NUMBER)


def test_each_method_is_judged_by_its_own_sampler():
    assert row("tdm", 18).own(4).passed.count("1") == 18
    assert row("dmd2", 18, method="dmd2").own(4).passed.count("1") == 12
    assert replace(row("tdm-stochastic", 18), changes=STOCHASTIC.changes).own(4).passed.count("1") == 12


def test_tdm_as_dmd2_is_trained_differs_from_it_by_the_objective_alone():
    ours, theirs = (arm.config("mini-cogvideox", 0, BUDGET) for arm in (STOCHASTIC, DMD2))
    assert ours.eta == theirs.eta == 0
    names = {name for name, value in ours.made_of().items() if value != theirs.made_of()[name]}
    assert names == {"objective.method", "trajectory.eta"}  # DMD2 has fresh noise whatever eta says
    assert ours.optimiser.iterations == theirs.optimiser.iterations


def test_tables_show_intervals_differences_and_changes():
    texts = rival_report.texts(some_rows())
    long = texts["train/README.md"]
    assert "| TDM | 4 | 0.792 [" in long  # the mean of three seeds
    assert "| TDM - DMD2 without GAN | +0.292 [" in long
    assert "| TDM, sampled and trained as DMD2 is - DMD2 without GAN | +0.250 [" in long
    assert "| squared loss | 1 | 0.625 [" in long and "30.85, was 31.31" in long
    assert "one LoRA, K untold (change against alone)" in long
    assert texts["README.md"].count("| TDM |") == 1
    for name in ("docs/rivals-nfe.svg", "docs/rivals-forwards.svg"):
        picture = ET.fromstring(texts[name])
        assert picture.findall(".//{*}circle")


def test_without_rows_nothing_is_claimed():
    assert rival_report.texts({})["README.md"] == "No run has been recorded yet."


@pytest.mark.parametrize("path", ["README.md", "train/README.md"])
def test_committed_tables_and_plots_are_what_the_committed_rows_say(path):
    texts = rival_report.texts(load())
    text = (ROOT / path).read_text(encoding="utf-8")
    assert rival_report.filled(text, texts[path]) == text
    for name in texts.keys() - {"README.md", "train/README.md"}:
        assert (ROOT / name).read_text(encoding="utf-8") == texts[name]


def test_one_lora_for_all_steps_is_scored_at_each_and_lies_on_its_own_grids():
    config = TELLING[1].config("mini-sd3", 0, BUDGET)
    grids = config.trajectory.grids()
    assert list(grids) == [4, 1, 2, 8]
    assert len({float(time) for nodes in grids.values() for time in nodes[:-1]}) == 15
    assert METHODS[0] is TDM


def test_an_unknown_arm_is_told_with_those_there_are(capsys):
    assert rivals.main(["ablations", "--only", "nonsense", "--dry-run"]) == 2
    assert "there are: tdm-batch32, clean-landing" in capsys.readouterr().err
